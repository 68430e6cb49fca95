"""Reviews on their way to the parts of the data set: kept in memory while they are few, on disk by the first bits of their order when not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penname.ingest.order import UNIT_KEY, take_bits

PART_BYTES = 64 * 2**20
"""A part should hold about so many bytes of clean reviews."""
BUFFER_BYTES = 128 * 2**20
"""So many are kept in memory before they go to disk."""
_MAX_BITS = 8


def choose_num_bits(num_bytes: float) -> int:
    """How many bits of the order part so many bytes of reviews.

    >>> choose_num_bits(1e6), choose_num_bits(1e9), choose_num_bits(1e15)
    (0, 4, 8)
    """
    return min(_MAX_BITS, math.ceil(math.log2(max(1.0, num_bytes / PART_BYTES))))


@dataclass(frozen=True, slots=True)
class Part:
    """Reviews with the same first bits, in the order of the input where one process kept them. PRIVATE."""

    num_bytes: int
    unit_keys: tuple[int, int]
    """The least and the greatest hash of a unit."""
    paths: tuple[Path, ...]
    """Where they are, one a process that kept some; none: in memory."""
    frame: Any | None

    def frames(self) -> Iterator[Any]:
        """The reviews as Polars frames, some at a time."""
        if self.frame is not None:
            yield self.frame
            return
        import polars as pl
        import pyarrow

        for path in self.paths:
            with path.open("rb") as handle, pyarrow.ipc.open_stream(handle) as stream:
                for batch in stream:
                    yield pl.from_arrow(batch)

    def discard(self) -> None:
        """Frees what is held, once the reviews are elsewhere."""
        for path in self.paths:
            path.unlink()


class Spill:
    """Takes frames of reviews in the order of the input, and gives them back in parts, in the order of all."""

    def __init__(self, folder: Path, *, start: int, num_bits: int, num_processes: int = 1) -> None:
        """folder: its own, made here; start, num_bits: the bits of the order that tell the parts apart; num_processes: that share the memory."""
        folder.mkdir(parents=True)
        self._folder, self._bits = folder, take_bits(start, num_bits)
        self._max_bytes = BUFFER_BYTES // num_processes
        self._buffer: list[Any] = []
        self._buffer_bytes = 0
        self._parts: dict[int, Part] = {}
        self._writers: dict[int, Any] = {}
        self._files = ExitStack()

    def __enter__(self) -> Spill:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def add(self, reviews: Any) -> None:
        """Adds a frame."""
        self._buffer.append(reviews)
        self._buffer_bytes += reviews.estimated_size()
        if self._buffer_bytes >= self._max_bytes:
            self._flush()

    def finish(self) -> list[Part]:
        """The parts that hold anything, in order; nothing can be added afterwards."""
        if not self._writers:
            return [_describe(piece, (), piece) for _, piece in sorted(self._cut().items())]
        return [part for _, part in sorted(self.finish_on_disk().items())]

    def finish_on_disk(self) -> dict[int, Part]:
        """The parts that hold anything by their number, for another process to read; nothing can be added afterwards."""
        self._flush()
        self._files.close()
        return self._parts

    def _cut(self) -> dict[int, Any]:
        import polars as pl

        if not self._buffer:
            return {}
        reviews = pl.concat(self._buffer)
        self._buffer, self._buffer_bytes = [], 0
        pieces = reviews.with_columns(self._bits.alias("part")).partition_by("part", as_dict=True, include_key=False, maintain_order=True)
        return {int(part): piece for (part,), piece in pieces.items()}

    def _flush(self) -> None:
        import pyarrow

        for number, piece in self._cut().items():
            table = piece.to_arrow()
            path = self._folder / f"{number:05d}.arrows"
            if number not in self._writers:
                handle = self._files.enter_context(path.open("wb"))
                self._writers[number] = self._files.enter_context(pyarrow.ipc.new_stream(handle, table.schema))
            self._writers[number].write_table(table)
            part = _describe(piece, (path,), None)
            self._parts[number] = part if number not in self._parts else _join(self._parts[number], part)


def join_parts(spilled: Iterable[dict[int, Part]]) -> list[Part]:
    """What some processes spilled, in the order of the parts; in a part one process comes after the other."""
    parts: dict[int, Part] = {}
    for number, part in (pair for found in spilled for pair in found.items()):
        parts[number] = part if number not in parts else _join(parts[number], part)
    return [part for _, part in sorted(parts.items())]


def _describe(piece: Any, paths: tuple[Path, ...], frame: Any | None) -> Part:
    keys = piece[UNIT_KEY]
    return Part(piece.estimated_size(), (keys.min(), keys.max()), paths, frame)


def _join(part: Part, more: Part) -> Part:
    keys = [*part.unit_keys, *more.unit_keys]
    return Part(part.num_bytes + more.num_bytes, (min(keys), max(keys)), tuple(dict.fromkeys(part.paths + more.paths)), None)
