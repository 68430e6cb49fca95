"""From raw rows to clean reviews, or to the reason why a row is none: a pure function of one chunk and of what is public."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from penname.ingest.catalogue import Catalogue
from penname.ingest.clean_columns import clean_ids, clean_texts, clean_titles, clean_unit_ids, parse_ratings, read_strings
from penname.ingest.order import add_order_keys
from penname.ingest.raw_batch import MISSING, Chunk, RawBatch
from penname.ingest.rejects import Reject, place_rejects
from penname.ingest.unit_source import UNIT_FIELDS, UnitField

_NUMBERS_ALLOWED = frozenset(("category", "user_id", "unit_id", "product_id", "product_title"))


@dataclass(frozen=True, slots=True)
class ReviewRules:
    """What a row needs in order to become a review. Public: the same for every row, so no row ever moves another."""

    fields: tuple[str, ...]
    """Our fields that the mapping has."""
    needed: tuple[str, ...]
    """Those of them without which a row is malformed; the others may be missing."""
    domain: dict[str, str]
    """The public categories: cleaned -> as written."""
    products: Catalogue | None
    """The catalogue to join with; None: there is none."""
    category_from_product: bool
    """Whether the product says the category; otherwise the row does."""
    unit_field: UnitField | None
    """The id without which a row belongs to no privacy unit; None where the row itself is the unit."""


@dataclass(frozen=True, slots=True)
class CleanBatch:
    """What became of a chunk. PRIVATE."""

    reviews: Any
    """Polars frame of those that are kept, with their line and their place in the order of all."""
    rejects: list[tuple[Reject, int]]
    """Those that are not, in the order of the file, each with the rows of the chunk that are read when it is met."""
    num_read: int


def clean_chunk(rules: ReviewRules, chunk: Chunk) -> CleanBatch:
    """Reads, cleans, joins and filters some rows.

    Guarantee: what becomes of a row depends on the row and the rules alone.

    Args:
      rules: Public.
      chunk: PRIVATE.
    Returns:
      The reviews, and the first reason against each other row. PRIVATE.
    """
    import polars as pl

    raw = chunk.parse()
    values, bad = _read_values(raw, rules)
    frame = _clean_values(raw, values, rules)
    for i, reject in bad.items():
        values["reason"][i] = reject.reason
    reasons = pl.coalesce(pl.Series("reason", values["reason"], dtype=pl.String), *_find_reasons(rules))
    frame = frame.with_columns(reasons.alias("reason"))
    dropped = frame.with_row_index("row").filter(pl.col("reason").is_not_null()).select("row", "line", "reason").rows()
    rejects = [(row, bad.get(row) or Reject(line, reason)) for row, line, reason in dropped]
    placed, num_read = place_rejects(len(raw.lines), raw.rejects, rejects)
    kept = frame.filter(pl.col("reason").is_null()).drop("reason")
    return CleanBatch(add_order_keys(kept, rules.unit_field), placed, num_read)


def _read_values(raw: RawBatch, rules: ReviewRules) -> tuple[dict[str, list[Any]], dict[int, Reject]]:
    """All fields but the rating as text, the empty one where a value is missing; and the rows that cannot be read so."""
    values: dict[str, list[Any]] = {"reason": [None] * len(raw.lines)}
    bad: dict[int, Reject] = {}
    for field in rules.fields:
        column = raw.columns[field]
        types = set(map(type, column))
        if types <= {str} and field != "rating":
            values[field] = column
            continue
        if field in rules.needed and type(MISSING) in types:
            for i, value in enumerate(column):
                if value is MISSING:
                    bad.setdefault(i, Reject(raw.lines[i], "missing_field", field))
        if field == "rating":
            continue
        texts = read_strings(column, numbers=field in _NUMBERS_ALLOWED)
        if None in texts:
            for i, text in enumerate(texts):
                if text is None:
                    bad.setdefault(i, Reject(raw.lines[i], "wrong_type", "privacy.unit_column" if field == "unit_id" else field))
            texts = [text or "" for text in texts]
        values[field] = texts
    return values, bad


def _clean_values(raw: RawBatch, values: dict[str, list[Any]], rules: ReviewRules) -> Any:
    """A frame of clean values; a product or a category that is not there is null."""
    import polars as pl

    nothing = pl.lit(None, dtype=pl.String)
    ids = {field: clean_unit_ids(values[field]).alias(field) if field in values else nothing.alias(field) for field in UNIT_FIELDS}
    product_id = clean_ids(values["product_id"]) if "product_id" in values else pl.Series([""] * len(raw.lines), dtype=pl.String)
    if rules.products is not None:
        title, category = rules.products.look_up(product_id)
    else:
        title = clean_titles(values["product_title"]) if "product_title" in values else pl.lit("")
        category = pl.lit("")
    if not rules.category_from_product:
        category = clean_titles(values["category"])
    columns = {
        "line": pl.Series(raw.lines, dtype=pl.Int64),
        **ids,
        "rating": pl.Series(parse_ratings(raw.columns["rating"]), dtype=pl.Int64),
        "title": clean_titles(values["title"]),
        "text": clean_texts(values["text"]),
        "category": category,
        "product_id": product_id,
        "product_title": title,
    }
    frame = pl.select(**columns)
    written = pl.col("category").replace_strict(rules.domain, default=None, return_dtype=pl.String)
    return frame.with_columns(has_category=pl.col("category") != "", category=written)


def _find_reasons(rules: ReviewRules) -> list[Any]:
    """The reasons against a clean row, the first one first."""
    import polars as pl

    tests = [("malformed_rating", pl.col("rating").is_null())]
    if rules.unit_field is not None:
        tests.append((f"no_{rules.unit_field}", pl.col(rules.unit_field).is_null()))
    tests += [("empty_text", pl.col("text") == ""), ("empty_title", pl.col("title") == "")]
    if rules.products is not None:
        tests.append(("product_not_in_catalogue", pl.col("product_title").is_null()))
    if rules.products is not None or "product_title" in rules.fields:
        tests.append(("no_product_title", pl.col("product_title") == ""))
    tests += [("no_category", ~pl.col("has_category")), ("category_not_in_domain", pl.col("category").is_null())]
    return [pl.when(test).then(pl.lit(reason)) for reason, test in tests]
