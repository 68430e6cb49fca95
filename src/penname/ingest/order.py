"""The order of all reviews: by two 32-bit hashes, of the unit and of the text. A function of content alone, and what parts them on disk.

Files are cut by the first bits of this order, so that it is the same whatever their number. Rows of one unit stand together.
"""

from __future__ import annotations

import zlib
from typing import Any

from penname.ingest.unit_source import UnitField

KEY_BITS = 32
"""Bits of each hash."""
UNIT_KEY, TEXT_KEY = "unit_key", "text_key"


def add_order_keys(reviews: Any, unit_field: UnitField | None) -> Any:
    """Adds both keys to a Polars frame of reviews. Where the record is the unit its text stands for it. PRIVATE."""
    text_keys = _hash_column(reviews["text"])
    unit_keys = _hash_column(reviews[unit_field]) if unit_field is not None else text_keys
    return reviews.with_columns(unit_keys.alias(UNIT_KEY), text_keys.alias(TEXT_KEY))


def sort_reviews(reviews: Any, unit_field: UnitField | None) -> Any:
    """Brings reviews that stand in the order of the input into the order of all. PRIVATE."""
    # Two units may have one hash: the id between the hashes keeps each together.
    by = [UNIT_KEY, *([unit_field] if unit_field is not None else []), TEXT_KEY]
    return reviews.sort(by, maintain_order=True)


def take_bits(start: int, num_bits: int) -> Any:
    """A Polars expression: bits of the order of a review, counted from the first; none of them crosses from one hash to the other."""
    import polars as pl

    column, start = (UNIT_KEY, start) if start < KEY_BITS else (TEXT_KEY, start - KEY_BITS)
    return (pl.col(column) // 2 ** (KEY_BITS - start - num_bits)) % 2**num_bits


def _hash_column(texts: Any) -> Any:
    import polars as pl

    # CRC-32 is the same everywhere and for ever, which is all that is asked of it.
    return pl.Series(list(map(zlib.crc32, texts.cast(pl.Binary).to_list())), dtype=pl.UInt32)
