"""Parquet files of our dataclasses, written row group by row group under a temporary name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_type_hints

from penname.run_dir import write_atomic

_GROUP_ROWS = 10_000
_GROUP_CHARS = 16 * 2**20


@contextmanager
def write_parquet(path: Path, row_type: type) -> Generator[Callable[[Any], None]]:
    """Opens a Parquet file for rows of one flat dataclass; memory holds one row group.

    Args:
      path: Takes the file when the block ends well; nothing is left of it otherwise.
      row_type: Dataclass of str, `str | None` and int fields.
    Returns:
      A function that adds one row.
    """
    import pyarrow
    import pyarrow.parquet

    schema = _arrow_schema(row_type)
    columns: dict[str, list[Any]] = {name: [] for name in schema.names}
    num_rows = num_chars = 0

    with write_atomic(path, "wb") as handle, pyarrow.parquet.ParquetWriter(handle, schema, compression="zstd") as writer:

        def flush() -> None:
            nonlocal num_rows, num_chars
            if num_rows:
                writer.write_table(pyarrow.table(columns, schema=schema))
            for values in columns.values():
                values.clear()
            num_rows = num_chars = 0

        def add(row: Any) -> None:
            nonlocal num_rows, num_chars
            for name, values in columns.items():
                value = getattr(row, name)
                values.append(value)
                num_chars += len(value) if isinstance(value, str) else 0
            num_rows += 1
            if num_rows >= _GROUP_ROWS or num_chars >= _GROUP_CHARS:
                flush()

        yield add
        flush()


def _arrow_schema(row_type: type) -> Any:
    import pyarrow

    types = {str: pyarrow.string(), int: pyarrow.int64(), str | None: pyarrow.string()}
    hints = get_type_hints(row_type)
    return pyarrow.schema(
        [pyarrow.field(field.name, types[hints[field.name]], nullable=hints[field.name] == str | None) for field in dataclasses.fields(row_type)]
    )
