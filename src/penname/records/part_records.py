"""One part of the reviews becomes records: split, bounded, filled into the template, and written as JSON lines."""

from __future__ import annotations

import os
import re
import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import IO, Any

from penname.records.split import RECORD_ID, UNIT, Split, SplitRules, Splits, Totals, split_reviews
from penname.records.units import Units, join_keys, read_units
from penname.schemas import Record
from penname.template import RecordTemplate

_Made = tuple[Units, Splits, dict[Split, Any]]


@dataclass(frozen=True, slots=True)
class RecordRules:
    """What makes records of reviews. Public: the same for every unit."""

    privacy_unit: str
    split: SplitRules
    template: RecordTemplate


@dataclass(frozen=True, slots=True)
class WrittenPart:
    """What came of a part. PRIVATE."""

    totals: Totals
    keys: tuple[int, int] | None
    """The least and the greatest hash of a unit; None where the record is the unit."""


def write_part(
    rules: RecordRules, path: Path, handles: Mapping[Split, IO[bytes]], *, map_units: Callable[[Callable[[Units], _Made], Iterable[Units]], Iterator[_Made]]
) -> WrittenPart:
    """Writes the records of one part.

    Guarantee: what is written of a unit depends on its reviews and the rules alone.

    Args:
      rules: Public.
      path: Of the part; it holds whole units. PRIVATE.
      handles: Files that take the records, one behind the other. PRIVATE.
      map_units: `map`, or what does the same some items ahead.
    Raises:
      DataError: a review names no unit, or a unit comes twice.
      RunDirError: the part is damaged.
      OSError: a file cannot be written.
    """
    totals, keys = Totals(), None
    made = map_units(partial(_make_all_records, rules), read_units(path, privacy_unit=rules.privacy_unit, rules=rules.split))
    for units, splits, records in made:
        totals.add(splits, num_reviews=units.reviews.height, num_left_out=units.num_left_out)
        keys = join_keys(keys, units.keys)
        for split, frame in records.items():
            write_lines(frame, handles[split])
    return WrittenPart(totals, keys)


def _make_all_records(rules: RecordRules, units: Units) -> _Made:
    """Some units, who of them is where, and their records by split. PRIVATE."""
    splits = split_reviews(units.reviews, privacy_unit=rules.privacy_unit, rules=rules.split)
    return units, splits, {split: make_records(parts, rules.template) for split, parts in splits.parts.items()}


def make_records(parts: Any, template: RecordTemplate) -> Any:
    """Fills the template with reviews.

    Args:
      parts: Polars frame of reviews with UNIT and RECORD_ID. PRIVATE.
      template: Of the run.
    Returns:
      Polars frame with the fields of `Record`. PRIVATE.
    """
    import polars as pl

    filled = parts.with_columns(
        fill_columns(template.prompt, parts).alias("prompt"),
        fill_columns(template.completion, parts.with_columns(_mend_texts(parts["text"], template))).alias("completion"),
        unit_id=pl.col(UNIT),
        record_id=pl.col(RECORD_ID),
    )
    return filled.select(field.name for field in fields(Record))


def fill_columns(template: str, rows: Any) -> Any:
    """`template.format` of every row.

    Args:
      template: With names of columns in braces, checked by the config.
      rows: Polars frame. PRIVATE.
    Returns:
      Polars Series. PRIVATE.
    """
    import polars as pl

    parts: list[Any] = []
    for literal, field, _, _ in string.Formatter().parse(template):
        parts.append(pl.lit(literal))
        if field is not None:
            parts.append(pl.col(field).cast(pl.String))
    return rows.select(pl.concat_str(parts)).to_series()


def _mend_texts(texts: Any, template: RecordTemplate) -> Any:
    """`template.mend_text` of every text."""
    while template.end and texts.str.contains(template.end, literal=True).any():
        texts = texts.str.replace_all(template.end, template.end[:-1], literal=True)
    return texts


def write_lines(records: Any, handle: IO[bytes]) -> None:
    """Writes a frame as JSON lines, past the interpreter.

    Args:
      records: Polars frame. PRIVATE.
      handle: A file on disk, to which nobody else writes.
    Raises:
      OSError: as Python raises it, with its number: Polars tells it in words only.
    """
    try:
        records.write_ndjson(handle)
    except OSError as error:
        told = re.search(r"\(os error (\d+)\)", str(error))
        if error.errno is not None or told is None:
            raise
        raise OSError(int(told[1]), os.strerror(int(told[1]))) from None
