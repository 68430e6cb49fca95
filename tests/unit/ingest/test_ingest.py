import errno
import gzip
import json
import os
import subprocess
import sys
import types
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penname.config import Config
from penname.errors import DataError, PennameError, RunDirError, UsageError
from penname.ingest import parquet_writer, parts, spill
from penname.ingest.ingest import run_ingest
from penname.run_dir import RunDir, hash_path, read_json, read_rows

CLOTHING = Path(__file__).resolve().parents[4] / "shared/data/womens_clothing_reviews.csv.gz"
CLOTHING_COLUMNS = {"rating": "Rating", "text": "Review Text", "title": "Title", "category": "Class Name"}
# fmt: off
CLOTHING_CATEGORIES = [
    "Blouses", "Casual bottoms", "Chemises", "Dresses", "Fine gauge", "Intimates", "Jackets", "Jeans", "Knits", "Layering",
    "Legwear", "Lounge", "Outerwear", "Pants", "Shorts", "Skirts", "Sleep", "Sweaters", "Swim", "Trend",
]
# fmt: on

TABLE_COLUMNS = {"rating": "rating", "text": "text", "title": "title", "category": "category"}
HEADER = "rating,text,title,category\n"


class Outcome:
    def __init__(self, run_dir: RunDir) -> None:
        # In the order of the input, which is easier to read than that of the parts.
        self.reviews = sorted(pq.read_table(run_dir.path("reviews")).to_pylist(), key=lambda row: int(row["source"].rpartition(":")[2]))
        self.catalogue = pq.read_table(run_dir.path("catalogue")).to_pylist()
        self.rejects = list(read_rows(run_dir.path("rejects")))
        self.counts = read_json(run_dir.path("ingest_counts"))
        assert self.counts["rows_read"] == self.counts["kept"] + sum(self.counts["rejects"].values())
        assert self.counts["kept"] == len(self.reviews)


@pytest.fixture
def run_dir(tmp_path):
    run_dir = RunDir(tmp_path / "run")
    run_dir.create()
    return run_dir


def _ingest(run_dir, privacy=None, **data):
    run_ingest(Config.model_validate({"data": data, "privacy": privacy or {}}), run_dir)
    return Outcome(run_dir)


def _fails(run_dir, error_class=DataError, **settings):
    """Runs, expects one clear line, and sees to it that nothing was left behind."""
    with pytest.raises(PennameError) as caught:
        _ingest(run_dir, **settings)
    message = str(caught.value)
    assert type(caught.value) is error_class, message
    assert "\n" not in message
    stage = run_dir.root / "0_ingest"
    assert [path.name for path in stage.rglob("*") if path.name != "sample_data"] == []
    return message


def _table(path, **more):
    return {"format": "table", "reviews": str(path), "columns": TABLE_COLUMNS, "categories": ["A", "B"], **more}


def _write(path, data):
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def _pack(path, data):
    if path.suffix == ".zst":
        return pa.compress(data, codec="zstd", asbytes=True)
    return gzip.compress(data) if path.suffix == ".gz" else data


def _lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def _amazon_review(**changes):
    review = {
        "rating": 5.0, "title": "Nice", "text": "Good phone case.", "images": [], "asin": "a1", "parent_asin": "p1", "user_id": "u1",
        "timestamp": 1588687728923, "helpful_vote": 0, "verified_purchase": True,
    }  # fmt: skip
    review.update(changes)
    return {key: value for key, value in review.items() if value is not KeyError}


def _product(**changes):
    return {"main_category": "Cell", "title": "Case X", "categories": ["Phones", "Cases", "Flip"], "parent_asin": "p1", "price": None, **changes}


def _amazon(tmp_path, reviews, products, suffix="", **more):
    write = (lambda path, text: path.write_bytes(gzip.compress(text.encode()))) if suffix else _write
    files = {"reviews": tmp_path / f"r.jsonl{suffix}", "catalogue": tmp_path / f"meta_r.jsonl{suffix}"}
    write(files["reviews"], reviews if isinstance(reviews, str) else _lines(reviews))
    write(files["catalogue"], products if isinstance(products, str) else _lines(products))
    return {"format": "amazon_reviews_2023", **{key: str(path) for key, path in files.items()}, **more}


# --- Amazon Reviews 2023 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_amazon_join_filter_and_counts(tmp_path, run_dir, capsys, suffix):
    products = [
        _product(),
        _product(parent_asin="p2", title=""),
        _product(parent_asin="p3", categories=[]),
        _product(parent_asin="p4", title="Charger", categories=["Phones"]),
    ]
    reviews = [
        _amazon_review(text="Great.<br />It&#39;s fine"),
        _amazon_review(text=" <br /> "),
        _amazon_review(title=None),
        _amazon_review(parent_asin="p2"),
        _amazon_review(parent_asin="p3"),
        _amazon_review(parent_asin="gone"),
        _amazon_review(text="Great.\nIt's fine"),
        _amazon_review(text="Great.\nIt's fine", user_id="u2"),
        _amazon_review(user_id=""),
        _amazon_review(user_id=None),
        _amazon_review(parent_asin="p4", rating=1, title="Hums<br>loud"),
    ]
    outcome = _ingest(run_dir, **_amazon(tmp_path, reviews, products, suffix, drop_rows_without_id=True))
    name = f"r.jsonl{suffix}"
    assert outcome.reviews[0] == {
        "source": f"{name}:1", "user_id": "u1", "unit_id": None, "rating": 5, "title": "Nice", "text": "Great.\nIt's fine", "category": "Cases",
        "product_id": "p1", "product_title": "Case X",
    }  # fmt: skip
    assert [(row["source"], row["category"], row["title"]) for row in outcome.reviews[1:]] == [
        (f"{name}:8", "Cases", "Nice"),
        (f"{name}:11", "Phones", "Hums loud"),
    ]
    assert [(row["line"], row["reason"]) for row in outcome.rejects if row["source"] == name] == [
        (2, "empty_text"), (3, "empty_title"), (4, "no_product_title"), (5, "no_category"), (6, "product_not_in_catalogue"),
        (9, "no_user_id"), (10, "no_user_id"), (7, "duplicate"),
    ]  # fmt: skip
    assert outcome.catalogue == [
        {"product_id": "p1", "title": "Case X", "category": "Cases"},
        {"product_id": "p4", "title": "Charger", "category": "Phones"},
    ]
    counts = outcome.counts
    assert (counts["has_user_id"], counts["products_are_public"], counts["categories_source"]) == (True, True, "catalogue")
    assert (counts["privacy_unit"], counts["unit_column"]) == ("user", None)
    assert counts["categories"] == ["Cases", "Phones"]
    assert [len(source["sha256"]) for source in counts["sources"]] == [64, 64]
    assert "ingest: kept 3 of 11 reviews" in capsys.readouterr().err


