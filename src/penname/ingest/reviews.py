"""From a raw row to a clean review, or to the reason why it is none."""

from __future__ import annotations

from dataclasses import dataclass

from penname.ingest.cleaning import clean_id, clean_text, clean_title, clean_unit_id, parse_rating, read_string
from penname.ingest.rejects import Reject
from penname.ingest.tabular import Row
from penname.ingest.unit_source import UNIT_FIELDS, UnitField
from penname.schemas import Product, Review

_NUMBERS_ALLOWED = frozenset(("category", "user_id", "unit_id", "product_id", "product_title"))


@dataclass(frozen=True, slots=True)
class ReviewRules:
    """What a row needs in order to become a review."""

    file_name: str
    fields: tuple[str, ...]
    """Our fields that the mapping has."""
    needed: tuple[str, ...]
    """Those of them without which a row is malformed; the others may be missing."""
    domain: dict[str, str]
    """The public categories: cleaned -> as written."""
    products: dict[str, Product] | None
    """The catalogue to join with; None: there is none."""
    category_from_product: bool
    """Whether the product says the category; otherwise the row does."""
    unit_field: UnitField | None
    """The id without which a row belongs to no privacy unit; None where the row itself is the unit."""


def build_review(row: Row, rules: ReviewRules) -> Review | Reject:
    """Cleans a row, joins it with its product and filters it.

    Args:
      row: PRIVATE.
      rules: Public: they are the same for every row, so no row ever moves another.
    Returns:
      The review, or the first reason against it. PRIVATE.
    """
    values = _read_values(row, rules)
    if isinstance(values, Reject):
        return values
    rating = parse_rating(row.values["rating"])
    if rating is None:
        return Reject(row.line, "malformed_rating")
    ids: dict[str, str | None] = {field: clean_unit_id(values.get(field, "")) for field in UNIT_FIELDS}
    if rules.unit_field is not None and ids[rules.unit_field] is None:
        return Reject(row.line, f"no_{rules.unit_field}")
    text, title = clean_text(values["text"]), clean_title(values["title"])
    if not text or not title:
        return Reject(row.line, "empty_text" if not text else "empty_title")
    product = _find_product(row, values, rules)
    if isinstance(product, Reject):
        return product
    category = product.category if rules.category_from_product else clean_title(values["category"])
    if not category:
        return Reject(row.line, "no_category")
    if category not in rules.domain:
        return Reject(row.line, "category_not_in_domain")
    source = f"{rules.file_name}:{row.line}"
    return Review(source, ids["user_id"], ids["unit_id"], rating, title, text, rules.domain[category], product.product_id, product.title)


def _read_values(row: Row, rules: ReviewRules) -> dict[str, str] | Reject:
    """All fields but the rating as text; those that may be missing are empty then."""
    values: dict[str, str] = {}
    for field in rules.fields:
        if field not in row.values and field in rules.needed:
            return Reject(row.line, "missing_field", field)
        if field == "rating":
            continue
        value = read_string(row.values.get(field), numbers=field in _NUMBERS_ALLOWED)
        if value is None:
            return Reject(row.line, "wrong_type", "privacy.unit_column" if field == "unit_id" else field)
        values[field] = value
    return values


def _find_product(row: Row, values: dict[str, str], rules: ReviewRules) -> Product | Reject:
    """The product of a row: from the catalogue where there is one, else what the row itself says."""
    product_id = clean_id(values.get("product_id", ""))
    if rules.products is not None:
        product = rules.products.get(product_id)
        if product is None:
            return Reject(row.line, "product_not_in_catalogue")
    else:
        product = Product(product_id, clean_title(values.get("product_title", "")), "")
    if not product.title and (rules.products is not None or "product_title" in rules.fields):
        return Reject(row.line, "no_product_title")
    return product
