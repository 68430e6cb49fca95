"""CSV and its kin: rows found by Python's strict csv module, which alone knows where a row with line breaks in quotes ends."""

from __future__ import annotations

import contextlib
import csv
import itertools
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

from penname.errors import DataError, UsageError
from penname.ingest.input_file import MAX_LINE_BYTES, Line, read_lines
from penname.ingest.raw_batch import BATCH_CHARS, BATCH_ROWS, RawBatch
from penname.ingest.rejects import MALFORMED_HINTS, Reject
from penname.ingest.table import Table, check_columns

_DELIMITERS = {",": "','", ";": "';'", "\t": '"\\t"', "|": "'|'"}
_PROBE_ROWS = 100
# A review of more lines than this, in a row that does not fit the header, is an open quote that swallowed its neighbours.
_OPEN_QUOTE_LINES = 20


def check_csv(table: Table) -> None:
    """Looks at the header.

    Raises:
      DataError: it cannot be read.
      UsageError: the delimiter or the mapping does not fit it.
    """
    if table.actual_delimiter in '\r\n"':
        raise UsageError(f"data.delimiter: {table.actual_delimiter!r} cannot separate columns; use ',', ';', '|' or \"\\t\"")
    # Closed here: what is left half read would stay open for as long as an error holds its frames.
    with _wide_fields(), contextlib.closing(read_lines(table.path, encoding=table.encoding, advance=lambda _: None)) as lines:
        feed = _LineFeed(itertools.islice(lines, _PROBE_ROWS))
        try:
            cells = next((cells for cells in _strict_reader(feed, table.actual_delimiter) if cells or feed.problem), None)
        except csv.Error as error:
            raise DataError(f"{table.path}:1: the header is no line of CSV ({error}); repair it, and end lines with a line feed") from None
    if cells is None:
        raise DataError(f"{table.path}: holds no rows; name a file with a header and rows in it")
    if feed.problem is not None:
        raise DataError(f"{table.path}:1: the header cannot be read ({feed.problem}); {MALFORMED_HINTS[feed.problem]}")
    header = _clean_header(cells)
    if len(header) == 1 and len(set(table.columns.values())) > 1:
        _explain_one_column(table, cells[0])
    check_columns(table, header)


def read_csv(table: Table, advance: Callable[[float], None]) -> Iterator[RawBatch]:
    """Reads a checked file.

    Args:
      table: What check_csv accepted.
      advance: Told how many bytes of the file were read since the last call.
    Returns:
      Its rows. PRIVATE.
    Raises:
      DataError: the file breaks off or is damaged on the way.
    """
    batch, num_chars = _new_batch(table), 0
    for line, found in _read_rows(table, advance):
        if isinstance(found, Reject):
            batch.reject(found)
        else:
            batch.add(line, found)
            num_chars += sum(map(len, found))
        if len(batch) >= BATCH_ROWS or num_chars >= BATCH_CHARS:
            yield batch
            batch, num_chars = _new_batch(table), 0
    yield batch


def _new_batch(table: Table) -> RawBatch:
    return RawBatch({field: [] for field in table.columns})


def _read_rows(table: Table, advance: Callable[[float], None]) -> Iterator[tuple[int, list[Any] | Reject]]:
    """Where each row starts, and its mapped cells or why there are none."""
    feed = _LineFeed(read_lines(table.path, encoding=table.encoding, advance=advance))
    reader = _strict_reader(feed, table.actual_delimiter)
    header: list[str] | None = None
    index: list[int] = []
    with _wide_fields():
        while True:
            first, feed.problem = reader.line_num + 1, None
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield first, _reject_csv_error(str(error), first, reader.line_num)
                continue
            if not cells and feed.problem is None:
                continue
            if header is None:
                header = _clean_header(cells)
                index = [header.index(column) for column in table.columns.values()]
                continue
            reject = _check_cells(cells, len(header), feed.problem, first, reader.line_num)
            yield first, reject or [cells[i] for i in index]


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
def _wide_fields() -> Generator[None]:
    """The csv module's own limit of 131,072 characters is a setting of the process: widen it, and put it back."""
    before = csv.field_size_limit(MAX_LINE_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _strict_reader(feed: _LineFeed, delimiter: str) -> Any:
    """A lenient reader takes a stray quote for an opening one, and puts the rows of other users into this row's text."""
    return csv.reader(feed, delimiter=delimiter, strict=True)


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


def _explain_one_column(table: Table, head: str) -> None:
    """Raises what to do about a header that the delimiter does not cut."""
    count, likely = max((head.count(char), char) for char in _DELIMITERS)
    hint = f"it looks like {_DELIMITERS[likely]}: set data.delimiter: {_DELIMITERS[likely]}" if count else "is this a table with a header line?"
    raise UsageError(f"{table.path}:1: the header has one column with delimiter {table.actual_delimiter!r}; {hint}")