def test_amazon_categories_from_the_config_win(tmp_path, run_dir):
    data = _amazon(tmp_path, [_amazon_review(), _amazon_review(parent_asin="p2")], [_product(), _product(parent_asin="p2", categories=["Other"])])
    outcome = _ingest(run_dir, **data, categories=["Flip", "Unused"], category_level=9)
    assert [row["category"] for row in outcome.reviews] == ["Flip"]
    assert outcome.counts["rejects"] == {"category_not_in_domain": 1}
    assert outcome.counts["categories"] == ["Flip", "Unused"]
    assert [row["product_id"] for row in outcome.catalogue] == ["p1"]


def test_amazon_rows_that_cannot_be_read(tmp_path, run_dir):
    reviews = (
        _lines([_amazon_review()])
        + _lines([_amazon_review(rating="five"), _amazon_review(text=KeyError), _amazon_review(title=["x"]), [1]])
        + "not json\n"
        + _lines([_amazon_review(text="Second.", user_id="u2")])
        + json.dumps(_amazon_review(text="cut"))[:-9]
    )
    data = _amazon(tmp_path, reviews, [_product()])
    outcome = _ingest(run_dir, **data, max_malformed_frac=0.9)
    assert [(row["line"], row["reason"]) for row in outcome.rejects] == [
        (2, "malformed_rating"), (3, "missing_field"), (4, "wrong_type"), (5, "not_an_object"), (6, "malformed_json"), (8, "malformed_json"),
    ]  # fmt: skip
    assert len(outcome.reviews) == 2
    assert "five" not in json.dumps(outcome.rejects)


def test_amazon_with_the_catalogue_of_another_category(tmp_path, run_dir):
    message = _fails(run_dir, **_amazon(tmp_path, [_amazon_review()], [_product(parent_asin="q")]))
    assert "product_not_in_catalogue (1); check that data.catalogue describes" in message


def test_amazon_files_swapped(tmp_path, run_dir):
    data = _amazon(tmp_path, [_amazon_review()], [_product()])
    data["reviews"], data["catalogue"] = data["catalogue"], data["reviews"]
    assert "rating is mapped to 'rating', which" in _fails(run_dir, UsageError, **data)


def test_a_missing_catalogue_is_found_before_the_reviews_are_read(tmp_path, run_dir):
    data = _amazon(tmp_path, [_amazon_review()], [_product()])
    Path(data["catalogue"]).unlink()
    assert "meta_r.jsonl: no such file" in _fails(run_dir, **data)


# --- tables -----------------------------------------------------------------------------------------------------------

ROWS = [
    {"rating": 5, "text": "Fits, well", "title": "Good", "category": "A"},
    {"rating": 4, "text": "Two\nlines", "title": "Fine", "category": "B"},
]


def _write_table(path, rows=ROWS):
    name = path.name.removesuffix(".gz").removesuffix(".zst")
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    if name.endswith(".jsonl"):
        text = _lines(rows)
    else:
        delimiter = "\t" if name.endswith(".tsv") else ","
        cells = [list(rows[0])] + [['"' + str(value).replace('"', '""') + '"' for value in row.values()] for row in rows]
        text = "".join(delimiter.join(row) + "\r\n" for row in cells)
    return _write(path, _pack(path, text.encode()))


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.parquet", "t.csv.gz", "t.tsv.gz", "t.jsonl.gz", "t.csv.zst", "t.jsonl.zst", "T.CSV"])
def test_every_format_gives_the_same_reviews(tmp_path, run_dir, name):
    path = _write_table(tmp_path / name.lower()).rename(tmp_path / name)
    outcome = _ingest(run_dir, **_table(path))
    assert [(row["rating"], row["text"], row["title"], row["category"]) for row in outcome.reviews] == [
        (5, "Fits, well", "Good", "A"),
        (4, "Two\nlines", "Fine", "B"),
    ]
    assert {row["user_id"] for row in outcome.reviews} == {None}
    assert outcome.catalogue == []
    assert not outcome.counts["has_user_id"]
    assert outcome.counts["categories_source"] == "config"


def test_without_user_id_only_copies_of_the_whole_record_are_duplicates(tmp_path, run_dir):
    path = _write(tmp_path / "t.csv", HEADER + "5,x,t,A\n5,x,t,A\n4,x,t,A\n5,x,t,B\n")
    outcome = _ingest(run_dir, **_table(path))
    assert [row["source"] for row in outcome.reviews] == ["t.csv:2", "t.csv:4", "t.csv:5"]
    assert outcome.counts["rejects"] == {"duplicate": 1}


def test_user_ids_of_a_table(tmp_path, run_dir):
    rows = [{**ROWS[0], "user": user} for user in (1, 1, 2, None, True, 3.0)]
    path = _write(tmp_path / "t.jsonl", _lines(rows) + _lines([ROWS[1]]))
    columns = {**TABLE_COLUMNS, "user_id": "user"}
    outcome = _ingest(run_dir, **_table(path, max_malformed_frac=0.5, columns=columns, drop_rows_without_id=True))
    assert [row["user_id"] for row in outcome.reviews] == ["1", "2", "3"]
    assert outcome.counts["rejects"] == {"no_user_id": 2, "duplicate": 1, "wrong_type": 1}
    assert outcome.counts["has_user_id"]


