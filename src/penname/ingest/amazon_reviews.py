"""The layout of Amazon Reviews 2023: one JSON lines file of reviews, one of product metadata, joined on parent_asin.

Source: Hou et al. (2024), Bridging Language and Items for Retrieval and Recommendation. https://arxiv.org/abs/2403.03952
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from penname.errors import UsageError
from penname.ingest.table import Table
from penname.ingest.unit_source import name_unit_column

REVIEW_COLUMNS = {"rating": "rating", "title": "title", "text": "text", "user_id": "user_id", "product_id": "parent_asin"}
"""Our field -> theirs. images, asin, timestamp, helpful_vote and verified_purchase are read past."""

PRODUCT_COLUMNS = {"product_id": "parent_asin", "title": "title", "category": "categories"}
"""Our field -> theirs. The category is one level of their path."""


def open_reviews(path: Path, *, encoding: str = "utf-8", unit_column: str | None = None) -> Table:
    """The file of reviews, as a table.

    Args:
      path: JSON lines.
      encoding: Of its text.
      unit_column: Key of theirs that becomes unit_id.
    Raises:
      UsageError: its name says that it is no JSON lines.
    """
    return _open(path, REVIEW_COLUMNS | name_unit_column(unit_column), encoding)


def open_products(path: Path, *, encoding: str = "utf-8") -> Table:
    """The file of product metadata (`meta_*.jsonl`), as a table.

    Raises:
      UsageError: its name says that it is no JSON lines.
    """
    return _open(path, PRODUCT_COLUMNS, encoding)


def _open(path: Path, columns: dict[str, str], encoding: str) -> Table:
    table = Table(path, columns, encoding=encoding, option="data.format amazon_reviews_2023")
    # A directory or a missing file has no format: check_table says what is wrong with it.
    if path.is_file() and table.kind != "jsonl":
        raise UsageError(f"{path}: is no .jsonl file, as data.format: amazon_reviews_2023 wants; use data.format: table and data.columns")
    return table


def choose_category(path: Any, *, level: int) -> str | None:
    """One level of a product's category path, from the general to the special; the last one where the path is shorter.

    Args:
      path: The value of `categories`; public.
      level: Counts from 0.
    Returns:
      The category as it stands, empty where the product has none, None where the value is no list of texts.

    >>> choose_category(["Cell Phones", "Cases", "Flip Cases"], level=1)
    'Cases'
    """
    if path is None or path == []:
        return ""
    if not isinstance(path, list) or not all(isinstance(part, str) for part in path):
        return None
    return path[min(level, len(path) - 1)]
