"""Rows that were dropped: why, how many, where they stood, and when there are too many of them to go on."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
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


class Tally:
    """What was read of one file and what was rejected; writes each reject as a JSON line."""

    def __init__(self, path: Path, handle: IO[str], *, max_malformed_frac: float) -> None:
        self.path = path
        self.name = path.name.encode("utf-8", "replace").decode()
        self.num_read = 0
        self.num_by_reason: Counter[str] = Counter()
        self.first_line: dict[str, int] = {}
        """Reason -> the line where it was first met."""
        self._handle = handle
        self._max_malformed_frac = max_malformed_frac
        self.num_malformed = 0
        self._first_malformed: Reject | None = None

    def count_row(self) -> None:
        """One readable row more."""
        self.num_read += 1

    def reject(self, reject: Reject, *, was_counted: bool) -> None:
        """Counts and writes a dropped row; `was_counted`: count_row was called for it.

        Raises:
          DataError: from the thousandth row on, when more than the configured share cannot be read.
        """
        self.num_read += 0 if was_counted else reject.num_rows
        self.num_by_reason[reject.reason] += reject.num_rows
        self.first_line.setdefault(reject.reason, reject.line)
        row = {"source": self.name, "line": reject.line, "reason": reject.reason, "detail": reject.detail, "num_rows": reject.num_rows}
        self._handle.write(json.dumps(row, ensure_ascii=False) + "\n")
        if reject.reason in MALFORMED_HINTS:
            self.num_malformed += reject.num_rows
            self._first_malformed = self._first_malformed or reject
            if self.num_read >= _EARLY_CHECK_ROWS:
                self.check_malformed()

    def check_malformed(self) -> None:
        """Compares the share of unreadable rows with what the config allows.

        Raises:
          DataError: there are more; names the share, the first bad line and its reason.
        """
        first = self._first_malformed
        if first is None or self.num_malformed <= self._max_malformed_frac * self.num_read:
            return
        share = 100 * self.num_malformed / self.num_read
        detail = f" ({first.detail})" if first.detail else ""
        raise DataError(
            f"{self.path}:{first.line}: {first.reason}{detail}; {self.num_malformed:,} of the first {self.num_read:,} rows ({share:.1f} %) "
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

    def as_counts(self, num_kept: int) -> dict[str, Any]:
        """The figures for counts.json: rows_read = kept + the sum of rejects."""
        return {"rows_read": self.num_read, "kept": num_kept, "rejects": dict(self.num_by_reason.most_common())}