def test_a_table_with_a_catalogue(tmp_path, run_dir):
    path = _write(tmp_path / "t.csv", "rating,text,title,category,pid\n5,x,t,A,1\n4,y,t,B,2\n3,z,t,C,1\n2,w,t,A,3\n1,v,t,,1\n")
    catalogue = _write(tmp_path / "c.tsv", "id\tname\tkind\n1\tThe &amp; One\tA\n2\tTwo\tB\n3\t\tA\n")
    options = _table(
        path,
        categories=None,
        columns={**TABLE_COLUMNS, "product_id": "pid"},
        catalogue=str(catalogue),
        catalogue_columns={"product_id": "id", "title": "name", "category": "kind"},
    )
    outcome = _ingest(run_dir, **options)
    assert [(row["product_title"], row["category"]) for row in outcome.reviews] == [("The & One", "A"), ("Two", "B")]
    assert outcome.counts["rejects"] == {"category_not_in_domain": 1, "no_product_title": 1, "no_category": 1}
    assert outcome.counts["categories"] == ["A", "B"]
    assert outcome.counts["catalogue"] == {"rows_read": 3, "kept": 3, "rejects": {}}
    _write(catalogue, "id\tname\n1\tOne\n")
    with pytest.raises(UsageError, match=r"data\.catalogue_columns: category is mapped to 'kind'"):
        _ingest(run_dir, **options)


def test_public_products_of_a_table_become_the_catalogue(tmp_path, run_dir):
    path = _write(tmp_path / "t.csv", "rating,text,title,category,name\n5,x,t,A,Lamp\n4,y,t,A,Lamp\n3,z,t,B,Lamp\n2,w,t,A,\n1,v,t,Z,Rejected\n")
    options = _table(path, columns={**TABLE_COLUMNS, "product_title": "name"})
    assert "set data.products_are_public: true" in _fails(run_dir, UsageError, **options)
    outcome = _ingest(run_dir, **options, products_are_public=True)
    assert outcome.catalogue == [
        {"product_id": "Lamp", "title": "Lamp", "category": "A"},
        {"product_id": "Lamp", "title": "Lamp", "category": "B"},
    ]
    assert outcome.counts["rejects"] == {"no_product_title": 1, "category_not_in_domain": 1}
    assert outcome.counts["products_are_public"]


def test_categories_are_written_as_the_config_writes_them(tmp_path, run_dir):
    path = _write(tmp_path / "t.csv", HEADER + "5,x,t, A &amp; B \n")
    assert _ingest(run_dir, **_table(path, categories=["A  & B"])).reviews[0]["category"] == "A  & B"


def test_row_groups_are_cut_by_rows_and_by_size(tmp_path, run_dir, monkeypatch):
    monkeypatch.setattr(parquet_writer, "_GROUP_ROWS", 10)
    path = _write(tmp_path / "t.csv", HEADER + "".join(f"5,x{i},t,A\n" for i in range(25)))
    assert [row["text"] for row in _ingest(run_dir, **_table(path)).reviews] == [f"x{i}" for i in range(25)]
    part = run_dir.path("reviews") / "part-00000.parquet"
    assert pq.ParquetFile(part).num_row_groups == 3
    monkeypatch.setattr(parquet_writer, "_GROUP_BYTES", 1)
    _ingest(run_dir, **_table(path))
    assert pq.ParquetFile(part).num_row_groups == 25


def test_the_same_input_gives_the_same_bytes(tmp_path, run_dir):
    path = _write_table(tmp_path / "t.csv")
    _ingest(run_dir, **_table(path))
    first = [hash_path(run_dir.path(name)) for name in ("reviews", "catalogue", "rejects", "ingest_counts")]
    _ingest(run_dir, **_table(path))
    assert [hash_path(run_dir.path(name)) for name in ("reviews", "catalogue", "rejects", "ingest_counts")] == first


def test_a_file_name_that_is_not_utf8(tmp_path, run_dir):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/t\xff.csv"))
    _write(path, HEADER + "5,x,t,A\n9,x,t,A\n")
    outcome = _ingest(run_dir, **_table(path, max_malformed_frac=1))
    assert outcome.reviews[0]["source"] == "t?.csv:2"
    assert outcome.rejects[0]["source"] == "t?.csv"


@pytest.mark.skipif(not CLOTHING.is_file(), reason="the shared clothing reviews are not here")
def test_the_clothing_reviews(run_dir):
    options = {"format": "table", "reviews": str(CLOTHING), "columns": CLOTHING_COLUMNS, "categories": CLOTHING_CATEGORIES}
    outcome = _ingest(run_dir, **options)
    counts = outcome.counts
    assert counts["rows_read"] == 23_486
    # shared/data/README.md: 19,662 rows have text, title and class.
    assert 19_500 < counts["kept"] <= 19_662
    assert set(counts["rejects"]) <= {"empty_text", "empty_title", "no_category", "duplicate"}
    assert 19_662 - counts["kept"] == counts["rejects"].get("duplicate", 0)
    assert set(Counter(row["category"] for row in outcome.reviews)) <= set(CLOTHING_CATEGORIES)


# --- the privacy unit -------------------------------------------------------------------------------------------------

HOUSEHOLDS = [{**ROWS[i % 2], "user": f"u{i}", "home": home} for i, home in enumerate(("h1", "h2", "h1", " h2 ", "h3"))]
BY_HOME = {"unit": "column", "unit_column": "home"}
USERS = {**TABLE_COLUMNS, "user_id": "user"}


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.parquet", "t.csv.gz"])
def test_a_column_as_the_unit_in_every_format(tmp_path, run_dir, name):
    path = _write_table(tmp_path / name, HOUSEHOLDS)
    outcome = _ingest(run_dir, **_table(path, columns=USERS), privacy=BY_HOME)
    assert [(row["user_id"], row["unit_id"]) for row in outcome.reviews] == [("u0", "h1"), ("u1", "h2"), ("u2", "h1"), ("u3", "h2"), ("u4", "h3")]
    assert (outcome.counts["privacy_unit"], outcome.counts["unit_column"]) == ("column", "home")


