"""JSON lines: a file is cut into blocks of whole lines, and a worker parses a block."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NoReturn

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
        batch = RawBatch({field: [] for field in self.columns})
        if self.block.is_too_long:
            batch.reject(Reject(self.block.first_line, "line_too_long"))
            return batch
        columns = tuple(dict.fromkeys(self.columns.values()))
        rows = self._read_plain_lines(columns, batch)
        if rows is None:
            rows = self._read_each_line(columns, batch)
        for field, column in self.columns.items():
            batch.columns[field] = list(map(attrgetter(f"column_{columns.index(column)}"), rows))
        return batch

    def _read_plain_lines(self, columns: tuple[str, ...], batch: RawBatch) -> list[Any] | None:
        """All lines at once, or None where one of them is not simply an object. What becomes of a line is the same either way."""
        lines = self._split()
        if self.block.codec != "utf-8" or len(self.block.data) > MAX_LINE_BYTES or not is_utf8(self.block.data):
            return None
        try:
            rows = list(map(_make_decode(columns), lines))
        except (ValueError, RecursionError):
            return None
        batch.lines = list(range(self.block.first_line, self.block.first_line + len(lines)))
        return rows

    def _read_each_line(self, columns: tuple[str, ...], batch: RawBatch) -> list[Any]:
        decode, rows = _make_decode(columns), list[Any]()
        for number, line in enumerate(self._split(), self.block.first_line):
            try:
                # A value that is read past is not decoded: that it is text must be seen otherwise.
                if self.block.codec != "utf-8" or len(line) > MAX_LINE_BYTES or not is_utf8(line):
                    raise ValueError
                row = decode(line)
            except (ValueError, RecursionError):
                row = self._read_odd_line(line, number, columns)
            if isinstance(row, Reject):
                batch.reject(row)
            elif row is not None:
                batch.lines.append(number)
                rows.append(row)
        return rows

    def _split(self) -> list[bytes]:
        lines = self.block.data.split(b"\n")
        return lines if lines[-1] else lines[:-1]

    def _read_odd_line(self, data: bytes, number: int, columns: tuple[str, ...]) -> Any | Reject | None:
        """A line that is not simply an object: a row all the same, a reject, or None where it is blank."""
        line = decode_line(data, number, self.block.codec)
        if line.problem is None and not line.text.strip():
            return None
        value = parse_json_line(line)
        if not isinstance(value, dict):
            return value
        return _row_type(len(columns))(*(value.get(column, MISSING) for column in columns))


def is_utf8(data: bytes) -> bool:
    """Whether bytes are UTF-8."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@functools.lru_cache(maxsize=64)
def _row_type(num_columns: int, columns: tuple[str, ...] | None = None) -> type:
    """A row with values of any type, MISSING where it has none."""
    import msgspec

    names = [f"column_{i}" for i in range(num_columns)]
    return msgspec.defstruct("Row", [(name, Any, MISSING) for name in names], rename=dict(zip(names, columns, strict=True)) if columns else None, gc=False)


@functools.lru_cache(maxsize=64)
def _make_decode(columns: tuple[str, ...]) -> Callable[[bytes], Any]:
    """A function from a line to a row with these columns; what else stands in the line is read past. Raises ValueError or RecursionError."""
    import msgspec

    try:
        return msgspec.json.Decoder(_row_type(len(columns), columns)).decode
    except ValueError:
        # A name with a quotation mark or a control character: every line goes the long way.
        return _refuse


def _refuse(_: bytes) -> NoReturn:
    raise ValueError


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
