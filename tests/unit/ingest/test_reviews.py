"""Rows become reviews by column; here the same rules stand once more row by row, and both must agree on dirty data."""

import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penname.ingest.catalogue import Catalogue
from penname.ingest.cleaning import clean_id, clean_text, clean_title, clean_unit_id, parse_rating, read_string
from penname.ingest.input_file import Block
from penname.ingest.json_lines import JsonBlock
from penname.ingest.raw_batch import Row
from penname.ingest.rejects import Reject
from penname.ingest.reviews import ReviewRules, clean_chunk

PRODUCTS = {"p1": ("Case", "A"), "p2": ("", "A"), "p3": ("Lamp", ""), "p4": ("Cable", "Z"), "17": ("Cord", "B")}
TABLE = pl.DataFrame([(name, *more) for name, more in PRODUCTS.items()], ["product_id", "title", "category"], orient="row")
CATALOGUE = Catalogue({name: i for i, name in enumerate(PRODUCTS)}, TABLE)
FIELDS = ("rating", "title", "text", "category", "user_id", "unit_id", "product_id", "product_title")
AMAZON = ("rating", "title", "text", "user_id", "product_id")
NEEDED = ("rating", "text", "title", "category")
DOMAIN = {"A": "A", "B": "B!"}
RULES = {
    "amazon": ReviewRules(AMAZON, ("rating", "title", "text", "product_id"), DOMAIN, CATALOGUE, True, "user_id"),
    "table with a catalogue": ReviewRules(FIELDS, NEEDED, DOMAIN, CATALOGUE, False, "unit_id"),
    "table": ReviewRules(FIELDS, NEEDED, DOMAIN, None, False, None),
    "small table": ReviewRules(NEEDED, NEEDED, {"A": "A"}, None, False, None),
}


def build_review(row, rules):
    """One row by itself: the review, or the first reason against it."""
    values = {}
    for field in rules.fields:
        if field not in row.values and field in rules.needed:
            return Reject(row.line, "missing_field", field)
        if field == "rating":
            continue
        value = read_string(row.values.get(field), numbers=field not in ("title", "text"))
        if value is None:
            return Reject(row.line, "wrong_type", "privacy.unit_column" if field == "unit_id" else field)
        values[field] = value
    rating = parse_rating(row.values["rating"])
    if rating is None:
        return Reject(row.line, "malformed_rating")
    ids = {field: clean_unit_id(values.get(field, "")) for field in ("user_id", "unit_id")}
    if rules.unit_field is not None and ids[rules.unit_field] is None:
        return Reject(row.line, f"no_{rules.unit_field}")
    text, title = clean_text(values["text"]), clean_title(values["title"])
    if not text or not title:
        return Reject(row.line, "empty_text" if not text else "empty_title")
    product_id, product_title = clean_id(values.get("product_id", "")), clean_title(values.get("product_title", ""))
    category = "" if rules.category_from_product else clean_title(values["category"])
    if rules.products is not None:
        if product_id not in PRODUCTS:
            return Reject(row.line, "product_not_in_catalogue")
        product_title, listed = PRODUCTS[product_id]
        category = listed if rules.category_from_product else category
    if not product_title and (rules.products is not None or "product_title" in rules.fields):
        return Reject(row.line, "no_product_title")
    if not category or category not in rules.domain:
        return Reject(row.line, "category_not_in_domain" if category else "no_category")
    return (row.line, *ids.values(), rating, title, text, rules.domain[category], product_id, product_title)


TEXTS = st.sampled_from(["Good", "good <br /> it", "&amp;", " ", "", None, 17, ["x"], "\u200b", "é\u0301", "\ud83d", "a\u0000b", "<3", "5", "true", "[1]"])
NAMES = st.sampled_from(["ann", " bob ", "NaN", "", None, 7, 7.0, 10**25, 1.5, True, "7", "07", "\ud800"])
VALUES = {
    "rating": st.sampled_from([5, 1.0, "3", "4.0", "five", None, True, 6]),
    "title": TEXTS,
    "text": TEXTS,
    "category": st.sampled_from(["A", " A ", "B", "C", "", None, 3]),
    "user_id": NAMES,
    "unit_id": NAMES,
    "product_id": st.sampled_from(["p1", "p2", " p3", "p4", "p5", 17, "17", "", None]),
    "product_title": TEXTS,
}
ROWS = st.fixed_dictionaries({}, optional={field: VALUES[field] for field in FIELDS}).map(json.dumps)
GOOD = st.fixed_dictionaries({field: st.just("A") for field in FIELDS} | {"rating": st.integers(1, 5), "product_id": st.just("p1")}).map(json.dumps)
ODD_LINES = [
    "", "  ", "[1]", "null", "no json", '{"rating": 5', '{"rating":5,"rating":4,"text":"a","text":"b"}', '{"text":NaN}', "\x00", "{}\r",
]  # fmt: skip
LINES = st.one_of(ROWS, GOOD, st.sampled_from(ODD_LINES))


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=150, deadline=None, derandomize=True)
@given(lines=st.lists(LINES, max_size=12), first=st.sampled_from([1, 900]), ends=st.booleans())
def test_rows_are_read_as_if_each_were_alone(name, lines, first, ends):
    rules = RULES[name]
    data = "\n".join(lines).encode() + (b"\n" if ends else b"")
    chunk = JsonBlock({field: field for field in rules.fields}, Block(first, data, "utf-8"))
    batch = clean_chunk(rules, chunk)
    expected = [build_review(row, rules) if isinstance(row, Row) else row for row in chunk.parse().rows()]
    reviews = [found for found in expected if not isinstance(found, Reject)]
    columns = ["line", "user_id", "unit_id", "rating", "title", "text", "category", "product_id", "product_title"]
    assert batch.reviews.select(columns).rows() == reviews
    assert [reject for reject, _ in batch.rejects] == [found for found in expected if isinstance(found, Reject)]
    assert [num for _, num in batch.rejects] == [i for i, found in enumerate(expected, 1) if isinstance(found, Reject)]
    assert batch.num_read == len(expected)


def test_every_reason_is_met_above():
    """What the comparison above is worth: rows of every kind come out of it."""
    rows = [
        {"rating": 5, "title": "t", "text": "x", "user_id": "u", "product_id": product} for product in ("p1", "p2", "p3", "p4", "p5")
    ]  # fmt: skip
    rows += [rows[0] | change for change in ({"rating": 9}, {"user_id": "NaN"}, {"text": "<br>"}, {"title": ""}, {"title": 3})] + [{"rating": 5}]
    data = "\n".join(map(json.dumps, rows)).encode()
    batch = clean_chunk(RULES["amazon"], JsonBlock({field: field for field in RULES["amazon"].fields}, Block(1, data, "utf-8")))
    assert batch.reviews["line"].to_list() == [1]
    assert [reject.reason for reject, _ in batch.rejects] == [
        "no_product_title", "no_category", "category_not_in_domain", "product_not_in_catalogue", "malformed_rating", "no_user_id", "empty_text", "empty_title",
        "wrong_type", "missing_field",
    ]  # fmt: skip