def test_a_column_as_the_unit_needs_no_user_id(tmp_path, run_dir):
    rows = [dict(row, user=None) for row in HOUSEHOLDS]
    rows[0]["user"] = "u0"
    path = _write(tmp_path / "t.jsonl", _lines(rows))
    outcome = _ingest(run_dir, **_table(path, columns=USERS), privacy=BY_HOME)
    assert [(row["user_id"], row["unit_id"]) for row in outcome.reviews] == [("u0", "h1"), (None, "h2"), (None, "h1"), (None, "h3")]
    assert outcome.counts["rejects"] == {"duplicate": 1}


def test_a_key_of_the_amazon_layout_as_the_unit(tmp_path, run_dir):
    reviews = [_amazon_review(user_id=f"u{i}", asin=f"a{i % 2}") for i in range(4)]
    outcome = _ingest(run_dir, **_amazon(tmp_path, reviews, [_product()]), privacy={"unit": "column", "unit_column": "asin"})
    assert [row["unit_id"] for row in outcome.reviews] == ["a0", "a1", "a0", "a1"]


def test_a_mapped_column_may_be_the_unit_too(tmp_path, run_dir):
    path = _write_table(tmp_path / "t.parquet", HOUSEHOLDS)
    outcome = _ingest(run_dir, **_table(path, columns=USERS), privacy={"unit": "column", "unit_column": "user"})
    assert all(row["unit_id"] == row["user_id"] for row in outcome.reviews)


def test_no_copy_is_dropped_across_units(tmp_path, run_dir):
    rows = [{**ROWS[0], "user": user, "home": home} for user, home in (("u1", "h1"), ("u1", "h2"), ("u1", "h1"), ("u2", "h1"))]
    path = _write_table(tmp_path / "t.csv", rows)
    outcome = _ingest(run_dir, **_table(path, columns=USERS), privacy=BY_HOME)
    assert [(row["user_id"], row["unit_id"]) for row in outcome.reviews] == [("u1", "h1"), ("u1", "h2"), ("u2", "h1")]
    # Where the user is the unit, a copy of the same user's in another household is one.
    other = RunDir(tmp_path / "other")
    assert [row["user_id"] for row in _ingest(other, **_table(path, columns=USERS)).reviews] == ["u1", "u2"]


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_a_unit_column_that_is_not_there(tmp_path, run_dir, name):
    path = _write_table(tmp_path / name, HOUSEHOLDS)
    message = _fails(run_dir, UsageError, **_table(path), privacy={"unit": "column", "unit_column": "house"})
    assert message.startswith(f"privacy.unit_column: is 'house', which {path} does not have")
    assert message.endswith("its columns are 'rating', 'text', 'title', 'category', 'user', 'home'")


def test_a_unit_column_that_is_there_twice(tmp_path, run_dir):
    path = _write(tmp_path / "t.csv", "rating,text,title,category,home,home\n5,x,t,A,1,2\n")
    message = _fails(run_dir, UsageError, **_table(path), privacy=BY_HOME)
    assert message.startswith("privacy.unit_column: is 'home', which is there 2 times")


def test_a_unit_column_of_another_type(tmp_path, run_dir):
    path = _write(tmp_path / "t.jsonl", _lines([{**row, "home": [row["home"]]} for row in HOUSEHOLDS]))
    message = _fails(run_dir, **_table(path), privacy=BY_HOME)
    assert message.startswith(f"{path}:1: wrong_type (privacy.unit_column)")


def test_the_user_as_the_unit_needs_a_mapped_user_id(tmp_path, run_dir):
    path = _write_table(tmp_path / "t.csv")
    message = _fails(run_dir, UsageError, **_table(path), privacy={"unit": "user"})
    assert message.startswith("privacy.unit: is user, but this data has no user ids; map data.columns.user_id")


@pytest.mark.parametrize("privacy", [{}, {"unit": "user"}])
@pytest.mark.parametrize("nothing", ["", "  ", None, KeyError, "NaN", "null", "\u200b"])
def test_some_rows_without_a_user_id_stop_the_run(tmp_path, run_dir, privacy, nothing):
    rows = [{key: value for key, value in {**row, "user": row["user"] if i else nothing}.items() if value is not KeyError} for i, row in enumerate(HOUSEHOLDS)]
    path = _write(tmp_path / "t.jsonl", _lines([HOUSEHOLDS[4], *rows, *rows[:1]]))
    options = _table(path, columns=USERS)
    message = _fails(run_dir, **options, privacy=privacy)
    assert message.startswith(
        f"{path}:2: no id in the column 'user' (data.columns.user_id); 2 of 7 rows have none; fill it in, set data.drop_rows_without_id=true"
    )
    # Left out, they are counted, and are not malformed.
    outcome = _ingest(run_dir, **options, drop_rows_without_id=True, max_malformed_frac=0, privacy=privacy)
    assert outcome.counts["rejects"] == {"no_user_id": 2, "duplicate": 1}
    assert [(row["line"], row["reason"]) for row in outcome.rejects] == [(2, "no_user_id"), (7, "no_user_id"), (6, "duplicate")]
    # Where the record is the unit nobody asks for them.
    outcome = _ingest(run_dir, **options, privacy={"unit": "record"})
    assert [row["user_id"] for row in outcome.reviews].count(None) == 1
    assert outcome.counts["rejects"] == {"duplicate": 2}


