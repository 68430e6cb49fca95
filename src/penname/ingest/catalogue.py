"""The catalogue: public products, and the public domain of categories that follows from it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from penname.errors import DataError
from penname.ingest.cleaning import clean_id, clean_title, read_string
from penname.ingest.rejects import Reject, Tally
from penname.ingest.tabular import Row
from penname.schemas import Product


def read_catalogue(rows: Iterable[Row | Reject], tally: Tally, *, read_category: Callable[[Any], str | None]) -> dict[str, Product]:
    """Reads all products into memory.

    Args:
      rows: With product_id, title and category; public.
      tally: Counts what is rejected: rows that cannot be read, products without an id, products named twice (the first counts).
      read_category: Turns the raw category into text; None where its type is wrong.
    Returns:
      product_id -> product; title or category are empty where the catalogue has none, so that a join can say what is missing.
    Raises:
      DataError: too many rows cannot be read, or there are none.
    """
    products: dict[str, Product] = {}
    for row in rows:
        if isinstance(row, Reject):
            tally.reject(row, was_counted=False)
            continue
        tally.count_row()
        product = _build_product(row, read_category)
        if isinstance(product, Product) and product.product_id in products:
            product = Reject(row.line, "duplicate_product")
        if isinstance(product, Reject):
            tally.reject(product, was_counted=True)
        else:
            products[product.product_id] = product
    tally.check_malformed()
    tally.check_not_empty(num_kept=len(products), rows="products")
    return products


def _build_product(row: Row, read_category: Callable[[Any], str | None]) -> Product | Reject:
    if "product_id" not in row.values:
        return Reject(row.line, "missing_field", "product_id")
    product_id = read_string(row.values["product_id"], numbers=True)
    title = read_string(row.values.get("title"), numbers=True)
    category = read_category(row.values.get("category"))
    for field, value in (("product_id", product_id), ("title", title), ("category", category)):
        if value is None:
            return Reject(row.line, "wrong_type", field)
    product_id = clean_id(product_id or "")
    if not product_id:
        return Reject(row.line, "no_product_id")
    # Few categories, many products: one string each.
    return Product(product_id, clean_title(title or ""), sys.intern(clean_title(category or "")))


def build_domain(configured: list[str] | None, products: Iterable[Product]) -> dict[str, str]:
    """The public domain of `category`.

    Args:
      configured: data.categories; None: the categories of the complete products, sorted.
      products: The catalogue.
    Returns:
      Cleaned category -> the category as it is written from here on, in the order of the domain.
    Raises:
      DataError: neither names a category.

    >>> build_domain(["Cases &amp; Covers"], [])
    {'Cases & Covers': 'Cases &amp; Covers'}
    """
    if configured is not None:
        return {clean_title(category): category for category in configured}
    domain = sorted({product.category for product in products if product.title and product.category})
    if not domain:
        raise DataError("data.catalogue: no product has both a title and a category; check the file and its mapping")
    return {category: category for category in domain}


def public_products(products: Iterable[Product], domain: dict[str, str]) -> Iterator[Product]:
    """The products that may condition generation: complete, with a category of the domain, spelled as the domain spells it."""
    for product in products:
        if product.title and product.category in domain:
            yield Product(product.product_id, product.title, domain[product.category])
