"""The order of all reviews is the same however they are cut, and a unit larger than a part is cut and put together again."""

import random
import weakref

import polars as pl
import pyarrow.parquet as pq
import pytest

from penname.ingest import parts, spill
from penname.ingest.order import add_order_keys
from penname.ingest.parts import finish_part
from penname.ingest.spill import Part, Spill, choose_num_bits


def make_reviews(num_rows, *, users, texts, seed=1):
    generator = random.Random(seed)
    rows = [(f"u{generator.randrange(users)}", f"text {generator.randrange(texts)}", i) for i in range(1, num_rows + 1)]
    frame = pl.DataFrame(rows, ["user_id", "text", "line"], orient="row").with_columns(
        unit_id=pl.lit(None, dtype=pl.String), rating=pl.lit(5, dtype=pl.Int64), title=pl.lit("t"), category=pl.lit("A"), product_id=pl.lit(""),
        product_title=pl.lit("Lamp"), file=pl.lit(0, dtype=pl.UInt32),
    )  # fmt: skip
    return frame


def write(folder, reviews, unit_field, *, num_bits, frame_rows=50):
    """What the stage does with reviews: spilled, cut and finished; all rows in order, and the copies."""
    folder.mkdir()
    with Spill(folder / ".spill", start=0, num_bits=num_bits) as spilled:
        for frame in add_order_keys(reviews, unit_field).iter_slices(frame_rows):
            spilled.add(frame)
        found = spilled.finish()
    rows, copies = [], []
    for number, part in enumerate(found):
        target = folder / f"part-{number}.parquet"
        done = finish_part(part, target, file_names=["r"], unit_field=unit_field, start=num_bits, with_products=True)
        part_rows = pq.read_table(target).to_pylist()
        assert done.num_kept == len(part_rows)
        assert done.products == [("Lamp", "Lamp", "A")]
        rows += part_rows
        copies += done.copies.rows()
    assert [path for path in folder.rglob("*") if path.suffix != ".parquet" and path.name != ".spill"] == []
    return rows, sorted(copies), len(found)


@pytest.mark.parametrize("unit_field", ["user_id", None])
def test_the_order_does_not_depend_on_the_number_of_parts_or_on_memory(tmp_path, monkeypatch, unit_field):
    reviews = make_reviews(200, users=8, texts=20)
    rows, copies, num_parts = write(tmp_path / "a", reviews, unit_field, num_bits=0)
    assert num_parts == 1
    assert len(rows) + len(copies) == 200
    assert len(copies) > 30
    for name, limit in (("b", 900), ("c", 5000)):
        for module in (spill, parts):
            monkeypatch.setattr(module, "PART_BYTES", limit, raising=False)
        monkeypatch.setattr(parts, "_MAX_PART_BYTES", limit)
        monkeypatch.setattr(spill, "BUFFER_BYTES", limit)
        assert write(tmp_path / f"{name}0", reviews, unit_field, num_bits=0)[:2] == (rows, copies)
        assert write(tmp_path / f"{name}3", reviews, unit_field, num_bits=3)[:2] == (rows, copies)


def test_reviews_of_a_user_stand_together_and_the_first_of_copies_stays(tmp_path):
    reviews = make_reviews(400, users=9, texts=8)
    rows, copies, num_parts = write(tmp_path / "a", reviews, "user_id", num_bits=4)
    assert num_parts > 3
    users = [row["user_id"] for row in rows]
    assert len(set(users)) == sum(a != b for a, b in zip(users, ["", *users], strict=False))
    first = {}
    for user, text, line in reviews.select("user_id", "text", "line").iter_rows():
        first.setdefault((user, text), line)
    assert {(row["user_id"], row["text"]): int(row["source"].removeprefix("r:")) for row in rows} == first
    assert {line for _, line in copies} == set(range(1, 401)) - set(first.values())


def test_without_one_user_the_others_stay_as_they_were(tmp_path):
    reviews = make_reviews(300, users=9, texts=30)
    rows = write(tmp_path / "a", reviews, "user_id", num_bits=2)[0]
    rest = write(tmp_path / "b", reviews.filter(pl.col("user_id") != "u3"), "user_id", num_bits=2)[0]
    assert rest == [row for row in rows if row["user_id"] != "u3"]


def test_two_users_of_one_hash_are_kept_apart(tmp_path):
    """CRC-32 of "plumless" and "buckeroo" is the same."""
    reviews = make_reviews(100, users=2, texts=60).with_columns(pl.col("user_id").replace({"u0": "plumless", "u1": "buckeroo"}))
    keyed = add_order_keys(reviews, "user_id")
    assert keyed["unit_key"].n_unique() == 1
    rows = write(tmp_path / "a", reviews, "user_id", num_bits=0)[0]
    users = [row["user_id"] for row in rows]
    assert users == sorted(users)
    assert set(users) == {"plumless", "buckeroo"}


def test_a_million_copies_of_one_review_are_one(tmp_path, monkeypatch):
    """In small: more of them than a part may hold."""
    monkeypatch.setattr(parts, "_MAX_PART_BYTES", 3000)
    monkeypatch.setattr(spill, "BUFFER_BYTES", 1000)
    rows, copies, _ = write(tmp_path / "a", make_reviews(500, users=1, texts=1), "user_id", num_bits=0)
    assert [row["source"] for row in rows] == ["r:1"]
    assert [line for _, line in copies] == list(range(2, 501))


def test_while_a_piece_is_worked_on_no_frame_of_the_part_that_it_is_of_is_held(tmp_path, monkeypatch):
    """Each time that a large unit is cut would take memory for good."""
    seen, alive = [], []
    read, load = Part.frames, parts._load_distinct

    def watch(part):
        for frame in read(part):
            if part.paths:
                seen.append(weakref.ref(frame))
            yield frame
            del frame

    def count(part):
        alive.append(sum(reference() is not None for reference in seen))
        return load(part)

    monkeypatch.setattr(parts, "_MAX_PART_BYTES", 3000)
    monkeypatch.setattr(spill, "BUFFER_BYTES", 1000)
    monkeypatch.setattr(Part, "frames", watch)
    monkeypatch.setattr(parts, "_load_distinct", count)
    write(tmp_path / "a", make_reviews(500, users=1, texts=400), "user_id", num_bits=0)
    assert len(seen) > 20
    assert len(alive) > 5
    assert set(alive) == {0}


@pytest.mark.parametrize(("num_bytes", "num_bits"), [(0, 0), (64 * 2**20, 0), (65 * 2**20, 1), (13e9, 8), (1e14, 8)])
def test_choose_num_bits(num_bytes, num_bits):
    assert choose_num_bits(num_bytes) == num_bits
