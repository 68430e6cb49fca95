"""Rows of any table: CSV, TSV, JSON lines and Parquet, renamed to our fields by a mapping.

A row that cannot be read becomes a Reject, so that one bad line does not end a run; a file that cannot be read raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from penname.ingest.csv_rows import check_csv, read_csv
from penname.ingest.input_file import check_file, check_text_file
from penname.ingest.json_lines import check_json_lines, read_json_lines
from penname.ingest.parquet_rows import check_parquet, read_parquet
from penname.ingest.raw_batch import Chunk, Row
from penname.ingest.rejects import Reject
from penname.ingest.table import Table


def check_table(table: Table) -> None:
    """Looks at the head of the file: is it what its name says, and does it have the mapped columns?

    Raises:
      DataError: the file cannot be used.
      UsageError: the mapping, the delimiter or the encoding does not fit it.
    """
    start = check_file(table.path)
    if table.kind == "parquet":
        check_parquet(table, start)
        return
    check_text_file(table.path, encoding=table.encoding)
    {"csv": check_csv, "jsonl": check_json_lines}[table.kind](table)


def read_chunks(table: Table, *, advance: Callable[[float], None]) -> Iterator[Chunk]:
    """Reads a checked table, some thousands of rows at a time.

    Args:
      table: What check_table accepted.
      advance: Told how many bytes of the file were read since the last call.
    Returns:
      Chunks in the order of the file. PRIVATE.
    Raises:
      DataError: the file breaks off or is damaged on the way.
    """
    return {"csv": read_csv, "jsonl": read_json_lines, "parquet": read_parquet}[table.kind](table, advance)


def read_table(table: Table, *, advance: Callable[[float], None]) -> Iterator[Row | Reject]:
    """Reads a checked table row by row; arguments and errors are those of read_chunks. PRIVATE."""
    for chunk in read_chunks(table, advance=advance):
        yield from chunk.parse().rows()
