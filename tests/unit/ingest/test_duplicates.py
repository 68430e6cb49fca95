import dataclasses
import random

from penname.ingest.duplicates import DuplicateFilter
from penname.schemas import Review

REVIEW = Review("f:1", "u", None, 5, "Title", "Text", "A", "p", "Product")


def test_a_copy_of_the_same_unit_is_one_and_of_another_is_none():
    duplicates = DuplicateFilter()
    assert not duplicates.is_duplicate(REVIEW)
    assert duplicates.is_duplicate(dataclasses.replace(REVIEW, source="f:2"))
    for field in ("user_id", "unit_id", "product_id", "product_title", "title", "text", "category", "rating"):
        assert not duplicates.is_duplicate(dataclasses.replace(REVIEW, **{field: 1 if field == "rating" else "other"}))


def test_without_user_id_everything_must_be_equal():
    duplicates = DuplicateFilter()
    review = dataclasses.replace(REVIEW, user_id=None)
    assert not duplicates.is_duplicate(review)
    assert duplicates.is_duplicate(dataclasses.replace(review, source="f:2"))
    assert not duplicates.is_duplicate(dataclasses.replace(review, rating=4))
    assert not duplicates.is_duplicate(dataclasses.replace(review, category="B"))


def test_fields_do_not_run_into_each_other():
    duplicates = DuplicateFilter()
    assert not duplicates.is_duplicate(dataclasses.replace(REVIEW, title="ab", text="c"))
    assert not duplicates.is_duplicate(dataclasses.replace(REVIEW, title="a", text="bc"))


def test_the_table_agrees_with_a_set_while_it_grows():
    generator = random.Random(7)
    duplicates, seen = DuplicateFilter(num_slots=2), set()
    for _ in range(20_000):
        text = str(generator.randrange(10_000))
        assert duplicates.is_duplicate(dataclasses.replace(REVIEW, text=text)) == (text in seen)
        seen.add(text)
    assert len(seen) > 8_000
