"""JSON lines: a file is cut into blocks of whole lines, and a worker parses a block."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from penname.errors import DataError
from penname.ingest.input_file import MAX_LINE_BYTES, Block, Line, decode_line, read_blocks, read_lines
from penname.ingest.raw_batch import MISSING, RawBatch
from penname.ingest.rejects import Reject
from penname.ingest.table import Table, check_columns

_PROBE_ROWS = 100


@dataclass(frozen=True, slots=True)
class JsonBlock:
    """Some whole lines of a file of JSON lines, not parsed yet. PRIVATE."""

    columns: dict[str, str]
    """Our field -> their key."""
    block: Block

    def parse(self) -> RawBatch:
        """Its rows; blank lines are none."""
        import orjson

        batch = RawBatch({field: [] for field in self.columns})
        if self.block.is_too_long:
            batch.reject(Reject(self.block.first_line, "line_too_long"))
            return batch
        rows: list[dict[str, Any]] = []
        codec = self.block.codec
        for number, data in enumerate(self.block.data.split(b"\n"), self.block.first_line):
            try:
                # Nothing is no JSON: what cannot be handed over as it is goes the other way.
                value = orjson.loads(data if codec == "utf-8" and len(data) <= MAX_LINE_BYTES else b"")
            except orjson.JSONDecodeError:
                line = decode_line(data, number, codec)
                if line.problem is None and not line.text.strip():
                    continue
                value = parse_json_line(line)
            if type(value) is dict:
                batch.lines.append(number)
                rows.append(value)
            else:
                batch.reject(value if isinstance(value, Reject) else _not_an_object(number, value))
        for field, column in self.columns.items():
            batch.columns[field] = [row.get(column, MISSING) for row in rows]
        return batch


def read_json_lines(table: Table, advance: Callable[[float], None]) -> Iterator[JsonBlock]:
    """Reads a checked file.

    Args:
      table: What check_json_lines accepted.
      advance: Told how many bytes of the file were read since the last call.
    Returns:
      Its rows, not parsed yet. PRIVATE.
    Raises:
      DataError: the file breaks off or is damaged on the way.
    """
    for block in read_blocks(table.path, encoding=table.encoding, advance=advance):
        yield JsonBlock(table.columns, block)


def check_json_lines(table: Table) -> None:
    """Looks at the first lines.

    An array is told apart from lines; a column that none of the first rows has is a wrong mapping, not a hole in the data.

    Raises:
      DataError: these are no JSON lines, or there are none.
      UsageError: the mapping does not fit them.
    """
    with contextlib.closing(read_lines(table.path, encoding=table.encoding, advance=lambda _: None)) as lines:
        found = list(itertools.islice((line for line in lines if line.problem or not line.text.isspace()), _PROBE_ROWS))
    if not found:
        raise DataError(f"{table.path}: holds no rows; name a file with rows in it")
    values = [parse_json_line(line) for line in found]
    if found[0].text.lstrip().startswith("[") and isinstance(values[0], Reject):
        raise DataError(f"{table.path}:{found[0].number}: is one JSON array, not JSON lines; write one object a line (jq -c '.[]' does)")
    objects = [value for value in values if isinstance(value, dict)]
    if objects:
        check_columns(table, list(dict.fromkeys(column for value in objects for column in value)))


def parse_json_line(line: Line) -> dict[str, Any] | Reject:
    """One JSON object, or why it is none. The detail of a reject never quotes the line."""
    if line.problem is not None:
        return Reject(line.number, line.problem)
    import orjson

    try:
        value = orjson.loads(line.text)
    except orjson.JSONDecodeError:
        # orjson refuses NaN and lone surrogates, which Python's own writer produces.
        try:
            value = json.loads(line.text)
        except json.JSONDecodeError as error:
            return Reject(line.number, "malformed_json", f"{error.msg} at column {error.colno}")
        except (ValueError, RecursionError):
            return Reject(line.number, "malformed_json", "a number too long or nesting too deep")
    return value if isinstance(value, dict) else _not_an_object(line.number, value)


def _not_an_object(number: int, value: Any) -> Reject:
    return Reject(number, "not_an_object", f"a {type(value).__name__}")
