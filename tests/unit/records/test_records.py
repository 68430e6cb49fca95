"""Records: split by user, bounded contributions, and one unit never moves another."""

import dataclasses
import errno
import json
import re
from collections import Counter, defaultdict

import polars as pl
import pytest

from penname.config import Config, RecordsConfig
from penname.errors import DataError, RunDirError, UsageError
from penname.ingest import parquet_writer
from penname.ingest.order import add_order_keys, sort_reviews
from penname.ingest.parquet_writer import write_parquet
from penname.records import units
from penname.records.part_records import make_records, write_lines
from penname.records.records import run_records
from penname.records.split import RECORD_ID, SPLITS, UNIT, SplitRules, split_units
from penname.run_dir import RunDir, read_json, read_rows, write_json
from penname.schemas import Record, Review
from penname.template import RecordTemplate


def make_reviews(num_users=60, per_user=3, *, with_ids=True, with_products=True, num_homes=None):
    return [
        Review(
            source=f"r.csv:{user * per_user + i + 2}",
            user_id=f"user-{user}" if with_ids else None,
            unit_id=f"home-{user % num_homes}" if num_homes else None,
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


UNIT_FIELDS = {"user": "user_id", "column": "unit_id", "record": None}


def write_reviews(folder, reviews, unit):
    """As ingest does: in its order, here in one part."""
    columns = {name: pl.Int64 if name == "rating" else pl.String for name in Review.__dataclass_fields__}
    frame = pl.DataFrame([dataclasses.asdict(review) for review in reviews], schema=columns)
    field = UNIT_FIELDS[unit]
    keyed = add_order_keys(frame.with_columns(pl.col(field).fill_null("")) if field else frame, field)
    folder.mkdir(parents=True, exist_ok=True)
    with write_parquet(folder / "part-00000.parquet", Review) as add:
        add(sort_reviews(keyed, field))


def split(tmp_path, reviews, *, unit="user", unit_column=None, **settings):
    run_dir = RunDir(tmp_path)
    write_reviews(run_dir.path("reviews"), reviews, unit)
    num_products = int(any(review.product_title for review in reviews))
    write_json(run_dir.path("ingest_counts"), {"categories": ["Cases"], "num_products": num_products, "privacy_unit": unit, "unit_column": unit_column})
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
    assert counts["unit_column"] is None
    assert counts["max_records_per_unit"] == 2
    assert counts["unit_note"] == "Split by user: all reviews of one user are in the same split."


def test_no_value_of_the_units_column_is_in_two_splits_or_over_the_bound(tmp_path, capsys):
    reviews = make_reviews(num_homes=25)
    settings = {"records": {"max_records_per_user": 3}, "privacy": {"unit": "column", "unit_column": "home"}}
    rows, counts = split(tmp_path, reviews, unit="column", unit_column="home", **settings)
    homes = {name: Counter(row["unit_id"] for row in rows[name]) for name in SPLITS}
    assert sum(len(found) for found in homes.values()) == len(set().union(*homes.values())) == 25
    assert all(found and max(found.values()) <= 3 for found in homes.values())
    assert counts["num_units"] == {name: len(homes[name]) for name in SPLITS}
    assert (counts["privacy_unit"], counts["unit_column"], counts["max_records_per_unit"]) == ("column", "home", 3)
    assert counts["unit_definition"] == "one value of the column home: every record that carries it"
    assert counts["unit_note"].startswith("Split by the column home, as asked: all reviews with one value of it are in the same split.")
    assert "the protected unit is the value of the column home" in capsys.readouterr().err


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
    whole, counts = split(tmp_path / "a", reviews, unit="record")
    assert (counts["privacy_unit"], counts["max_records_per_unit"]) == ("record", 1)
    assert "no user id" in counts["unit_note"]
    rest, _ = split(tmp_path / "b", reviews[:4] + reviews[5:], unit="record", privacy={"unit": "record"})
    assert "as asked" in read_json(RunDir(tmp_path / "b").path("records_counts"))["unit_note"]
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


@pytest.mark.parametrize(("unit", "field"), [("user", "user_id"), ("column", "unit_id")])
def test_a_review_without_its_unit_stops_the_run(tmp_path, unit, field):
    reviews = make_reviews(num_homes=25)
    broken = [dataclasses.replace(review, **{field: None if i else ""}) if i < 2 else review for i, review in enumerate(reviews)]
    with pytest.raises(DataError, match=rf"records: 2 of \d+ reviews have no id \(privacy\.unit={unit}\); ingest again"):
        split(tmp_path, broken, unit=unit, unit_column="home" if unit == "column" else None)
    assert not RunDir(tmp_path).path("train_records").exists()
    other = "column" if unit == "user" else "user"
    _, counts = split(tmp_path, broken, unit=other, unit_column="home" if other == "column" else None)
    assert counts["privacy_unit"] == other


@pytest.mark.parametrize("shares", [(0.15, 0.15), (0.0, 0.5), (0.6, 0.1)])
def test_shares_of_the_split(shares):
    heldout, test = shares
    rules = SplitRules.from_config(RecordsConfig(heldout_frac=heldout, test_frac=test))
    found = split_units([f"user-{i}" for i in range(20_000)], rules)
    assert found.count("heldout") / 20_000 == pytest.approx(heldout, abs=0.015)
    assert found.count("test") / 20_000 == pytest.approx(test, abs=0.015)
    assert None not in found


def test_keep_frac_does_not_depend_on_the_split():
    rules = SplitRules.from_config(RecordsConfig(keep_frac=0.25, heldout_frac=0.25, test_frac=0.25))
    found = split_units([f"user-{i}" for i in range(20_000)], rules)
    kept = [name for name in found if name is not None]
    assert len(kept) / 20_000 == pytest.approx(0.25, abs=0.015)
    assert kept.count("train") / len(kept) == pytest.approx(0.5, abs=0.03)


def test_another_seed_is_another_split():
    first, second = (split_units([f"user-{i}" for i in range(200)], SplitRules.from_config(RecordsConfig(seed=seed))) for seed in (1, 2))
    assert first != second


def test_a_template_that_names_products_where_there_are_none(tmp_path):
    with pytest.raises(UsageError, match=r"records\.prompt_template: names \{product_title\}"):
        split(tmp_path, make_reviews(with_products=False), records={"prompt_template": "{product_title} {category} {rating}:"})


@pytest.mark.parametrize("with_products", [True, False])
def test_the_default_prompt_names_the_product_where_there_are_products(tmp_path, with_products):
    rows, _ = split(tmp_path, make_reviews(with_products=with_products))
    request = rows["train"][0]["prompt"].rpartition("\n\n")[2]
    assert request.startswith("Product: Case X\nCategory: Cases\n" if with_products else "Category: Cases\n")


@pytest.mark.parametrize(("unit", "unit_column"), [("user", None), ("column", "home")])
def test_one_unit_that_owns_all_reviews_stops_the_run(tmp_path, unit, unit_column):
    reviews = [dataclasses.replace(review, user_id="ann", unit_id="home-1") for review in make_reviews()]
    message = fails_to_split(tmp_path, reviews, unit=unit, unit_column=unit_column)
    assert message.startswith(f"records: all {len(reviews)} reviews belong to one unit; privacy.unit={unit} protects nobody where there is nobody else")
    rows, _ = split(tmp_path, reviews, unit="record")
    assert all(rows.values())


@pytest.mark.parametrize("unit", ["user", "record"])
def test_too_few_units_stop_the_run(tmp_path, unit):
    message = fails_to_split(tmp_path, make_reviews(2, 1), unit=unit)
    assert re.match(r"records: the split (train|heldout|test) is empty: 2 reviews of 2 units", message)
    assert f"units (privacy.unit={unit}) are too few for records.test_frac=0.15 and records.heldout_frac=0.15; take data of" in message


def test_too_few_units_that_are_kept_stop_the_run(tmp_path):
    message = fails_to_split(tmp_path, make_reviews(), records={"keep_frac": 0.001})
    assert "of 60 units (privacy.unit=user), of which records.keep_frac=0.001 keeps 0, are too few" in message


def fails_to_split(tmp_path, reviews, **settings):
    """One clear line, and no file of records."""
    with pytest.raises(DataError) as caught:
        split(tmp_path, reviews, **settings)
    assert "\n" not in str(caught.value)
    assert [path.name for path in RunDir(tmp_path).path("records_counts").parent.glob("*")] == []
    return str(caught.value)


def test_no_heldout_share_is_no_heldout(tmp_path):
    rows, _ = split(tmp_path, make_reviews(), records={"heldout_frac": 0.0})
    assert rows["heldout"] == []


def read_few_rows_at_a_time(monkeypatch, num_rows):
    monkeypatch.setattr(parquet_writer, "_GROUP_ROWS", num_rows)
    monkeypatch.setattr(units, "_BATCH_BYTES", 1)


@pytest.mark.parametrize("settings", [{}, {"keep_frac": 0.5}])
@pytest.mark.parametrize("unit", ["user", "column", "record"])
def test_a_unit_that_is_larger_than_what_is_held(tmp_path, monkeypatch, unit, settings):
    """Read a few rows at a time, the same records come out, and are counted the same."""
    reviews = make_reviews(120, 4, num_homes=60)
    big = [dataclasses.replace(reviews[0], title=f"More {i}", text=f"More text {i}", source=f"r.csv:{900 + i}") for i in range(60)]
    column = "home" if unit == "column" else None
    whole = split(tmp_path / "a", reviews + big, unit=unit, unit_column=column, records=settings)
    read_few_rows_at_a_time(monkeypatch, 7)
    monkeypatch.setattr(units, "_MAX_HELD", 10)
    assert split(tmp_path / "b", reviews + big, unit=unit, unit_column=column, records=settings) == whole


def test_a_unit_whose_reviews_do_not_stand_together_stops_the_run(tmp_path, monkeypatch):
    """It would be bounded twice."""
    read_few_rows_at_a_time(monkeypatch, 2)
    reviews = make_reviews(8, 2)
    run_dir = RunDir(tmp_path)
    split(tmp_path, make_reviews())
    with write_parquet(run_dir.path("reviews") / "part-00000.parquet", Review) as add:
        add(pl.DataFrame([dataclasses.asdict(review) for review in [*reviews, reviews[0]]], schema_overrides={"unit_id": pl.String}))
    with pytest.raises(DataError, match="the reviews of one unit do not stand together; ingest again"):
        run_records(Config(), run_dir)


def test_parts_that_are_missing_or_damaged(tmp_path):
    split(tmp_path, make_reviews())
    part = RunDir(tmp_path).path("reviews") / "part-00000.parquet"
    data = part.read_bytes()
    part.write_bytes(data[:-40])
    with pytest.raises(RunDirError, match=r"part-00000\.parquet: is damaged; ingest again"):
        run_records(Config(), RunDir(tmp_path))
    part.unlink()
    with pytest.raises(RunDirError, match="reviews: is missing; run the stage that writes it"):
        run_records(Config(), RunDir(tmp_path))


NASTY = ["{rating}", "a {category} b", "}{", "two\nlines", "\U0001f600", "###", "a ### b ##### c", "#", "$1$ $1$$1$ $$1$1$", "", "\\n"]


@pytest.mark.parametrize("num_rows", [0, 1, len(NASTY)])
@pytest.mark.parametrize("end", ["###", "$1$", ""])
def test_a_whole_frame_is_filled_as_each_row_is(num_rows, end):
    template = RecordTemplate("{{ {category} }}|{rating}{product_title} {rating}", "<{title}> {text}" + end, "t/1")
    rows = [
        {"rating": 1 + i % 5, "category": NASTY[i], "product_title": NASTY[-i], "title": NASTY[i - 3], "text": NASTY[i], UNIT: f"u{i}", RECORD_ID: f"r{i}"}
        for i in range(num_rows)
    ]
    schema = {name: pl.Int64 if name == "rating" else pl.String for name in ("rating", "category", "product_title", "title", "text", UNIT, RECORD_ID)}
    records = make_records(pl.DataFrame(rows, schema=schema), template)
    assert records.columns == [field.name for field in dataclasses.fields(Record)]
    assert records["prompt"].to_list() == [
        template.fill_prompt(rating=row["rating"], category=row["category"], product_title=row["product_title"]) for row in rows
    ]
    assert records["completion"].to_list() == [template.fill_completion(title=row["title"], text=row["text"]) for row in rows]
    # The text itself stays as it was read.
    assert records["text"].to_list() == [row["text"] for row in rows]


def test_frames_are_written_one_behind_the_other(tmp_path):
    rows = [{"record_id": str(i), "rating": i, "text": text} for i, text in enumerate([*NASTY, '"\\', "\x00\x1f", "\u2028"])]
    with open(tmp_path / "lines.jsonl", "wb") as handle:
        for piece in (rows[:4], [], rows[4:]):
            write_lines(pl.DataFrame(piece, schema={"record_id": pl.String, "rating": pl.Int64, "text": pl.String}), handle)
    assert [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text(encoding="utf-8").split("\n")[:-1]] == rows


def test_a_full_disk_is_told_by_its_number():
    with open("/dev/full", "wb", buffering=0) as handle, pytest.raises(OSError, match="No space left") as caught:
        write_lines(pl.DataFrame({"text": ["x" * 99] * 99}), handle)
    assert caught.value.errno == errno.ENOSPC
