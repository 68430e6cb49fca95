"""Rows that were dropped: why, how many, where they stood, and when there are too many of them to go on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from penname.errors import DataError

MALFORMED_HINTS = {
    "malformed_json": "the file must hold one JSON object a line",
    "not_an_object": "the file must hold one JSON object a line",
    "malformed_csv": "open the line in an editor and repair it",
    "wrong_num_fields": "look for an unquoted delimiter or line break, and check data.delimiter",
    "unclosed_quote": 'close the quote, or double it ("") where it is part of the text',
    "missing_field": "check the mapping in data.columns",
    "wrong_type": "check the mapping in data.columns, and privacy.unit_column where it is set",
    "malformed_rating": "a rating is a whole number from 1 to 5; map another column or convert it first",
    "undecodable_bytes": "set data.encoding to the encoding of the file (often latin-1, cp1252 or utf-16)",
    "nul_byte": "the file is damaged or not text",
    "line_too_long": "the file is damaged or not one row a line",
}
"""Reasons for which a row counts as unreadable, each with what the user can do about it."""

FILTER_HINTS = {
    "empty_text": "check which column is mapped to text",
    "empty_title": "check which column is mapped to title",
    "no_user_id": "check which column holds the user ids",
    "no_unit_id": "check privacy.unit_column",
    "product_not_in_catalogue": "check that data.catalogue describes the products of data.reviews",
    "no_product_title": "check that data.catalogue, or the column mapped to product_title, holds titles",
    "no_category": "check which column is mapped to category",
    "category_not_in_domain": "compare data.categories with the categories of the data",
    "duplicate": "the rows are copies of each other",
    "no_product_id": "check which column is mapped to product_id",
    "duplicate_product": "the rows are copies of each other",
}
"""Reasons for which a readable row is left out."""

_EARLY_CHECK_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Reject:
    """One dropped row. PRIVATE, yet its detail never quotes the data."""

    line: int
    """The line where the row starts; in Parquet the number of the row; both count from 1."""
    reason: str
    """A key of MALFORMED_HINTS or FILTER_HINTS."""
    detail: str = ""
    num_rows: int = 1
    """Rows lost with it: an open quote can hide thousands of lines."""


def place_rejects(num_rows: int, unread: list[tuple[int, Reject]], dropped: list[tuple[int, Reject]]) -> tuple[list[tuple[Reject, int]], int]:
    """Brings the rejects of some rows of a file into its order, each with the rows that are read when it is met, itself included.

    Args:
      num_rows: Rows that could be read.
      unread: Those that could not, each with the number of rows that could be read before it.
      dropped: Those that were read and are left out: number among the rows that could be read, and why.
    Returns:
      The rejects, and how many rows were read in all. PRIVATE.
    """
    placed: list[tuple[Reject, int]] = []
    num_unread = 0
    # Before the row of the same number stands what could not be read before it.
    for position, was_read, reject in sorted([*((i, 0, r) for i, r in unread), *((i, 1, r) for i, r in dropped)], key=lambda entry: entry[:2]):
        num_unread += 0 if was_read else reject.num_rows
        placed.append((reject, position + was_read + num_unread))
    return placed, num_rows + num_unread


@dataclass(slots=True)
class FileTally:
    """What was read of one file and what was rejected. PRIVATE."""

    path: Path
    name: str
    """As rejects and reviews name it."""
    num_read: int = 0
    num_by_reason: Counter[str] = field(default_factory=Counter)


class Tally:
    """What was read of a data set's files and what was rejected; writes each reject as a JSON line. PRIVATE."""

    def __init__(self, path: Path, handle: IO[bytes], *, max_malformed_frac: float) -> None:
        """path: What the config names, for messages about all of it; handle: takes the rejects."""
        self.path = path
        self.files: list[FileTally] = []
        self.num_read = 0
        self.num_malformed = 0
        self.num_by_reason: Counter[str] = Counter()
        self.first_place: dict[str, str] = {}
        """Reason -> file and line where it was first met."""
        self._handle = handle
        self._max_malformed_frac = max_malformed_frac
        self._first_malformed: tuple[Path, Reject] | None = None

    def begin_file(self, path: Path, name: str) -> None:
        """What is added from here on is of this file."""
        self.files.append(FileTally(path, name))

    def add(self, rejects: Iterable[tuple[Reject, int]], *, num_read: int) -> None:
        """Adds some rows of the current file.

        Args:
          rejects: Those that are dropped, in their order, each with how many of these rows are read when it is met.
          num_read: These rows, the dropped ones included.
        Raises:
          DataError: from the thousandth row on, when more than the configured share cannot be read.
        """
        before, file = self.num_read, self.files[-1]
        for reject, num_until in rejects:
            self.num_read = before + num_until
            self._drop(file, reject)
            if reject.reason in MALFORMED_HINTS:
                self.num_malformed += reject.num_rows
                self._first_malformed = self._first_malformed or (file.path, reject)
                if self.num_read >= _EARLY_CHECK_ROWS:
                    self.check_malformed()
        self.num_read = before + num_read
        file.num_read += num_read

    def drop_later(self, reason: str, places: Iterable[tuple[int, int]]) -> None:
        """Drops rows that were counted before: number of their file and line."""
        for file, line in places:
            self._drop(self.files[file], Reject(line, reason))

    def _drop(self, file: FileTally, reject: Reject) -> None:
        import orjson

        for counter in (self.num_by_reason, file.num_by_reason):
            counter[reject.reason] += reject.num_rows
        self.first_place.setdefault(reject.reason, f"{file.path}:{reject.line}")
        row = {"source": file.name, "line": reject.line, "reason": reject.reason, "detail": reject.detail, "num_rows": reject.num_rows}
        self._handle.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))

    def check_malformed(self) -> None:
        """Compares the share of unreadable rows with what the config allows.

        Raises:
          DataError: there are more; names the share, the first bad line and its reason.
        """
        if self._first_malformed is None or self.num_malformed <= self._max_malformed_frac * self.num_read:
            return
        path, first = self._first_malformed
        share = 100 * self.num_malformed / self.num_read
        detail = f" ({first.detail})" if first.detail else ""
        raise DataError(
            f"{path}:{first.line}: {first.reason}{detail}; {self.num_malformed:,} of the first {self.num_read:,} rows ({share:.1f} %) "
            f"cannot be read, more than data.max_malformed_frac = {self._max_malformed_frac:g} allows; {MALFORMED_HINTS[first.reason]}"
        )

    def check_not_empty(self, *, num_kept: int, rows: str) -> None:
        """Sees to it that something is left.

        Raises:
          DataError: nothing was read, or nothing was kept; names the reason that took most.
        """
        if not self.num_read:
            raise DataError(f"{self.path}: holds no rows; name a file with {rows} in it")
        if not num_kept:
            reason, num = self.num_by_reason.most_common(1)[0]
            hint = {**MALFORMED_HINTS, **FILTER_HINTS}[reason]
            raise DataError(
                f"{self.path}: none of its {self.num_read:,} {rows} is left; most were rejected as {reason} ({num:,}); {hint}",
            )

    def as_counts(self) -> dict[str, Any]:
        """The figures for counts.json: rows_read = kept + the sum of rejects."""
        return _count(self.num_read, self.num_by_reason)


def count_file(file: FileTally) -> dict[str, Any]:
    """The figures of one file, as Tally.as_counts has them of all."""
    return _count(file.num_read, file.num_by_reason)


def _count(num_read: int, num_by_reason: Counter[str]) -> dict[str, Any]:
    by_number = sorted(num_by_reason.items(), key=lambda entry: (-entry[1], entry[0]))
    return {"rows_read": num_read, "kept": num_read - num_by_reason.total(), "rejects": dict(by_number)}
