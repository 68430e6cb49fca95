import io
from pathlib import Path

import pytest

from penname.errors import DataError
from penname.ingest.catalogue import build_domain, public_products, read_catalogue
from penname.ingest.cleaning import read_string
from penname.ingest.rejects import Reject, Tally
from penname.ingest.tabular import Row
from penname.schemas import Product


def _read(rows, max_malformed_frac=1.0):
    tally = Tally(Path("meta.jsonl"), io.StringIO(), max_malformed_frac=max_malformed_frac)
    return read_catalogue(rows, tally, read_category=lambda value: read_string(value, numbers=True)), tally


def _row(line, product_id="p", title="T", category="C"):
    return Row(line, {"product_id": product_id, "title": title, "category": category})


def test_products_are_cleaned_and_the_first_of_two_counts():
    products, tally = _read([_row(1, " p1 ", "A&amp;B<br>x"), _row(2, "p1", "Second"), _row(3, 7, None, None)])
    assert products == {"p1": Product("p1", "A&B x", "C"), "7": Product("7", "", "")}
    assert tally.num_by_reason == {"duplicate_product": 1}


def test_every_reason_against_a_product():
    rows = [
        _row(1),
        _row(2, None),
        Row(3, {"title": "T", "category": "C"}),
        _row(4, "p4", ["T"]),
        _row(5, "p5", "T", {"a": 1}),
        Reject(6, "malformed_json"),
    ]
    products, tally = _read(rows)
    assert list(products) == ["p"]
    assert tally.num_by_reason == {"no_product_id": 1, "missing_field": 1, "wrong_type": 2, "malformed_json": 1}
    assert tally.num_read == 6


def test_too_many_bad_products_stop_the_run():
    with pytest.raises(DataError, match=r"meta\.jsonl:2: malformed_json.*1 of the first 2 rows \(50\.0 %\)"):
        _read([_row(1), Reject(2, "malformed_json")], max_malformed_frac=0.4)


def test_no_product_at_all():
    with pytest.raises(DataError, match="holds no rows"):
        _read([])


def test_the_domain_is_that_of_complete_products_or_the_configured_one():
    products = [Product("1", "T", "B"), Product("2", "T", "A"), Product("3", "", "incomplete"), Product("4", "T", "")]
    assert list(build_domain(None, products)) == ["A", "B"]
    assert list(build_domain(["B", "Z"], products)) == ["B", "Z"]
    with pytest.raises(DataError, match="no product has both"):
        build_domain(None, products[2:])


def test_only_complete_products_of_the_domain_condition_generation():
    products = [Product("1", "T", "A & B"), Product("2", "T", "other"), Product("3", "", "A & B")]
    assert list(public_products(products, build_domain(["A &amp; B"], []))) == [Product("1", "T", "A &amp; B")]
