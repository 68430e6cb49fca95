import dataclasses

import polars as pl
import pytest

from penname.ingest.duplicates import drop_copies
from penname.schemas import CONTENT, Review

REVIEW = Review("f:1", "u", None, 5, "Title", "Text", "A", "p", "Product")


def keep(*reviews):
    frame = pl.DataFrame([dataclasses.asdict(review) for review in reviews], schema_overrides={"user_id": pl.String, "unit_id": pl.String})
    return drop_copies(frame)["source"].to_list()


def test_a_copy_of_the_same_unit_is_one_and_the_first_stays():
    assert keep(REVIEW, dataclasses.replace(REVIEW, source="f:2"), dataclasses.replace(REVIEW, source="f:3")) == ["f:1"]


@pytest.mark.parametrize("field", CONTENT)
def test_what_differs_in_any_field_is_no_copy(field):
    assert keep(REVIEW, dataclasses.replace(REVIEW, source="f:2", **{field: 1 if field == "rating" else "other"})) == ["f:1", "f:2"]


def test_nothing_but_where_it_came_from_is_left_out():
    assert set(CONTENT) == {field.name for field in dataclasses.fields(Review)} - {"source"}


def test_without_user_id_everything_must_be_equal():
    review = dataclasses.replace(REVIEW, user_id=None)
    others = [dataclasses.replace(review, source=f"f:{i}", **change) for i, change in enumerate(({}, {"rating": 4}, {"category": "B"}), 2)]
    assert keep(review, *others) == ["f:1", "f:3", "f:4"]


def test_fields_do_not_run_into_each_other():
    pairs = [dataclasses.replace(REVIEW, source=f"f:{i}", title=title, text=text) for i, (title, text) in enumerate((("ab", "c"), ("a", "bc")))]
    assert keep(*pairs) == ["f:0", "f:1"]
