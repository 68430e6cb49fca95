"""The reviews of whole units, read from the parts of a data set: in a part the rows of one unit stand together."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penname.errors import DataError, RunDirError
from penname.privacy.unit import bound_contributions
from penname.records.split import SplitRules, name_records, split_units
from penname.schemas import CONTENT

_BATCH_BYTES = 32 * 2**20
"""Row groups are read together up to so many bytes of reviews: each batch costs some time, however small it is."""
_MAX_HELD = 20_000
"""Reviews of one unit that are held; of more, only those that the contribution bound chooses."""


@dataclass(frozen=True, slots=True)
class Units:
    """Some units, each with all its reviews. PRIVATE."""

    reviews: Any
    """Polars frame."""
    num_left_out: int
    """Reviews that the contribution bound left out already, because their unit alone is more than is held."""
    keys: tuple[int, int] | None = None
    """The least and the greatest hash of a unit, as ingest cuts the parts by; None where the record is the unit."""


def find_parts(folder: Path) -> list[Path]:
    """The parts of the artefact reviews, in their order.

    Raises:
      RunDirError: there are none.
    """
    paths = sorted(folder.glob("part-*.parquet"))
    if not paths:
        raise RunDirError(f"{folder}: is missing; run the stage that writes it")
    return paths


def read_units(path: Path, *, privacy_unit: str, rules: SplitRules) -> Iterator[Units]:
    """Reads a part.

    Guarantee: no unit is given twice, and of a unit with more reviews than are held those are given that the contribution bound would choose.

    Args:
      path: One of the artefact reviews. PRIVATE.
      privacy_unit: user, record or column.
      rules: Bound and seed.
    Returns:
      Units in the order of the part. PRIVATE.
    Raises:
      DataError: a unit comes twice.
      RunDirError: the part is damaged.
    """
    field = {"user": "user_id", "column": "unit_id"}.get(privacy_unit)
    if field is None:
        yield from (Units(reviews, 0) for reviews in _read_batches(path))
    else:
        yield from _read_whole_units(path, field, rules)


def _read_whole_units(path: Path, field: str, rules: SplitRules) -> Iterator[Units]:
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
            yield _check_new(held[:cut], num_left_out, field, done, path)
            held, num_left_out = held[cut:], 0
        if held.height > _MAX_HELD:
            chosen = bound_contributions([name_records(held).to_list()], max_records=rules.max_records_per_user, seed=rules.seed)
            takes_part = split_units([held[field][0] or ""], rules) != [None]
            num_left_out += held.height - len(chosen) if takes_part else 0
            held = held[chosen]
    if held is not None:
        yield _check_new(held, num_left_out, field, done, path)


def _check_new(reviews: Any, num_left_out: int, field: str, done: set[str], path: Path) -> Units:
    """A unit that comes twice would be bounded twice, and give more than it may."""
    column = reviews[field]
    # Where a unit begins: as many names as beginnings, if each stands together.
    begins = column.filter(column.ne_missing(column.shift())).to_list()
    names = set(begins)
    if len(names) < len(begins) or names & done:
        raise _scattered(path)
    done |= names
    # CRC-32 is what the parts are cut by.
    keys = [zlib.crc32((name or "").encode()) for name in names]
    return Units(reviews, num_left_out, (min(keys), max(keys)))


def check_apart(path: Path, before: tuple[int, int] | None, keys: tuple[int, int] | None) -> None:
    """Sees to it that no unit of a part was in one before it: the parts are cut by a hash of the unit.

    Args:
      path: The part.
      before, keys: The least and the greatest hash of a unit in the parts before it, and in this one. PRIVATE.
    Raises:
      DataError: one may have been.
    """
    if before is not None and keys is not None and keys[0] <= before[1]:
        raise _scattered(path)


def join_keys(keys: tuple[int, int] | None, more: tuple[int, int] | None) -> tuple[int, int] | None:
    """The least and the greatest hash of a unit in both. PRIVATE.

    >>> join_keys((3, 5), (4, 9)), join_keys(None, (4, 9))
    ((3, 9), (4, 9))
    """
    if keys is None or more is None:
        return keys or more
    return min(keys[0], more[0]), max(keys[1], more[1])


def _scattered(path: Path) -> DataError:
    return DataError(f"{path}: the reviews of one unit do not stand together; ingest again")


def _read_batches(path: Path) -> Iterator[Any]:
    import polars as pl
    from pyarrow import ArrowException, parquet

    try:
        with parquet.ParquetFile(path) as file:
            for groups in _join_groups([file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups)]):
                yield pl.from_arrow(file.read_row_groups(groups, columns=list(CONTENT), use_threads=False))
    except (ArrowException, OSError):
        raise RunDirError(f"{path}: is damaged; ingest again") from None


def _join_groups(sizes: list[int]) -> list[list[int]]:
    """The row groups of each batch, in their order: as many as fit, but at least one.

    Args:
      sizes: Unpacked, in bytes.

    >>> _join_groups([20 * 2**20, 12 * 2**20, 90 * 2**20, 1])
    [[0, 1], [2], [3]]
    """
    batches: list[list[int]] = []
    held = 0
    for group, size in enumerate(sizes):
        if not batches or held + size > _BATCH_BYTES:
            batches.append([])
            held = 0
        batches[-1].append(group)
        held += size
    return batches
