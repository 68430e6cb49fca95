"""Exact copies of a review within one privacy unit."""

from __future__ import annotations

from typing import Any

from penname.schemas import CONTENT


def drop_copies(reviews: Any) -> Any:
    """Keeps the first of all reviews that are equal in every field, user id and value of the unit's column included.

    Copies are never looked for across units. Dropping one unit's review because another has the same would let the presence of
    one unit change the data of another, and bounds on the sensitivity count on the opposite. Where the unit is the record, dropping copies
    of the whole record is 1-stable, for adding a record changes the set of distinct records by at most one.

    Args:
      reviews: Polars frame with the columns CONTENT, and others. PRIVATE.
    Returns:
      The rows that stay, in their order. PRIVATE.
    """
    return reviews.unique(subset=CONTENT, keep="first", maintain_order=True)
