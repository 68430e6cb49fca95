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
_LINE_FEED, _CARRIAGE_RETURN, _OPEN, _CLOSE = b"\n\r{}"


@dataclass(frozen=True, slots=True)
class JsonBlock:
    """Some whole lines of a file of JSON lines, not parsed yet. PRIVATE."""

    columns: dict[str, str]
    """Our field -> their key."""
    block: Block

    def load_data(self) -> JsonBlock:
        """Itself, with the bytes that were left on disk. Raises DataError: they cannot be read any more."""
        return JsonBlock(self.columns, self.block.load_data())

    def parse(self) -> RawBatch:
        """Its rows; blank lines are none. Raises DataError: as load_data."""
        return self.load_data()._parse()

    def _parse(self) -> RawBatch:
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
        data = self.block.data
        if self.block.codec != "utf-8" or len(data) > MAX_LINE_BYTES or not (num_lines := count_object_lines(data)) or not _is_utf8_block(data):
            return None
        try:
            rows = _make_decoder(columns).decode_lines(data)
        except (ValueError, RecursionError):
            return None
        # Each line holds one value or more: as many values as lines are one each.
        if len(rows) != num_lines:
            return None
        batch.lines = list(range(self.block.first_line, self.block.first_line + num_lines))
        return rows

    def _read_each_line(self, columns: tuple[str, ...], batch: RawBatch) -> list[Any]:
        decode, rows = _make_decoder(columns).decode, list[Any]()
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


def count_object_lines(data: bytes) -> int:
    """How many lines these are, where each begins with a brace and ends with one; otherwise 0.

    Between the two braces at a line end no value can go on: inside a text there is no line end, and elsewhere a comma would have to stand between them.
    So in such lines every value of JSON begins and ends within one line, whoever reads on from one to the next. The line end may be CRLF. PRIVATE.

    >>> count_object_lines(b'{"a": 1}\\n{"a": 2}\\n'), count_object_lines(b'{"a":\\n1}\\n')
    (2, 0)
    """
    import numpy as np

    if not data:
        return 0
    signs = np.frombuffer(data, dtype=np.uint8)
    begins = np.flatnonzero(signs == _LINE_FEED) + 1
    ends = begins - 2
    if not data.endswith(b"\n"):
        ends = np.append(ends, len(data) - 1)
    begins = np.concatenate(([0], begins[begins < len(data)]))
    # A place before the first byte counts from the last one: such a line is empty, and does not begin with a brace.
    ends = ends - (signs[ends] == _CARRIAGE_RETURN)
    return len(ends) if (signs[begins] == _OPEN).all() and (signs[ends] == _CLOSE).all() else 0


def _is_utf8_block(data: bytes) -> bool:
    """`is_utf8` of megabytes, without making a text of them."""
    import pyarrow

    offsets = len(data).to_bytes(8, "little").rjust(16, b"\0")
    text = pyarrow.Array.from_buffers(pyarrow.large_string(), 1, [None, pyarrow.py_buffer(offsets), pyarrow.py_buffer(data)])
    try:
        text.validate(full=True)
    except pyarrow.ArrowInvalid:
        return False
    return True


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
def _make_decoder(columns: tuple[str, ...]) -> Any:
    """From lines to rows with these columns; what else stands in a line is read past. Raises ValueError or RecursionError."""
    import msgspec

    try:
        return msgspec.json.Decoder(_row_type(len(columns), columns))
    except ValueError:
        return _Refusal()


class _Refusal:
    """For a name with a quotation mark or a control character: every line goes the long way."""

    def decode(self, _: bytes) -> NoReturn:
        raise ValueError

    decode_lines = decode


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
