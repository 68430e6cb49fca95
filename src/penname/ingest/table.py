"""A file of rows and the mapping of its columns to our fields."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from penname.errors import DataError, UsageError
from penname.ingest.input_file import plain_suffix

KINDS = {".csv": "csv", ".tsv": "csv", ".tab": "csv", ".txt": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet"}
"""Ending of a name -> how the file is read."""


@dataclass(frozen=True, slots=True)
class Table:
    """A file of rows and how to read it; `check_table` it before it is read."""

    path: Path
    columns: dict[str, str]
    """Our field -> their column."""
    encoding: str = "utf-8"
    delimiter: str | None = None
    option: str = "data.columns"
    """Where the mapping stands in the config, for messages."""

    def explain_field(self, field: str) -> str:
        """Which setting made a column stand for this field, for messages."""
        return "privacy.unit_column: is" if field == "unit_id" else f"{self.option}: {field} is mapped to"

    @property
    def kind(self) -> str:
        """csv, jsonl or parquet, by the ending of the name.

        Raises:
          DataError: the ending is none of those.
        """
        kind = KINDS.get(plain_suffix(self.path))
        if kind is None:
            raise DataError(f"{self.path}: the name must end in .csv, .tsv, .jsonl or .parquet (text also with .gz or .zst), so that its format is known")
        return kind

    @property
    def actual_delimiter(self) -> str:
        """The configured delimiter, else what the name says."""
        return self.delimiter or ("\t" if plain_suffix(self.path) in (".tsv", ".tab") else ",")


def check_columns(table: Table, header: list[str]) -> None:
    """Sees to it that every mapped column is there, once.

    Raises:
      UsageError: one is not; names it, the setting and the columns that there are.
    """
    for field, column in table.columns.items():
        if header.count(column) > 1:
            raise UsageError(f"{table.explain_field(field)} {column!r}, which is there {header.count(column)} times in {table.path}; give each its own name")
        if column not in header:
            close = difflib.get_close_matches(column, header, n=1) or [name for name in header if name.lower() == column.lower()]
            hint = f", did you mean {close[0]!r}?" if close else ""
            # Without a header line these would be values: show enough to see the mistake, no more.
            shown = ", ".join(repr(name[:40]) for name in header[:20]) + (", ..." if len(header) > 20 else "")
            raise UsageError(f"{table.explain_field(field)} {column!r}, which {table.path} does not have{hint}; its columns are {shown}")
