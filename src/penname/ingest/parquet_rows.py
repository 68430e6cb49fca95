"""Parquet: rows by column, as pyarrow gives them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from penname.errors import DataError
from penname.ingest.raw_batch import RawBatch
from penname.ingest.rejects import Reject
from penname.ingest.table import Table, check_columns

_BATCH_ROWS = 2048


def check_parquet(table: Table, start: bytes) -> None:
    """Looks at the schema.

    Args:
      table: The file.
      start: Its first bytes.
    Raises:
      DataError: it is no Parquet file, damaged or empty.
      UsageError: the mapping does not fit it.
    """
    if table.path.suffix.lower() in (".gz", ".zst"):
        raise DataError(f"{table.path}: Parquet is compressed inside already; unpack it and name it {table.path.stem}")
    if not start.startswith(b"PAR1"):
        is_object = start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{")
        hint = "it looks like JSON lines: rename it to .jsonl" if is_object else "if it is text, rename it to .csv, .tsv or .jsonl"
        raise DataError(f"{table.path}: is named .parquet but is no Parquet file; {hint}")
    with _open_parquet(table.path) as file:
        if not file.metadata.num_rows:
            raise DataError(f"{table.path}: holds no rows; name a file with rows in it")
        check_columns(table, list(file.schema_arrow.names))


def read_parquet(table: Table, advance: Callable[[float], None]) -> Iterator[RawBatch]:
    """Reads a checked file.

    Args:
      table: What check_parquet accepted.
      advance: Told how many bytes of the file were read since the last call.
    Returns:
      Its rows; `line` is the number of the row. PRIVATE.
    Raises:
      DataError: the file is damaged on the way.
    """
    names = list(dict.fromkeys(table.columns.values()))
    number = 1
    with _open_parquet(table.path) as file:
        bytes_a_row = table.path.stat().st_size / max(1, file.metadata.num_rows)
        for arrow in file.iter_batches(batch_size=_BATCH_ROWS, columns=names, use_threads=False):
            batch = _read_columns(table, arrow, number)
            yield batch
            number += arrow.num_rows
            advance(arrow.num_rows * bytes_a_row)


def _read_columns(table: Table, arrow: Any, number: int) -> RawBatch:
    try:
        values = {name: arrow.column(name).to_pylist() for name in arrow.schema.names}
    except UnicodeDecodeError:
        return _read_rows(table, arrow, number)
    return RawBatch({field: values[column] for field, column in table.columns.items()}, list(range(number, number + arrow.num_rows)))


def _read_rows(table: Table, arrow: Any, number: int) -> RawBatch:
    """Row by row, for some string is not UTF-8, which Parquet does not rule out."""
    batch = RawBatch({field: [] for field in table.columns})
    for i in range(arrow.num_rows):
        try:
            values = arrow.slice(i, 1).to_pylist()[0]
        except UnicodeDecodeError:
            batch.reject(Reject(number + i, "undecodable_bytes"))
        else:
            batch.add(number + i, [values[column] for column in table.columns.values()])
    return batch


@contextmanager
def _open_parquet(path: Path) -> Generator[Any]:
    """Opens a Parquet file and turns what is wrong with it into one line."""
    import pyarrow
    import pyarrow.parquet

    try:
        # buffer_size: column chunks are streamed, so that a row group larger than memory can be read.
        with pyarrow.parquet.ParquetFile(path, memory_map=False, pre_buffer=False, buffer_size=1 << 20) as file:
            yield file
    except (pyarrow.ArrowException, OSError) as error:
        message = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise DataError(f"{path}: the Parquet file is cut off or damaged; fetch or write it again ({message})") from None