def test_some_rows_without_a_value_of_the_unit_column_stop_the_run(tmp_path, run_dir):
    path = _write_table(tmp_path / "t.csv", [*HOUSEHOLDS, {**HOUSEHOLDS[0], "home": ""}])
    options = _table(path, columns=USERS)
    # Header and rows of two lines: the sixth row starts in line 9.
    message = _fails(run_dir, **options, privacy=BY_HOME)
    assert message.startswith(f"{path}:9: no id in the column 'home' (privacy.unit_column); 1 of 6 rows have none")
    outcome = _ingest(run_dir, **options, drop_rows_without_id=True, privacy=BY_HOME)
    assert outcome.counts["rejects"] == {"no_unit_id": 1}
    # The same file is whole where another unit is protected.
    assert _ingest(run_dir, **options).counts["rejects"] == {"duplicate": 1}


def test_amazon_rows_without_a_user_id_name_the_field_of_the_layout(tmp_path, run_dir):
    data = _amazon(tmp_path, [_amazon_review(), _amazon_review(user_id="")], [_product()])
    assert "no id in the column 'user_id' (user_id of data.format amazon_reviews_2023); 1 of 2 rows have none" in _fails(run_dir, **data)


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize(
    ("privacy", "field", "words"),
    [
        ({}, "user", "in the column 'user' (data.columns.user_id), so there are zero users to protect"),
        (BY_HOME, "home", "in the column 'home' (privacy.unit_column), so there are zero units to protect"),
    ],
)
def test_not_one_id_is_zero_units(tmp_path, run_dir, drop, privacy, field, words):
    rows = [{**row, field: None} for row in HOUSEHOLDS]
    path = _write(tmp_path / "t.jsonl", _lines([*rows, {**rows[0], "rating": "bad"}]))
    message = _fails(run_dir, **_table(path, columns=USERS, drop_rows_without_id=drop, max_malformed_frac=0.5), privacy=privacy)
    assert message.startswith(f"{path}: no row holds an id {words}")
    assert "privacy.unit=record" in message


# --- too many rows that cannot be read --------------------------------------------------------------------------------


def test_few_bad_rows_are_counted_and_too_many_stop_the_run(tmp_path, run_dir):
    path = _write(tmp_path / "t.csv", HEADER + "".join(f"{5 if i % 10 else 'five'},x{i},t,A\n" for i in range(100)))
    assert _ingest(run_dir, **_table(path, max_malformed_frac=0.1)).counts["rejects"] == {"malformed_rating": 10}
    other = RunDir(tmp_path / "other")
    message = _fails(other, **_table(path, max_malformed_frac=0.09))
    assert message.startswith(f"{path}:2: malformed_rating; 10 of the first 100 rows (10.0 %) cannot be read, more than data.max_malformed_frac = 0.09")


def test_a_failed_run_leaves_the_files_of_the_one_before(tmp_path, run_dir):
    path = _write(tmp_path / "t.csv", HEADER + "5,x,t,A\n")
    _ingest(run_dir, **_table(path))
    _write(path, HEADER + "five,x,t,A\n")
    with pytest.raises(DataError):
        _ingest(run_dir, **_table(path))
    assert [row["text"] for row in Outcome(run_dir).reviews] == ["x"]
    assert sorted(p.name for p in (run_dir.root / "0_ingest").iterdir()) == ["catalogue.parquet", "counts.json", "rejects.jsonl", "reviews"]


def test_the_run_stops_early(tmp_path, run_dir):
    good, bad = "5,x,t,A\n", "five,x,t,A\n"
    path = _write(tmp_path / "t.csv", HEADER + good * 900 + bad * 200 + good * 5000)
    message = _fails(run_dir, **_table(path))
    assert message.startswith(f"{path}:902: malformed_rating; 100 of the first 1,000 rows (10.0 %)")


def test_filtered_rows_are_not_malformed(tmp_path, run_dir):
    path = _write(tmp_path / "t.csv", HEADER + "5,,t,A\n" * 50 + "5,x,t,A\n")
    assert _ingest(run_dir, **_table(path)).counts["rejects"] == {"empty_text": 50}


def test_no_row_left(tmp_path, run_dir):
    path = _write(tmp_path / "t.csv", HEADER + "5,x,t,Z\n5,y,t,Z\n5,,t,A\n")
    message = _fails(run_dir, **_table(path))
    assert message == (
        f"{path}: none of its 3 reviews is left; most were rejected as category_not_in_domain (2); compare data.categories with the categories of the data"
    )


# --- files that cannot be used ----------------------------------------------------------------------------------------

GOOD = HEADER + "5,x,t,A\n"


