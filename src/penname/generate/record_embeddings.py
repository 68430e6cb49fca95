"""Embeddings of private records, each computed when its unit is first drawn, alone, and kept in a temporary file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from penname.generate.votes import Embedded, describe
from penname.unit_file import UnitFile


@dataclass(frozen=True)
class RecordEmbeddings:
    """Records as what the vote looks at. PRIVATE."""

    units: UnitFile
    embed: Callable[[str], NDArray[np.float32]]
    """One text to (D,), unit length; a text alone, so that its numbers do not depend on others."""
    _kept: NDArray[np.float32]
    """(N, D), where computed."""
    _is_kept: NDArray[np.bool_]

    @classmethod
    @contextmanager
    def open(cls, units: UnitFile, embed: Callable[[str], NDArray[np.float32]], *, width: int, folder: Path) -> Generator[RecordEmbeddings]:
        """Args: units: PRIVATE. embed: of one text. width: D. folder: gets the temporary file, 4 D bytes a record."""
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.truncate(max(1, units.num_records) * width * 4)
            kept = np.memmap(file, dtype=np.float32, mode="r+", shape=(max(1, units.num_records), width))
            yield cls(units, embed, kept, np.zeros(units.num_records, dtype=np.bool_))

    @property
    def num_units(self) -> int:
        """In the training split. PRIVATE."""
        return len(self.units)

    def spread(self, count: int) -> list[int]:
        """Units from all over the split. PRIVATE."""
        return self.units.spread(count)

    def read_unit(self, index: int) -> list[Embedded]:
        """The records of one unit. PRIVATE."""
        return [self._read(place) for place in self.units.find_places(index)]

    def _read(self, place: int) -> Embedded:
        row = self.units.read_record(place)
        if not self._is_kept[place]:
            self._kept[place], self._is_kept[place] = self.embed(describe(row["title"], row["text"])), True
        return (int(row["rating"]), str(row["category"])), np.asarray(self._kept[place])
