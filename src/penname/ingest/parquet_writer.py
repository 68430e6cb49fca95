"""Parquet files of our dataclasses, written row group by row group under a temporary name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_type_hints

from penname.run_dir import write_atomic

_GROUP_ROWS = 20_000
_GROUP_BYTES = 16 * 2**20
_DISTINCT = ("source", "title", "text")
"""Columns with hardly a value twice: a dictionary would be work for nothing, and packing more work than the disk that it spares is worth."""


@contextmanager
def write_parquet(path: Path, row_type: type) -> Generator[Callable[[Any], None]]:
    """Opens a Parquet file for rows of one flat dataclass; memory holds one row group beside what is added.

    Args:
      path: Takes the file when the block ends well; nothing is left of it otherwise.
      row_type: Dataclass of str, `str | None` and int fields.
    Returns:
      A function that adds a Polars frame with these columns.
    """
    import polars
    import pyarrow
    import pyarrow.parquet

    schema = _arrow_schema(row_type)
    repeated = [name for name in schema.names if name not in _DISTINCT]
    options = {"compression": {name: "none" if name in _DISTINCT else "lz4" for name in schema.names}, "use_dictionary": repeated, "write_statistics": False}
    with write_atomic(path, "wb") as handle, pyarrow.parquet.ParquetWriter(handle, schema, **options) as writer:

        def add(frame: Any) -> None:
            bytes_a_row = frame.estimated_size() / max(1, frame.height)
            group_rows = max(1, min(_GROUP_ROWS, int(_GROUP_BYTES / max(1, bytes_a_row))))
            for group in frame.select(schema.names).iter_slices(group_rows):
                writer.write_table(group.to_arrow(compat_level=polars.CompatLevel.oldest()).cast(schema))

        yield add


def _arrow_schema(row_type: type) -> Any:
    import pyarrow

    # Texts as Polars hands them over without another copy; in the file both kinds of string are the same.
    types = {str: pyarrow.large_string(), int: pyarrow.int64(), str | None: pyarrow.large_string()}
    hints = get_type_hints(row_type)
    return pyarrow.schema(
        [pyarrow.field(field.name, types[hints[field.name]], nullable=hints[field.name] == str | None) for field in dataclasses.fields(row_type)]
    )