def _parquet_bytes():
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(ROWS), sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("name", "content", "error_class", "message"),
    [
        ("t.csv", b"", DataError, "t.csv: is empty"),
        ("t.csv", b"\n\n", DataError, "holds no rows; name a file with a header"),
        ("t.csv", HEADER, DataError, "holds no rows; name a file with reviews in it"),
        ("t.csv", HEADER + "\n\r\n", DataError, "holds no rows"),
        ("t.csv", GOOD.replace(",", ";"), UsageError, "it looks like ';': set data.delimiter: ';'"),
        ("t.csv", GOOD.replace("title", "titel"), UsageError, "title is mapped to 'title', which"),
        ("t.csv", "5,x,t,A\n4,y,t,B\n", UsageError, "its columns are '5', 'x', 't', 'A'"),
        ("t.csv", (HEADER + "5,caf\xe9,t,A\n").encode("latin-1"), DataError, "t.csv:2: undecodable_bytes; 1 of the first 1 rows (100.0 %)"),
        ("t.csv", (HEADER + "5,caf\xe9,t,A\n").encode("latin-1"), DataError, "set data.encoding"),
        ("t.csv", GOOD.replace("title", "tit\xe9").encode("latin-1"), DataError, "t.csv:1: the header cannot be read (undecodable_bytes)"),
        ("t.csv", GOOD.encode("utf-16"), DataError, "t.csv:1: is UTF-16 text; set data.encoding: utf-16"),
        ("t.csv", GOOD.encode("utf-32"), DataError, "t.csv:1: is UTF-32 text; set data.encoding: utf-32"),
        ("t.csv", GOOD.encode("utf-16-le"), DataError, "if it is UTF-16, set data.encoding: utf-16-le"),
        ("t.csv", "rating,\"text,title\n5,x\n", DataError, "t.csv:1: the header is no line of CSV"),
        ("t.csv", GOOD.replace("\n", "\r"), DataError, "t.csv:1: the header is no line of CSV"),
        ("t.csv", _parquet_bytes(), DataError, "is a Parquet file, not text; rename it to end in .parquet"),
        ("t.parquet", GOOD, DataError, "is named .parquet but is no Parquet file; if it is text, rename it"),
        ("t.parquet", _lines(ROWS), DataError, "it looks like JSON lines: rename it to .jsonl"),
        ("t.parquet", _parquet_bytes()[:-30], DataError, "t.parquet: the Parquet file is cut off or damaged"),
        ("t.parquet", b"", DataError, "is empty"),
        ("t.parquet.gz", gzip.compress(_parquet_bytes(), mtime=0), DataError, "Parquet is compressed inside already"),
        ("t.csv.gz", GOOD, DataError, "t.csv.gz: is named .gz but is not gzip; rename it to t.csv"),
        ("t.csv", gzip.compress(GOOD.encode(), mtime=0), DataError, "t.csv: is compressed with gzip; rename it to t.csv.gz"),
        ("t.csv.gz", gzip.compress(b"", mtime=0), DataError, "is empty inside"),
        ("t.csv.gz", gzip.compress(GOOD.encode(), mtime=0)[:20], DataError, "t.csv.gz:1: the gzip stream is cut off"),
        ("t.csv.gz", gzip.compress(GOOD.encode(), mtime=0)[:-6] + b"xxxxxx", DataError, "the gzip stream is"),
        ("t.csv.zst", GOOD, DataError, "t.csv.zst: is named .zst but is not zstd; rename it to t.csv"),
        ("t.csv.zst", gzip.compress(GOOD.encode(), mtime=0), DataError, "t.csv.zst: is named .zst but is not zstd"),
        ("t.csv", pa.compress(GOOD.encode(), codec="zstd", asbytes=True), DataError, "t.csv: is compressed with zstd; rename it to t.csv.zst"),
        ("t.csv.zst", pa.compress(GOOD.encode() * 9, codec="zstd", asbytes=True)[:20], DataError, "t.csv.zst:1: the zstd stream is cut off"),
        ("t.parquet.zst", b"whatever", DataError, "Parquet is compressed inside already"),
        ("t.csv", b"PK\x03\x04 zip", DataError, "is compressed with zip"),
        ("t.csv", b"BZh91AY", DataError, "is compressed with bzip2"),
        ("t.jsonl", json.dumps(ROWS), DataError, "t.jsonl:1: is one JSON array, not JSON lines"),
        ("t.jsonl", json.dumps(ROWS, indent=2), DataError, "t.jsonl:1: is one JSON array, not JSON lines"),
        ("t.jsonl", json.dumps(ROWS[0], indent=2), DataError, "t.jsonl:1: malformed_json"),
        ("t.jsonl", "\n\n", DataError, "holds no rows"),
        ("t.jsonl", GOOD, DataError, "t.jsonl:1: malformed_json"),
        ("t.jsonl", _lines([{"stars": 5}]), UsageError, "its columns are 'stars'"),
        ("t.xlsx", b"whatever", DataError, "the name must end in .csv, .tsv, .jsonl or .parquet"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_used(tmp_path, run_dir, name, content, error_class, message):
    path = _write(tmp_path / name, content)
    assert message in _fails(run_dir, error_class, **_table(path))


def test_a_gzip_that_breaks_off_after_many_rows(tmp_path, run_dir):
    data = gzip.compress((HEADER + "".join(f"5,{os.urandom(40).hex()},t,A\n" for _ in range(3000))).encode())
    path = _write(tmp_path / "t.csv.gz", data[: len(data) // 2])
    message = _fails(run_dir, **_table(path))
    assert "the gzip stream is cut off here" in message
    assert int(message.split(":")[1]) > 1000


def test_no_file_a_directory_and_a_pipe(tmp_path, run_dir):
    assert "gone.csv: no such file; check the path" in _fails(run_dir, **_table(tmp_path / "gone.csv"))
    (tmp_path / "empty").mkdir()
    assert "is a directory without a .csv, .tsv, .jsonl or .parquet file" in _fails(run_dir, **_table(tmp_path / "empty"))
    os.mkfifo(tmp_path / "pipe.csv")
    assert "is not a regular file" in _fails(run_dir, **_table(tmp_path / "pipe.csv"))


def test_a_file_that_this_user_may_not_read(tmp_path, run_dir, monkeypatch):
    path = _write(tmp_path / "t.csv", GOOD)
    real_open = Path.open

    def refuse(self, *args, **kwargs):
        if self == path:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real_open(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    assert "t.csv: may not be read by this user; change its permissions" in _fails(run_dir, **_table(path))


@pytest.mark.parametrize("encoding", ["utf-9", "rot13", "base64", "a\0b", ""])
def test_an_encoding_that_is_none(tmp_path, run_dir, encoding):
    path = _write(tmp_path / "t.csv", GOOD)
    assert "is no text encoding; try utf-8" in _fails(run_dir, UsageError, **_table(path, encoding=encoding))


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf" + GOOD.encode(), GOOD.replace("\n", "\r\n"), GOOD.rstrip("\n"), "\n" + GOOD])
def test_harmless_variants_are_read(tmp_path, run_dir, content):
    path = _write(tmp_path / "t.csv", content)
    assert [row["text"] for row in _ingest(run_dir, **_table(path)).reviews] == ["x"]


def test_a_full_disk_is_one_line(tmp_path, run_dir, monkeypatch):
    path = _write(tmp_path / "t.csv", GOOD)

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    assert "cannot be written: No space left on device; make room" in _fails(run_dir, RunDirError, **_table(path))


# --- many files, large ones, and what breaks off ----------------------------------------------------------------------


def _text_rows(numbers, **more):
    return [{"rating": 1 + i % 5, "text": f"Text {i} {os.urandom(8).hex()}", "title": f"Title {i}", "category": "AB"[i % 2], **more} for i in numbers]


def _shards(folder, names, rows):
    folder.mkdir()
    size = -(-len(rows) // len(names))
    return [_write_table(folder / name, rows[i * size : (i + 1) * size]) for i, name in enumerate(names)]


def test_a_folder_a_pattern_and_one_file_give_the_same_reviews(tmp_path, run_dir):
    rows = _text_rows(range(90))
    rows[70] = rows[3]
    one = _write_table(tmp_path / "all.jsonl", rows)
    whole = _ingest(run_dir, **_table(one))
    files = _shards(tmp_path / "shards", ["a.jsonl", "b.jsonl.gz", "c.jsonl.zst"], rows)
    for path in (tmp_path / "shards", tmp_path / "shards/*.json*"):
        outcome = _ingest(RunDir(tmp_path / "other"), **_table(path))
        content = [[row[key] for key in row if key != "source"] for row in outcome.reviews]
        assert sorted(map(str, content)) == sorted(str([row[key] for key in row if key != "source"]) for row in whole.reviews)
        assert outcome.counts["rejects"] == {"duplicate": 1}
        assert outcome.rejects == [{"source": "c.jsonl.zst", "line": 11, "reason": "duplicate", "detail": "", "num_rows": 1}]
        assert [(file["file"], file["rows_read"], file["kept"]) for file in outcome.counts["sources"]] == [
            ("a.jsonl", 30, 30),
            ("b.jsonl.gz", 30, 30),
            ("c.jsonl.zst", 30, 29),
        ]
        assert [file["num_bytes"] for file in outcome.counts["sources"]] == [file.stat().st_size for file in files]


def test_two_files_of_different_schema_in_one_folder(tmp_path, run_dir):
    _, second = _shards(tmp_path / "shards", ["a.jsonl", "b.jsonl"], _text_rows(range(10)))
    second.write_text(second.read_text().replace('"text"', '"body"'))
    message = _fails(run_dir, UsageError, **_table(tmp_path / "shards"))
    assert message.startswith(f"data.columns: text is mapped to 'text', which {second} does not have; its columns are 'rating', 'body'")


def test_a_bad_line_names_its_own_file(tmp_path, run_dir):
    _, second = _shards(tmp_path / "shards", ["a.jsonl", "b.jsonl"], _text_rows(range(10)))
    second.write_text(second.read_text().replace('"rating": 2', '"rating": "bad"'))
    assert _fails(run_dir, **_table(tmp_path / "shards")).startswith(f"{second}:2: malformed_rating; 1 of the first 10 rows (10.0 %)")


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_shard_cut_in_the_middle(tmp_path, run_dir, suffix):
    _, second = _shards(tmp_path / "shards", [f"a.jsonl{suffix}", f"b.jsonl{suffix}"], _text_rows(range(16_000)))
    second.write_bytes(second.read_bytes()[: second.stat().st_size // 2])
    message = _fails(run_dir, **_table(tmp_path / "shards"))
    assert message.endswith(f"the {'gzip' if suffix == '.gz' else 'zstd'} stream is cut off here; fetch or copy the file again")
    assert message.startswith(f"{second}:")
    assert int(message.removeprefix(f"{second}:").split(":")[0]) > 100


def test_a_parquet_shard_cut_in_the_middle(tmp_path, run_dir):
    _, second = _shards(tmp_path / "shards", ["a.parquet", "b.parquet"], _text_rows(range(400)))
    second.write_bytes(second.read_bytes()[: second.stat().st_size // 2])
    assert f"{second}: the Parquet file is cut off or damaged" in _fails(run_dir, **_table(tmp_path / "shards"))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_line_of_200_megabytes_is_rejected_and_not_held(tmp_path, run_dir, suffix):
    import tracemalloc

    path = _write_table(tmp_path / f"t{suffix}", _text_rows(range(3)))
    with path.open("ab") as handle:
        for _ in range(200):
            handle.write(b"x" * 10**6)
        handle.write(b"\n" + _write_table(tmp_path / f"u{suffix}", _text_rows(range(3, 9))).read_bytes())
    tracemalloc.start()
    outcome = _ingest(run_dir, **_table(path, max_malformed_frac=0.5))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80e6
    assert outcome.counts["rejects"]["line_too_long"] == 1
    assert [row["line"] for row in outcome.rejects if row["reason"] == "line_too_long"] == [5 if suffix == ".csv" else 4]
    assert len(outcome.reviews) == 9


def test_one_bad_line_among_many(tmp_path, run_dir):
    rows = _lines(_text_rows(range(9000))).splitlines(keepends=True)
    rows[7654] = rows[7654][:20] + "\n"
    outcome = _ingest(run_dir, **_table(_write(tmp_path / "t.jsonl", "".join(rows))))
    assert [(row["line"], row["reason"]) for row in outcome.rejects] == [(7655, "malformed_json")]
    assert len(outcome.reviews) == 8999


@pytest.fixture
def small_parts(monkeypatch):
    """Everything is spilled and cut, as if the data were large."""
    monkeypatch.setattr(spill, "PART_BYTES", 4000)
    monkeypatch.setattr(spill, "BUFFER_BYTES", 2000)
    monkeypatch.setattr(parts, "_MAX_PART_BYTES", 8000)


def _in_order(run_dir):
    return [row for path in sorted(run_dir.path("reviews").iterdir()) for row in pq.read_table(path).to_pylist()]


def test_a_user_with_most_of_the_reviews(tmp_path, run_dir, monkeypatch, request):
    """In small what a user with a million reviews is: more than a part may hold. The reviews are those of a run that holds all of them."""
    rows = _text_rows(range(500), user="all") + [{**row, "user": f"u{i}"} for i, row in enumerate(_text_rows(range(40)))]
    rows += rows[:7]
    path = _write_table(tmp_path / "t.jsonl", rows)
    whole = _ingest(run_dir, **_table(path, columns=USERS))
    request.getfixturevalue("small_parts")
    other = RunDir(tmp_path / "other")
    outcome = _ingest(other, **_table(path, columns=USERS))
    assert _in_order(other) == _in_order(run_dir)
    assert {**outcome.counts} == {**whole.counts}
    assert outcome.counts["rejects"] == {"duplicate": 7}
    assert len(list(other.path("reviews").iterdir())) > 3


def test_a_full_disk_in_the_middle_of_a_part(tmp_path, run_dir, monkeypatch, small_parts):
    path = _write_table(tmp_path / "t.jsonl", _text_rows(range(300)))
    for target, name in ((spill.Spill, "_flush"), (parts, "drop_copies")):
        really, count = getattr(target, name), 0

        def fail_later(*args, really=really):
            nonlocal count
            count += 1
            if count > 1:
                raise OSError(errno.ENOSPC, "No space left on device")
            return really(*args)

        with monkeypatch.context() as patch:
            patch.setattr(target, name, fail_later)
            assert "cannot be written: No space left on device; make room" in _fails(run_dir, RunDirError, **_table(path))
    assert len(_ingest(run_dir, **_table(path)).reviews) == 300


def test_a_folder_that_may_not_be_written(tmp_path, run_dir, monkeypatch):
    path = _write(tmp_path / "t.csv", GOOD)

    def refuse(*_args, **_more):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("penname.run_dir.tempfile.mkdtemp", refuse)
    assert "cannot be written: Permission denied" in _fails(run_dir, RunDirError, **_table(path))


DYING = """
import os, pathlib, sys
from penname.config import Config
from penname.ingest import parts, spill
from penname.ingest.ingest import run_ingest
from penname.run_dir import RunDir

spill.PART_BYTES, spill.BUFFER_BYTES, parts._MAX_PART_BYTES = 4000, 2000, 8000
really, count = spill.Spill._flush, 0

def die(self):
    global count
    count += 1
    if count == 2:
        os.kill(os.getpid(), 9)
    really(self)

spill.Spill._flush = die
run_ingest(Config.model_validate_json(sys.argv[1]), RunDir(pathlib.Path(sys.argv[2])))
"""


def test_what_a_killed_run_leaves_is_swept_and_the_next_ends_with_the_same_files(tmp_path, run_dir, small_parts):
    """The process dies where nothing can be cleaned up, with half of the parts spilled."""
    path = _write_table(tmp_path / "t.jsonl", _text_rows(range(300)))
    config = Config.model_validate({"data": _table(path)})
    # A process of its own, not a fork: Polars does not survive one.
    died = subprocess.run([sys.executable, "-c", DYING, config.model_dump_json(), str(run_dir.root)], capture_output=True, check=False)
    assert died.returncode == -9, died.stderr
    left = run_dir.root / "0_ingest"
    assert list(left.glob(".reviews.*.tmp/.spill/*"))
    with run_dir.lock():
        assert list(left.iterdir()) == []
        run_ingest(config, run_dir)
    other = RunDir(tmp_path / "other")
    _ingest(other, **_table(path))
    for name in ("reviews", "catalogue", "rejects", "ingest_counts"):
        assert hash_path(run_dir.path(name)) == hash_path(other.path(name))


def test_chunks_and_their_results_can_be_sent_to_another_process(tmp_path):
    """A worker elsewhere needs no more than a chunk and the rules."""
    import pickle

    from penname.ingest.reviews import ReviewRules, clean_chunk
    from penname.ingest.table import Table
    from penname.ingest.tabular import read_chunks

    rules = ReviewRules(tuple(TABLE_COLUMNS), tuple(TABLE_COLUMNS), {"A": "A", "B": "B"}, None, False, None)
    for name in ("t.csv", "t.jsonl", "t.parquet"):
        table = Table(_write_table(tmp_path / name), TABLE_COLUMNS)
        for chunk in read_chunks(table, advance=lambda _: None):
            sent = pickle.loads(pickle.dumps((rules, chunk)))
            there, here = pickle.loads(pickle.dumps(clean_chunk(*sent))), clean_chunk(rules, chunk)
            assert there.reviews.equals(here.reviews)
            assert there.rejects == here.rejects


# --- the fictional marketplace ----------------------------------------------------------------------------------------


def _fake_sample(calls):
    def write_sample_data(folder, *, num_reviews, seed):
        calls.append((num_reviews, seed))
        reviews = [_amazon_review(user_id=f"u{i}", text=f"Text {seed} {i}") for i in range(num_reviews)]
        _write(folder / "Cell_Phones_and_Accessories.jsonl", _lines(reviews))
        _write(folder / "meta_Cell_Phones_and_Accessories.jsonl", _lines([_product()]))

    return types.SimpleNamespace(write_sample_data=write_sample_data)


def test_the_sample_is_written_once_for_each_number_and_seed(run_dir, monkeypatch):
    calls = []
    monkeypatch.setitem(sys.modules, "penname.ingest.sample_data", _fake_sample(calls))
    options = {"format": "sample", "sample_num_reviews": 7, "sample_seed": 3, "encoding": "latin-1"}
    assert len(_ingest(run_dir, **options).reviews) == 7
    assert _ingest(run_dir, **options).counts["format"] == "sample"
    assert calls == [(7, 3)]
    assert len(_ingest(run_dir, **{**options, "sample_num_reviews": 8}).reviews) == 8
    (run_dir.path("sample_data") / "Cell_Phones_and_Accessories.jsonl").unlink()
    _ingest(run_dir, **{**options, "sample_num_reviews": 8})
    assert calls == [(7, 3), (8, 3), (8, 3)]


def test_importing_the_stage_is_cheap():
    code = "import sys, penname.ingest.ingest; print([m for m in ('pyarrow', 'polars', 'torch', 'numpy', 'faker') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
