"""The training split by unit: records stay in their file and are read when their unit is asked for, so memory does not hold the data set."""

from __future__ import annotations

import hashlib
import json
import os
import weakref
from array import array
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penname.errors import RunDirError

_DIGEST_BYTES = 16


class UnitFile:
    """Every unit of the training split, by index, in the order of their first records.

    In memory are 16 bytes a record and 8 a unit. PRIVATE.
    """

    def __init__(self, path: Path) -> None:
        """Reads the file once, for where its records are and whose.

        Args:
          path: The artefact train_records. PRIVATE.
        Raises:
          RunDirError: the file is missing or damaged.
        """
        self._path = path
        try:
            file = open(path, "rb")
        except FileNotFoundError:
            raise RunDirError(f"{path}: is missing; run the stage that writes it") from None
        weakref.finalize(self, file.close)
        self._file = file
        digests, self._ends = find_records(path)
        self._order, self._starts = group_equal(digests)

    def __len__(self) -> int:
        return len(self._starts) - 1

    @property
    def num_records(self) -> int:
        """Of all units together. PRIVATE."""
        return len(self._order)

    def find_places(self, index: int) -> list[int]:
        """Where the records of one unit stand in the file, in its order. PRIVATE.

        Raises:
          IndexError: there is no such unit.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"there is no unit {index}")
        return self._order[self._starts[index] : self._starts[index + 1]].tolist()

    def read_record(self, place: int) -> dict[str, Any]:
        """The record that stands there. PRIVATE.

        Raises:
          RunDirError: it is damaged.
        """
        start = int(self._ends[place])
        return _parse(self._path, place, os.pread(self._file.fileno(), int(self._ends[place + 1]) - start, start))

    def spread(self, count: int) -> list[int]:
        """At most `count` units from all over the file, and one of several records where there is one. PRIVATE."""
        count = min(count, len(self))
        chosen = {round(i * (len(self) - 1) / max(1, count - 1)) for i in range(count)}
        several = np.flatnonzero(np.diff(self._starts) > 1)
        return sorted(chosen | set(several[:1].tolist()))


def find_records(path: Path) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """A digest of each record's unit, (N, 2), and where each record ends, (N + 1,), from 0."""
    # So long that no two units ever share one: two in one would be clipped as one, and one leaving would change more than its own part.
    digests, ends = bytearray(), array("q", [0])
    with open(path, "rb") as file:
        for place, line in enumerate(file):
            unit_id = _parse(path, place, line)["unit_id"]
            digests += hashlib.blake2b(unit_id.encode(errors="surrogatepass"), digest_size=_DIGEST_BYTES).digest()
            ends.append(ends[-1] + len(line))
    return np.frombuffer(bytes(digests), dtype=np.uint64).reshape(-1, 2), np.frombuffer(ends, dtype=np.int64)


def _parse(path: Path, place: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in ("unit_id", "prompt", "completion")):
        raise RunDirError(f"{path}:{place + 1}: is damaged (not a record)")
    return row


def group_equal(digests: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Groups equal rows, groups in order of first appearance.

    Args:
      digests: (N, 2). PRIVATE.
    Returns:
      Places of the rows group by group, each group ascending, (N,); where each group starts in them, and N, (groups + 1,). PRIVATE.

    >>> order, starts = group_equal(np.array([[7, 1], [2, 2], [7, 1]], dtype=np.uint64))
    >>> order.tolist(), starts.tolist()
    ([0, 2, 1], [0, 2, 3])
    """
    # Stable, so that the rows of a group stay in order.
    by_digest = np.lexsort((digests[:, 1], digests[:, 0]))
    is_first = np.ones(len(by_digest), dtype=bool)
    is_first[1:] = (digests[by_digest[1:]] != digests[by_digest[:-1]]).any(axis=1)
    old_starts = np.flatnonzero(is_first)
    sizes = np.diff(old_starts, append=len(by_digest))
    turn = np.argsort(by_digest[old_starts])
    starts = np.concatenate([[0], np.cumsum(sizes[turn])])
    moved = np.repeat(old_starts[turn] - starts[:-1], sizes[turn])
    return by_digest[np.arange(len(by_digest)) + moved], starts
