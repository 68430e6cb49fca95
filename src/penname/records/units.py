"""The reviews of whole units, read from the parts of a data set: in a part the rows of one unit stand together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penname.config import RecordsConfig
from penname.errors import DataError, RunDirError
from penname.privacy.unit import bound_contributions
from penname.records.split import name_records, split_units
from penname.schemas import CONTENT

_BATCH_ROWS = 20_000
_MAX_HELD = 20_000
"""Reviews of one unit that are held; of more, only those that the contribution bound chooses."""


@dataclass(frozen=True, slots=True)
class Units:
    """Some units, each with all its reviews. PRIVATE."""

    reviews: Any
    """Polars frame."""
    num_left_out: int
    """Reviews that the contribution bound left out already, because their unit alone is more than is held."""


def read_units(folder: Path, *, privacy_unit: str, config: RecordsConfig) -> Iterator[Units]:
    """Reads the parts in order.

    Guarantee: no unit is given twice, and of a unit with more reviews than are held those are given that the contribution bound would choose.

    Args:
      folder: The artefact reviews. PRIVATE.
      privacy_unit: user, record or column.
      config: Bound and seed.
    Returns:
      Units in the order of the parts. PRIVATE.
    Raises:
      DataError: a unit comes twice.
      RunDirError: a part is missing or damaged.
    """
    field = {"user": "user_id", "column": "unit_id"}.get(privacy_unit)
    paths = sorted(folder.glob("part-*.parquet"))
    if not paths:
        raise RunDirError(f"{folder}: is missing; run the stage that writes it")
    for path in paths:
        if field is None:
            yield from (Units(reviews, 0) for reviews in _read_batches(path))
        else:
            yield from _read_whole_units(path, field, config)


def _read_whole_units(path: Path, field: str, config: RecordsConfig) -> Iterator[Units]:
    import polars as pl

    done: set[str] = set()
    held: Any = None
    num_left_out = 0
    for batch in _read_batches(path):
        held = batch if held is None else pl.concat([held, batch])
        others = held[field].ne_missing(held[field][-1]).arg_true()
        # The last unit may go on in the next batch.
        if len(others):
            cut = others[-1] + 1
            yield _check_new(Units(held[:cut], num_left_out), field, done, path)
            held, num_left_out = held[cut:], 0
        if held.height > _MAX_HELD:
            chosen = bound_contributions([name_records(held).to_list()], max_records=config.max_records_per_user, seed=config.seed)
            takes_part = split_units([held[field][0] or ""], config) != [None]
            num_left_out += held.height - len(chosen) if takes_part else 0
            held = held[chosen]
    if held is not None:
        yield _check_new(Units(held, num_left_out), field, done, path)


def _check_new(units: Units, field: str, done: set[str], path: Path) -> Units:
    """A unit that comes twice would be bounded twice, and give more than it may."""
    column = units.reviews[field]
    # Where a unit begins: as many names as beginnings, if each stands together.
    begins = column.filter(column.ne_missing(column.shift())).to_list()
    names = set(begins)
    if len(names) < len(begins) or names & done:
        raise DataError(f"{path}: the reviews of one unit do not stand together; ingest again")
    done |= names
    return units


def _read_batches(path: Path) -> Iterator[Any]:
    import polars as pl
    from pyarrow import ArrowException, parquet

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=list(CONTENT)):
                yield pl.from_arrow(batch)
    except (ArrowException, OSError):
        raise RunDirError(f"{path}: is damaged; ingest again") from None
