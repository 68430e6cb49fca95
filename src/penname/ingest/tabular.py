"""Rows of any table: CSV, TSV, JSON lines and Parquet, renamed to our fields by a mapping; one row at a time.

A row that cannot be read becomes a Reject, so that one bad line does not end a run; a file that cannot be read raises.
"""

from __future__ import annotations

import contextlib
import csv
import difflib
import itertools
import json
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penname.errors import DataError, UsageError
from penname.ingest.input_file import MAX_LINE_BYTES, Line, check_file, check_text_file, plain_suffix, read_lines
from penname.ingest.rejects import MALFORMED_HINTS, Reject

_KINDS = {".csv": "csv", ".tsv": "csv", ".tab": "csv", ".txt": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet"}
_DELIMITERS = {",": "','", ";": "';'", "\t": '"\\t"', "|": "'|'"}
_PROBE_ROWS = 100
_PARQUET_BATCH_ROWS = 512
# A review of more lines than this, in a row that does not fit the header, is an open quote that swallowed its neighbours.
_OPEN_QUOTE_LINES = 20


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it stands in the file. PRIVATE."""

    line: int
    """Where it starts; in Parquet the number of the row; both count from 1."""
    values: dict[str, Any]
    """Our field -> raw value. A field that the row does not have is not there."""


@dataclass(frozen=True, slots=True)
class Table:
    """A file of rows and how to read it; `check` it before `read_table`."""

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
        kind = _KINDS.get(plain_suffix(self.path))
        if kind is None:
            raise DataError(f"{self.path}: the name must end in .csv, .tsv, .jsonl or .parquet (text also with .gz), so that its format is known")
        return kind

    @property
    def actual_delimiter(self) -> str:
        """The configured delimiter, else what the name says."""
        return self.delimiter or ("\t" if plain_suffix(self.path) in (".tsv", ".tab") else ",")


def check_table(table: Table) -> None:
    """Looks at the head of the file: is it what its name says, and does it have the mapped columns?

    Raises:
      DataError: the file cannot be used.
      UsageError: the mapping, the delimiter or the encoding does not fit it.
    """
    start = check_file(table.path)
    if table.kind == "parquet":
        _check_parquet(table, start)
        return
    check_text_file(table.path, encoding=table.encoding)
    if table.kind == "csv":
        _check_csv_header(table)
    else:
        _check_json_lines(table)


def read_table(table: Table, *, advance: Callable[[float], None]) -> Iterator[Row | Reject]:
    """Reads a checked table row by row.

    Args:
      table: What check_table accepted.
      advance: Told how many bytes of the file were read since the last call.
    Returns:
      Rows and rejects in the order of the file. PRIVATE.
    Raises:
      DataError: the file breaks off or is damaged on the way.
    """
    reader = {"csv": _read_csv, "jsonl": _read_json_lines, "parquet": _read_parquet}[table.kind]
    return reader(table, advance)


# --- CSV -------------------------------------------------------------------------------------------------------------


class _LineFeed:
    """Hands lines to the csv module and remembers what was wrong with those of the current row."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self.problem: str | None = None

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.problem = self.problem or line.problem
            yield line.text


@contextmanager
def _wide_csv_fields() -> Generator[None]:
    """The csv module's own limit of 131,072 characters is a setting of the process: widen it, and put it back."""
    before = csv.field_size_limit(MAX_LINE_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _csv_reader(feed: _LineFeed, delimiter: str) -> Any:
    """A strict reader: a lenient one takes a stray quote for an opening one, and puts the rows of other users into this row's text."""
    return csv.reader(feed, delimiter=delimiter, strict=True)


def _read_csv(table: Table, advance: Callable[[float], None]) -> Iterator[Row | Reject]:
    feed = _LineFeed(read_lines(table.path, encoding=table.encoding, advance=advance))
    reader = _csv_reader(feed, table.actual_delimiter)
    header: list[str] | None = None
    index: dict[str, int] = {}
    with _wide_csv_fields():
        while True:
            first, feed.problem = reader.line_num + 1, None
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield _reject_csv_error(str(error), first, reader.line_num)
                continue
            if not cells and feed.problem is None:
                continue
            if header is None:
                header = _clean_header(cells)
                index = {field: header.index(column) for field, column in table.columns.items()}
                continue
            reject = _check_cells(cells, len(header), feed.problem, first, reader.line_num)
            yield reject or Row(first, {field: cells[i] for field, i in index.items()})


def _check_cells(cells: list[str], num_fields: int, problem: str | None, first: int, last: int) -> Reject | None:
    """Why these cells are no row of the table, or None."""
    if problem is not None:
        return Reject(first, problem)
    if len(cells) == num_fields:
        return None
    if last - first >= _OPEN_QUOTE_LINES:
        return Reject(first, "unclosed_quote", f"the row runs on to line {last}", last - first + 1)
    return Reject(first, "wrong_num_fields", f"{len(cells)} fields, the header has {num_fields}")


def _reject_csv_error(message: str, first: int, last: int) -> Reject:
    if "unexpected end of data" in message:
        return Reject(first, "unclosed_quote", "the quote is still open at the end of the file", last - first + 1)
    if last > first:
        return Reject(first, "unclosed_quote", f"the row runs on to line {last}", last - first + 1)
    if "field larger than field limit" in message:
        return Reject(first, "line_too_long")
    return Reject(first, "malformed_csv", message.split(" - ")[0])


def _clean_header(cells: list[str]) -> list[str]:
    return [cell.strip() for cell in cells]


def _check_csv_header(table: Table) -> None:
    if table.actual_delimiter in '\r\n"':
        raise UsageError(f"data.delimiter: {table.actual_delimiter!r} cannot separate columns; use ',', ';', '|' or \"\\t\"")
    # Closed here: what is left half read would stay open for as long as an error holds its frames.
    with _wide_csv_fields(), contextlib.closing(read_lines(table.path, encoding=table.encoding, advance=lambda _: None)) as lines:
        feed = _LineFeed(itertools.islice(lines, _PROBE_ROWS))
        try:
            cells = next((cells for cells in _csv_reader(feed, table.actual_delimiter) if cells or feed.problem), None)
        except csv.Error as error:
            raise DataError(f"{table.path}:1: the header is no line of CSV ({error}); repair it, and end lines with a line feed") from None
    if cells is None:
        raise DataError(f"{table.path}: holds no rows; name a file with a header and rows in it")
    if feed.problem is not None:
        raise DataError(f"{table.path}:1: the header cannot be read ({feed.problem}); {MALFORMED_HINTS[feed.problem]}")
    header = _clean_header(cells)
    if len(header) == 1 and len(set(table.columns.values())) > 1:
        _explain_one_column(table, cells[0])
    _check_columns(table, header)


def _explain_one_column(table: Table, head: str) -> None:
    """Raises what to do about a header that the delimiter does not cut."""
    count, likely = max((head.count(char), char) for char in _DELIMITERS)
    hint = f"it looks like {_DELIMITERS[likely]}: set data.delimiter: {_DELIMITERS[likely]}" if count else "is this a table with a header line?"
    raise UsageError(f"{table.path}:1: the header has one column with delimiter {table.actual_delimiter!r}; {hint}")


def _check_columns(table: Table, header: list[str]) -> None:
    """Every mapped column must be there, once."""
    for field, column in table.columns.items():
        if header.count(column) > 1:
            raise UsageError(f"{table.explain_field(field)} {column!r}, which is there {header.count(column)} times in {table.path}; give each its own name")
        if column not in header:
            close = difflib.get_close_matches(column, header, n=1) or [name for name in header if name.lower() == column.lower()]
            hint = f", did you mean {close[0]!r}?" if close else ""
            # Without a header line these would be values: show enough to see the mistake, no more.
            shown = ", ".join(repr(name[:40]) for name in header[:20]) + (", ..." if len(header) > 20 else "")
            raise UsageError(f"{table.explain_field(field)} {column!r}, which {table.path} does not have{hint}; its columns are {shown}")


# --- JSON lines ------------------------------------------------------------------------------------------------------


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
    return value if isinstance(value, dict) else Reject(line.number, "not_an_object", f"a {type(value).__name__}")


def _objects(table: Table, advance: Callable[[float], None]) -> Iterator[tuple[int, dict[str, Any] | Reject]]:
    for line in read_lines(table.path, encoding=table.encoding, advance=advance):
        if line.problem is not None or (line.text and not line.text.isspace()):
            yield line.number, parse_json_line(line)


def _read_json_lines(table: Table, advance: Callable[[float], None]) -> Iterator[Row | Reject]:
    columns = list(table.columns.items())
    for number, value in _objects(table, advance):
        if isinstance(value, Reject):
            yield value
        else:
            yield Row(number, {field: value[column] for field, column in columns if column in value})


def _check_json_lines(table: Table) -> None:
    """An array is told apart from lines; a column that none of the first rows has is a wrong mapping, not a hole in the data."""
    with contextlib.closing(read_lines(table.path, encoding=table.encoding, advance=lambda _: None)) as lines:
        first = next((line for line in lines if line.problem or not line.text.isspace()), None)
    if first is None:
        raise DataError(f"{table.path}: holds no rows; name a file with rows in it")
    if first.text.lstrip().startswith("[") and isinstance(parse_json_line(first), Reject):
        raise DataError(f"{table.path}:{first.number}: is one JSON array, not JSON lines; write one object a line (jq -c '.[]' does)")
    values = [value for _, value in itertools.islice(_objects(table, lambda _: None), _PROBE_ROWS) if isinstance(value, dict)]
    if values:
        _check_columns(table, list(dict.fromkeys(column for value in values for column in value)))


# --- Parquet ---------------------------------------------------------------------------------------------------------


def _check_parquet(table: Table, start: bytes) -> None:
    if table.path.suffix.lower() == ".gz":
        raise DataError(f"{table.path}: Parquet is compressed inside already; unpack it and name it {table.path.stem}")
    if not start.startswith(b"PAR1"):
        is_object = start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{")
        hint = "it looks like JSON lines: rename it to .jsonl" if is_object else "if it is text, rename it to .csv, .tsv or .jsonl"
        raise DataError(f"{table.path}: is named .parquet but is no Parquet file; {hint}")
    with _open_parquet(table.path) as file:
        if not file.metadata.num_rows:
            raise DataError(f"{table.path}: holds no rows; name a file with rows in it")
        _check_columns(table, list(file.schema_arrow.names))


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


def _read_parquet(table: Table, advance: Callable[[float], None]) -> Iterator[Row | Reject]:
    names = list(dict.fromkeys(table.columns.values()))
    number = 0
    with _open_parquet(table.path) as file:
        bytes_a_row = table.path.stat().st_size / max(1, file.metadata.num_rows)
        for batch in file.iter_batches(batch_size=_PARQUET_BATCH_ROWS, columns=names, use_threads=False):
            for value in _batch_rows(batch):
                number += 1
                if value is None:
                    yield Reject(number, "undecodable_bytes")
                else:
                    yield Row(number, {field: value[column] for field, column in table.columns.items()})
            advance(batch.num_rows * bytes_a_row)


def _batch_rows(batch: Any) -> Iterator[dict[str, Any] | None]:
    """Rows of a batch; None where a string is not UTF-8, which Parquet does not rule out."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for i in range(batch.num_rows):
            try:
                yield batch.slice(i, 1).to_pylist()[0]
            except UnicodeDecodeError:
                yield None
