"""Taking one unit away changes nothing for the others: neither which of their rows are kept, nor their split, nor which records are chosen."""

import csv
import dataclasses

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penname.config import Config, RecordsConfig
from penname.ingest import duplicates
from penname.ingest.ingest import run_ingest
from penname.records import split
from penname.records.records import run_records
from penname.records.split import RECORD_ID, SPLITS, UNIT, SplitRules, split_reviews
from penname.run_dir import RunDir, read_rows
from penname.schemas import Review

RULES = SplitRules.from_config(RecordsConfig(max_records_per_user=2, keep_frac=0.8))
PEOPLE = ["ann", "bob", "cat", "dan"]
HOMES = ["h1", "h2", "h3"]
UNIT_FIELD = {"user": "user_id", "column": "unit_id"}


def make_review(user_id, unit_id, text, rating=5, product_title="Product"):
    return Review("r.jsonl:1", user_id, unit_id, rating, "Title", text, "Cases", "", product_title)


# Few people, homes and texts: equal rows, within one unit and across units, are the rule. A person may have two homes.
REVIEWS = st.lists(
    st.builds(
        make_review,
        st.sampled_from(PEOPLE),
        st.sampled_from(HOMES),
        st.sampled_from(["good", "bad", "so so"]),
        st.integers(4, 5),
        st.sampled_from(["Product", "Other"]),
    ),
    max_size=14,
)
WITHOUT_USERS = REVIEWS.map(lambda reviews: [dataclasses.replace(review, user_id=None) for review in reviews])


def keep_rows(reviews, unit):
    """What ingest does with rows that differ in nothing but what is drawn here; a column that is not the unit is not read."""
    reviews = reviews if unit == "column" else [dataclasses.replace(review, unit_id=None) for review in reviews]
    schema = {field.name: pl.Int64 if field.name == "rating" else pl.String for field in dataclasses.fields(Review)}
    return duplicates.drop_copies(pl.DataFrame([dataclasses.astuple(review) for review in reviews], schema=schema, orient="row"))


def to_reviews(frame):
    return [Review(*row) for row in frame.select(field.name for field in dataclasses.fields(Review)).iter_rows()]


def read_parts(splits):
    """(unit, record, split, review) of everything that takes part."""
    return [
        (unit, record, name, review)
        for name, part in splits.parts.items()
        for unit, record, review in zip(part[UNIT], part[RECORD_ID], to_reviews(part), strict=True)
    ]


def place_rows(reviews, unit):
    """What ingest and records do together: {(unit, record): (split, review)}."""
    splits = split_reviews(keep_rows(reviews, unit), privacy_unit=unit, rules=RULES)
    return {(unit_id, record_id): (name, review) for unit_id, record_id, name, review in read_parts(splits)}


def moved_by_removing(reviews, unit, gone):
    """What changes for the other units when all rows of one are taken away."""
    rest = [review for review in reviews if getattr(review, UNIT_FIELD[unit]) != gone]
    whole = {key: value for key, value in place_rows(reviews, unit).items() if key[0] != gone}
    return whole.items() ^ place_rows(rest, unit).items()


@pytest.mark.parametrize(("unit", "names"), [("user", PEOPLE), ("column", HOMES)])
@settings(max_examples=200, deadline=None, derandomize=True)
@given(reviews=REVIEWS, data=st.data())
def test_removing_a_unit_leaves_the_others_where_they_were(unit, names, reviews, data):
    assert not moved_by_removing(reviews, unit, data.draw(st.sampled_from(names)))


@pytest.mark.parametrize("reviews", [REVIEWS, WITHOUT_USERS], ids=["with_users", "without_users"])
@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.data())
def test_removing_a_record_takes_at_most_one_unit_away(reviews, data):
    rows = data.draw(reviews.filter(bool))
    gone = data.draw(st.integers(0, len(rows) - 1))
    whole, rest = place_rows(rows, "record"), place_rows(rows[:gone] + rows[gone + 1 :], "record")
    assert rest.items() <= whole.items()
    assert len(whole) - len(rest) <= 1


@pytest.mark.parametrize("unit", ["user", "column"])
@settings(max_examples=100, deadline=None, derandomize=True)
@given(reviews=REVIEWS)
def test_a_unit_keeps_at_most_the_bound_and_one_split(unit, reviews):
    placed = place_rows(reviews, unit)
    for name in {unit_id for unit_id, _ in placed}:
        mine = [split for (unit_id, _), (split, _) in placed.items() if unit_id == name]
        assert len(mine) <= RULES.max_records_per_user
        assert len(set(mine)) == 1
    assert all(getattr(review, UNIT_FIELD[unit]) == unit_id for (unit_id, _), (_, review) in placed.items())


