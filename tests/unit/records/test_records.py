"""Records: split by user, bounded contributions, and one unit never moves another."""

import dataclasses
from collections import defaultdict

import pytest

from penname.config import Config, RecordsConfig
from penname.errors import DataError, UsageError
from penname.ingest.parquet_writer import write_parquet
from penname.records.records import choose_unit, run_records
from penname.records.split import SPLITS, split_by_unit
from penname.run_dir import RunDir, read_json, read_rows, write_json
from penname.schemas import Review


def make_reviews(num_users=60, per_user=3, *, with_ids=True, with_products=True):
    return [
        Review(
            source=f"r.csv:{user * per_user + i + 2}",
            user_id=f"user-{user}" if with_ids else None,
            rating=1 + (user + i) % 5,
            title=f"title {user} {i}",
            text=f"text {user} {i}",
            category="Cases",
            product_id="p1" if with_products else "",
            product_title="Case X" if with_products else "",
        )
        for user in range(num_users)
        for i in range(1 + (user + per_user) % per_user)
    ]


def write_reviews(path, reviews):
    with write_parquet(path, Review) as add_row:
        for review in reviews:
            add_row(review)


def split(tmp_path, reviews, **settings):
    run_dir = RunDir(tmp_path)
    write_reviews(run_dir.path("reviews"), reviews)
    write_json(run_dir.path("ingest_counts"), {"categories": ["Cases"], "num_products": int(any(review.product_title for review in reviews))})
    run_records(Config.model_validate(settings), run_dir)
    return {name: list(read_rows(run_dir.path(f"{name}_records"))) for name in SPLITS}, read_json(run_dir.path("records_counts"))


def test_no_user_is_in_two_splits_and_nobody_is_over_the_bound(tmp_path):
    rows, counts = split(tmp_path, make_reviews(per_user=6), records={"max_records_per_user": 2})
    users = {name: {row["unit_id"] for row in rows[name]} for name in SPLITS}
    assert not users["train"] & users["heldout"]
    assert not users["train"] & users["test"]
    assert not users["heldout"] & users["test"]
    assert counts["num_units"] == {name: len(users[name]) for name in SPLITS}
    per_user = defaultdict(int)
    for row in (row for name in SPLITS for row in rows[name]):
        per_user[row["unit_id"]] += 1
    assert max(per_user.values()) == 2
    assert counts["num_over_bound"] == len(make_reviews(per_user=6)) - sum(per_user.values())
    assert counts["privacy_unit"] == "user"
    assert counts["max_records_per_unit"] == 2


def test_a_record_is_the_review_in_the_template(tmp_path):
    templates = {"prompt_template": "{product_title} ({category}) {rating}:", "completion_template": " {title}\n{text} END"}
    rows, _ = split(tmp_path, make_reviews(), records=templates)
    assert rows["train"]
    for row in rows["train"]:
        assert row["prompt"] == f"Case X (Cases) {row['rating']}:"
        assert row["completion"] == f" {row['title']}\n{row['text']} END"
        assert row["text"] not in row["prompt"]
        assert row["title"] not in row["prompt"]


@pytest.mark.parametrize("removed", ["user-0", "user-17", "user-59"])
@pytest.mark.parametrize("keep_frac", [1.0, 0.6])
def test_removing_a_user_moves_nobody_else(tmp_path, removed, keep_frac):
    settings = {"records": {"max_records_per_user": 2, "keep_frac": keep_frac}}
    reviews = make_reviews(per_user=5)
    whole, _ = split(tmp_path / "a", reviews, **settings)
    rest, _ = split(tmp_path / "b", [review for review in reviews if review.user_id != removed], **settings)
    for name in SPLITS:
        assert rest[name] == [row for row in whole[name] if row["unit_id"] != removed]


def test_removing_one_record_moves_no_other_where_the_record_is_the_unit(tmp_path):
    reviews = make_reviews(with_ids=False)
    whole, counts = split(tmp_path / "a", reviews)
    assert counts["privacy_unit"] == "record"
    assert "no user id" in counts["unit_note"]
    rest, _ = split(tmp_path / "b", reviews[:4] + reviews[5:])
    for name in SPLITS:
        assert rest[name] == [row for row in whole[name] if row["text"] != reviews[4].text]


