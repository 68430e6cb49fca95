"""Rows as they stand in a file, some thousands at a time and by column: what a worker gets to clean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from penname.ingest.rejects import Reject

BATCH_ROWS = 8192
BATCH_CHARS = 4 * 2**20
"""A batch ends when it has so many rows or about so many characters."""


class Missing(Enum):
    """A field that a row does not have, which is not the same as one that holds nothing. An enum is itself in another process too."""

    MISSING = "missing"


MISSING = Missing.MISSING


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it stands in the file. PRIVATE."""

    line: int
    """Where it starts; in Parquet the number of the row; both count from 1."""
    values: dict[str, Any]
    """Our field -> raw value. A field that the row does not have is not there."""


@dataclass(slots=True)
class RawBatch:
    """Some rows of one file in their order. PRIVATE."""

    columns: dict[str, list[Any]]
    """Our field -> raw values, MISSING among them."""
    lines: list[int] = field(default_factory=list)
    """Where each row starts."""
    rejects: list[tuple[int, Reject]] = field(default_factory=list)
    """Rows that could not be read, each with the number of those in `lines` that stand before it."""

    def add(self, line: int, values: list[Any]) -> None:
        """One row more; its values in the order of the columns."""
        self.lines.append(line)
        for column, value in zip(self.columns.values(), values, strict=True):
            column.append(value)

    def reject(self, reject: Reject) -> None:
        """One row that could not be read."""
        self.rejects.append((len(self.lines), reject))

    def __len__(self) -> int:
        return len(self.lines) + len(self.rejects)

    def load_data(self) -> RawBatch:
        """Itself: nothing was left on disk."""
        return self

    def parse(self) -> RawBatch:
        """Itself: its rows are found already."""
        return self

    def rows(self) -> Iterator[Row | Reject]:
        """Row by row, in the order of the file."""
        done = 0
        for position, reject in [*self.rejects, (len(self.lines), None)]:
            for i in range(done, position):
                yield Row(self.lines[i], {name: values[i] for name, values in self.columns.items() if values[i] is not MISSING})
            done = position
            if reject is not None:
                yield reject


class Chunk(Protocol):
    """A piece of a file that holds whole rows and can be sent to another process of this machine."""

    def load_data(self) -> Chunk:
        """Itself, with what it may have left on disk: now it can be sent to any machine. Raises DataError: that cannot be read any more."""
        ...

    def parse(self) -> RawBatch:
        """Its rows. Raises DataError: as load_data."""
        ...
