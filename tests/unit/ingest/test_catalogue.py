import io
from pathlib import Path

import polars as pl
import pytest

from penname.errors import DataError
from penname.ingest.catalogue import Catalogue, CatalogueReader, build_domain, public_products
from penname.ingest.cleaning import read_string
from penname.ingest.raw_batch import MISSING, RawBatch
from penname.ingest.rejects import Reject, Tally


def _read(rows, max_malformed_frac=1.0, *, chunk_rows=2):
    tally = Tally(Path("meta.jsonl"), io.BytesIO(), max_malformed_frac=max_malformed_frac)
    tally.begin_file(Path("meta.jsonl"), "meta.jsonl")
    reader = CatalogueReader(read_category=lambda value: read_string(value, numbers=True))
    for start in range(0, max(1, len(rows)), chunk_rows):
        batch = RawBatch({"product_id": [], "title": [], "category": []})
        for row in rows[start : start + chunk_rows]:
            batch.reject(row) if isinstance(row, Reject) else batch.add(row[0], row[1:])
        found, num_read = reader.add(batch)
        tally.add(found, num_read=num_read)
    tally.check_malformed()
    products = reader.finish()
    tally.check_not_empty(num_kept=len(products), rows="products")
    return products, tally


def _row(line, product_id="p", title="T", category="C"):
    return (line, product_id, title, category)


def make_catalogue(*rows):
    table = pl.DataFrame(rows, schema=["product_id", "title", "category"], orient="row")
    return Catalogue({row[0]: i for i, row in enumerate(rows)}, table)


@pytest.mark.parametrize("chunk_rows", [1, 9])
def test_products_are_cleaned_and_the_first_of_two_counts(chunk_rows):
    products, tally = _read([_row(1, " p1 ", "A&amp;B<br>x"), _row(2, "p1", "Second"), _row(3, 7, None, None)], chunk_rows=chunk_rows)
    assert products.table.rows() == [("p1", "A&B x", "C"), ("7", "", "")]
    titles, categories = products.look_up(pl.Series(["7", "gone", "p1"]))
    assert (titles.to_list(), categories.to_list()) == (["", None, "A&B x"], ["", None, "C"])
    assert tally.num_by_reason == {"duplicate_product": 1}


def test_every_reason_against_a_product():
    rows = [
        _row(1),
        _row(2, None),
        _row(3, MISSING),
        _row(4, "p4", ["T"]),
        _row(5, "p5", "T", {"a": 1}),
        Reject(6, "malformed_json"),
    ]
    products, tally = _read(rows)
    assert list(products.rows) == ["p"]
    assert tally.num_by_reason == {"no_product_id": 1, "missing_field": 1, "wrong_type": 2, "malformed_json": 1}
    assert tally.num_read == 6


def test_too_many_bad_products_stop_the_run():
    with pytest.raises(DataError, match=r"meta\.jsonl:2: malformed_json.*1 of the first 2 rows \(50\.0 %\)"):
        _read([_row(1), Reject(2, "malformed_json")], max_malformed_frac=0.4)


def test_no_product_at_all():
    with pytest.raises(DataError, match="holds no rows"):
        _read([])


def test_the_domain_is_that_of_complete_products_or_the_configured_one():
    products = make_catalogue(("1", "T", "B"), ("2", "T", "A"), ("3", "", "incomplete"), ("4", "T", ""))
    assert list(build_domain(None, products)) == ["A", "B"]
    assert list(build_domain(["B", "Z"], products)) == ["B", "Z"]
    with pytest.raises(DataError, match="no product has both"):
        build_domain(None, make_catalogue(("3", "", "incomplete"), ("4", "T", "")))


def test_only_complete_products_of_the_domain_condition_generation():
    products = make_catalogue(("1", "T", "A & B"), ("2", "T", "other"), ("3", "", "A & B"))
    assert public_products(products, build_domain(["A &amp; B"], None)).rows() == [("1", "T", "A &amp; B")]