def test_order_of_the_rows_does_not_decide_who_is_where(tmp_path):
    reviews = make_reviews()
    forward, _ = split(tmp_path / "a", reviews)
    backward, _ = split(tmp_path / "b", reviews[::-1])
    for name in SPLITS:
        assert {row["record_id"] for row in forward[name]} == {row["record_id"] for row in backward[name]}


def test_equal_rows_of_one_user_are_two_records(tmp_path):
    twin = make_reviews(1, 1)[0]
    reviews = [*make_reviews(), twin, dataclasses.replace(twin, source="r.csv:900")]
    rows, _ = split(tmp_path, reviews)
    ids = [row["record_id"] for name in SPLITS for row in rows[name]]
    assert len(ids) == len(set(ids))


def test_reviews_without_a_user_in_a_table_that_has_users_are_one_unit_together(tmp_path):
    reviews = [dataclasses.replace(review, user_id=None) if review.user_id == "user-3" else review for review in make_reviews(per_user=6)]
    rows, _ = split(tmp_path, reviews, records={"max_records_per_user": 1})
    nameless = [row for name in SPLITS for row in rows[name] if row["unit_id"] == ""]
    assert len(nameless) == 1


@pytest.mark.parametrize("shares", [(0.15, 0.15), (0.0, 0.5), (0.6, 0.1)])
def test_shares_of_the_split(shares):
    heldout, test = shares
    config = RecordsConfig(heldout_frac=heldout, test_frac=test)
    found = [split_by_unit(f"user-{i}", config) for i in range(20_000)]
    assert found.count("heldout") / 20_000 == pytest.approx(heldout, abs=0.015)
    assert found.count("test") / 20_000 == pytest.approx(test, abs=0.015)
    assert None not in found


def test_keep_frac_does_not_depend_on_the_split():
    config = RecordsConfig(keep_frac=0.25, heldout_frac=0.25, test_frac=0.25)
    found = [split_by_unit(f"user-{i}", config) for i in range(20_000)]
    kept = [name for name in found if name is not None]
    assert len(kept) / 20_000 == pytest.approx(0.25, abs=0.015)
    assert kept.count("train") / len(kept) == pytest.approx(0.5, abs=0.03)


def test_another_seed_is_another_split():
    first, second = ([split_by_unit(f"user-{i}", RecordsConfig(seed=seed)) for i in range(200)] for seed in (1, 2))
    assert first != second


def test_the_unit_is_never_made_up():
    assert choose_unit("auto", has_user_ids=True) == "user"
    assert choose_unit("auto", has_user_ids=False) == "record"
    assert choose_unit("record", has_user_ids=True) == "record"
    with pytest.raises(UsageError, match=r"privacy\.unit: is user, but this data has no user ids"):
        choose_unit("user", has_user_ids=False)


def test_a_template_that_names_products_where_there_are_none(tmp_path):
    with pytest.raises(UsageError, match=r"records\.prompt_template: names \{product_title\}"):
        split(tmp_path, make_reviews(with_products=False), records={"prompt_template": "{product_title} {category} {rating}:"})


@pytest.mark.parametrize("with_products", [True, False])
def test_the_default_prompt_names_the_product_where_there_are_products(tmp_path, with_products):
    rows, _ = split(tmp_path, make_reviews(with_products=with_products))
    request = rows["train"][0]["prompt"].rpartition("\n\n")[2]
    assert request.startswith("Product: Case X\nCategory: Cases\n" if with_products else "Category: Cases\n")


def test_too_few_reviews_are_one_line_and_leave_no_counts(tmp_path):
    with pytest.raises(DataError, match=r"the split \w+ is empty: 1 reviews are too few"):
        split(tmp_path, make_reviews(1, 1))
    assert not RunDir(tmp_path).path("records_counts").exists()


def test_no_heldout_share_is_no_heldout(tmp_path):
    rows, _ = split(tmp_path, make_reviews(), records={"heldout_frac": 0.0})
    assert rows["heldout"] == []
