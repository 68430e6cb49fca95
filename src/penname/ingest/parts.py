"""The last step: each part of the reviews is sorted, its copies are dropped, and it becomes one Parquet file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penname.distributed.processes import MAX_PROCESSES
from penname.ingest.duplicates import drop_copies
from penname.ingest.order import KEY_BITS, sort_reviews
from penname.ingest.parquet_writer import write_parquet
from penname.ingest.spill import PART_BYTES, Part, Spill, choose_num_bits
from penname.ingest.unit_source import UnitField
from penname.schemas import Review

_MAX_PART_BYTES = 2 * PART_BYTES
"""A larger part is cut again before it is loaded."""
_SPLIT_BITS = 4


@dataclass(frozen=True, slots=True)
class FinishedPart:
    """What became of a part. PRIVATE."""

    num_kept: int
    copies: Any
    """Polars frame: file and line of the reviews that are copies of an earlier one, in the order of the input."""
    products: list[tuple[str, str, str]]
    """Those that its reviews name: id, title, category; distinct, and empty where nobody asks for them."""


def finish_part(part: Part, target: Path, *, file_names: list[str], unit_field: UnitField | None, start: int, with_products: bool) -> FinishedPart:
    """Writes one part of the reviews.

    Guarantee: what becomes of a unit's reviews depends on that unit's reviews alone.

    Args:
      part: All reviews of its units. PRIVATE.
      target: Takes the file; nothing is left of it when this fails.
      file_names: Of the input; reviews hold their numbers.
      unit_field: The id of the unit; None where the record is the unit.
      start: How many bits of the order all these reviews share.
      with_products: Whether the products that they name are wanted.
    Returns:
      What was kept. PRIVATE.
    """
    import polars as pl

    num_kept, copies, products = 0, list[Any](), set[tuple[str, str, str]]()
    with write_parquet(target, Review) as add:
        for reviews, dropped in _sorted_runs(part, target.with_name(f".{target.name}.split"), unit_field, start):
            source = pl.concat_str(pl.col("file").replace_strict(dict(enumerate(file_names)), return_dtype=pl.String), pl.lit(":"), "line")
            add(reviews.with_columns(source=source))
            num_kept += reviews.height
            copies.append(dropped)
            if with_products:
                named = pl.when(pl.col("product_id") == "").then("product_title").otherwise("product_id").alias("named")
                products.update(reviews.select(named, "product_title", "category").unique().rows())
    return FinishedPart(num_kept, pl.concat(copies).sort("file", "line"), sorted(products))


def _sorted_runs(part: Part, folder: Path, unit_field: UnitField | None, start: int) -> Iterator[tuple[Any, Any]]:
    """The reviews in order, some at a time, and where the copies were that were dropped of them."""
    if part.num_bytes <= _MAX_PART_BYTES or start >= 2 * KEY_BITS:
        reviews, dropped = _load_distinct(part)
        yield sort_reviews(reviews, unit_field), dropped
        return
    if part.unit_keys[0] == part.unit_keys[1]:
        # One unit owns more than a part may hold, so that only the hash of the text can cut it.
        start = max(start, KEY_BITS)
    num_bits = min(max(_SPLIT_BITS, choose_num_bits(part.num_bytes)), KEY_BITS - start % KEY_BITS)
    for number, piece in enumerate(_cut_again(part, folder, start, num_bits)):
        yield from _sorted_runs(piece, folder / f"{number}.split", unit_field, start + num_bits)
    folder.rmdir()


def _cut_again(part: Part, folder: Path, start: int, num_bits: int) -> list[Part]:
    """In a function of its own, so that no last frame is held while the pieces are cut further."""
    # Other processes may do the same at this time.
    with Spill(folder, start=start, num_bits=num_bits, num_processes=MAX_PROCESSES) as spill:
        for reviews in part.frames():
            spill.add(reviews)
        pieces = spill.finish()
    part.discard()
    return pieces


def _load_distinct(part: Part) -> tuple[Any, Any]:
    """The distinct reviews of a part in the order of the input, and where their copies were; memory holds no more copies than a part may."""
    import polars as pl

    frames, held, dropped = list[Any](), 0, list[Any]()
    for frame in part.frames():
        frames.append(frame)
        held += frame.estimated_size()
        if held > _MAX_PART_BYTES:
            frames = [_take_copies(frames, dropped)]
            held = frames[0].estimated_size()
    distinct = _take_copies(frames, dropped)
    part.discard()
    return distinct, pl.concat(dropped)


def _take_copies(frames: list[Any], dropped: list[Any]) -> Any:
    import polars as pl

    reviews = _order_as_read(pl.concat(frames))
    distinct = drop_copies(reviews)
    places = reviews.select("file", "line")
    dropped.append(places.join(distinct, on=["file", "line"], how="anti") if distinct.height < reviews.height else places.clear())
    return distinct


def _order_as_read(reviews: Any) -> Any:
    """In the order of the input, in which they stand already where one process kept them all: of copies the first one stays."""
    places = reviews["file"].cast(int) * 2**40 + reviews["line"]
    return reviews if places.is_sorted() else reviews[places.arg_sort()]