@pytest.mark.parametrize("unit", ["user", "column", "record"])
@settings(max_examples=150, deadline=None, derandomize=True)
@given(reviews=REVIEWS.filter(bool), data=st.data())
def test_dropping_duplicates_is_stable(unit, reviews, data):
    """One row more changes the rows that are kept by at most one, and that is one of its own unit."""
    gone = data.draw(st.integers(0, len(reviews) - 1))
    changed = set(to_reviews(keep_rows(reviews, unit))) ^ set(to_reviews(keep_rows(reviews[:gone] + reviews[gone + 1 :], unit)))
    assert len(changed) <= 1
    if unit != "record":
        assert all(getattr(review, UNIT_FIELD[unit]) == getattr(reviews[gone], UNIT_FIELD[unit]) for review in changed)


def test_copies_across_units_would_move_the_others(monkeypatch):
    """The property above can fail: it does as soon as a copy in another household counts as one."""
    reviews = [make_review(f"user {i // 2}", f"home {i}", "good") for i in range(20)]
    assert not any(moved_by_removing(reviews, "column", f"home {i}") for i in range(20))
    monkeypatch.setattr(duplicates, "CONTENT", tuple(name for name in duplicates.CONTENT if name != "unit_id"))
    assert any(moved_by_removing(reviews, "column", f"home {i}") for i in range(20))


def test_record_ids_that_leave_a_field_out_would_move_two_units(monkeypatch):
    """Rows that differ in that field alone are numbered: without the first, the second takes its number, and is another unit."""
    reviews = [make_review(None, None, f"text {i}", product_title=title) for i in range(20) for title in ("Product", "Other")]

    def num_moved():
        whole, rest = (split_reviews(keep_rows(rows, "record"), privacy_unit="record", rules=RULES) for rows in (reviews, reviews[1:]))
        named = [{(record_id, review) for _, record_id, _, review in read_parts(splits)} for splits in (whole, rest)]
        return len(named[0] ^ named[1])

    assert num_moved() <= 1
    monkeypatch.setattr(split, "CONTENT", tuple(name for name in split.CONTENT if name != "product_title"))
    assert num_moved() > 1


# --- from the file of raw rows on -------------------------------------------------------------------------------------

RAW_ROWS = [
    {"stars": str(1 + i % 5), "head": f"Title {i % 7}", "body": f"Text {i % 11}" if i % 13 else " ", "kind": "Cases", "who": f"u{i % 37}", "home": f"h{i % 23}"}
    for i in range(400)
]
COLUMNS = {"rating": "stars", "title": "head", "text": "body", "category": "kind", "user_id": "who"}


def run_first_stages(folder, rows, privacy):
    """ingest and records on a CSV file; the rows of each split, in order."""
    folder.mkdir(parents=True)
    with open(folder / "r.csv", "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(RAW_ROWS[0]))
        writer.writeheader()
        writer.writerows(rows)
    data = {"format": "table", "reviews": str(folder / "r.csv"), "columns": COLUMNS, "categories": ["Cases"]}
    config = Config.model_validate({"data": data, "privacy": privacy, "records": {"max_records_per_user": 3}})
    run_dir = RunDir(folder / "run")
    run_dir.create()
    run_ingest(config, run_dir)
    run_records(config, run_dir)
    return {split: list(read_rows(run_dir.path(f"{split}_records"))) for split in SPLITS}


@pytest.mark.parametrize(
    ("privacy", "column"), [({"unit": "user"}, "who"), ({"unit": "column", "unit_column": "home"}, "home"), ({"unit": "column", "unit_column": "who"}, "who")]
)
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_removing_a_unit_from_the_file_removes_its_records_and_nothing_else(tmp_path_factory, privacy, column, data):
    gone = data.draw(st.sampled_from(sorted({row[column] for row in RAW_ROWS})))
    folder = tmp_path_factory.mktemp("neighbours")
    whole = run_first_stages(folder / "whole", RAW_ROWS, privacy)
    rest = run_first_stages(folder / "rest", [row for row in RAW_ROWS if row[column] != gone], privacy)
    assert rest == {split: [row for row in rows if row["unit_id"] != gone] for split, rows in whole.items()}
    assert sum(len(rows) for rows in whole.values()) - sum(len(rows) for rows in rest.values()) in range(1, 4)
