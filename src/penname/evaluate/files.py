"""Rows of any file that `penname evaluate` is pointed at: JSON lines, CSV, TSV or Parquet; `.gz` as it is."""

from __future__ import annotations

import csv
import gzip
import json
import math
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from penname.errors import DataError, UsageError
from penname.evaluate.samples import MAX_ROWS_HELD, Row, sample_at_most, seeded_generator
from penname.progress import say
from penname.schemas import RATINGS

MIN_ROWS = 20
NEEDED = ("text",)
OPTIONAL = ("rating", "title", "category")
"""Without one of these columns, the metrics that read it are left out."""
_SAFE_NAME = re.compile(r"[A-Za-z0-9_-]+")
_TAKEN_NAMES = ("real", "base")
_FORMATS = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")


def parse_synthetic_options(options: list[str]) -> dict[str, Path]:
    """Reads the values of `--synthetic NAME=F`.

    Args:
      options: One or more `NAME=F`.
    Returns:
      dict[str, Path]: file by name, in the order given.
    Raises:
      UsageError: no option, no `=`, a NAME that is unsafe, taken or given twice.

    >>> parse_synthetic_options(["with_dp=a.jsonl"])["with_dp"].name
    'a.jsonl'
    """
    files: dict[str, Path] = {}
    for option in options:
        name, equals, path = option.partition("=")
        if not equals or not path:
            raise UsageError(f"--synthetic {option}: is not NAME=FILE, such as with_dp=generated.jsonl")
        if name in files:
            raise UsageError(f"--synthetic {name}: the name is given twice; give each file its own")
        files[name] = Path(path)
    check_synthetic_names(files)
    return files


def check_synthetic_names(files: dict[str, Path]) -> None:
    """Raises UsageError unless there is a set and every name can stand as an arm in `metrics.json`."""
    if not files:
        raise UsageError("--synthetic: give at least one NAME=FILE")
    for name in files:
        if not _SAFE_NAME.fullmatch(name):
            raise UsageError(f"--synthetic {name!r}: a name is made of letters, digits, _ and -")
        if name in _TAKEN_NAMES:
            raise UsageError(f"--synthetic {name}: {name!r} is the name of another arm; choose another")


def read_table(path: Path, *, is_synthetic: bool, seed: int) -> list[Row]:
    """Reads the rows that metrics look at: text, and rating, title, category, product_title and finish_reason where present.

    A file that lacks rating, title or category is read without it, and a line on standard error says so. A real row without text is left
    out and counted on standard error: there is nothing to compare. A synthetic row without text stays, as a failure of its generator. Of a
    file with more than MAX_ROWS_HELD rows, that many are sampled.

    Args:
      path: .jsonl, .ndjson, .csv, .tsv (each may end in .gz) or .parquet. PRIVATE when real.
      is_synthetic: Whether the rows were generated.
      seed: Of the sampling.
    Returns:
      list[Row]: at least MIN_ROWS.
    Raises:
      DataError: the file is missing, unreadable, of another format, empty or too small; lacks text, or some rows lack a column that the first one
        has; a rating is no number from 1 to 5. Names the file, the line, and what to do.
    """
    num_without_text, lacking = 0, None

    def convert() -> Iterator[Row]:
        nonlocal num_without_text, lacking
        for place, values in _read_values(path):
            if lacking is None:
                lacking = _find_lacking(path, place, values)
            row = _convert_row(place, values, lacking)
            if not is_synthetic and not row.text.strip():
                num_without_text += 1
            else:
                yield row

    rows = sample_at_most(convert(), MAX_ROWS_HELD, seeded_generator(seed, "read"))
    if num_without_text:
        say(f"{path}: {num_without_text:,} rows without text were left out")
    if not rows:
        raise DataError(f"{path}: holds no rows with text; give a file with text, and where there are any rating, title and category")
    if len(rows) < MIN_ROWS:
        raise DataError(f"{path}: has {len(rows)} rows with text; {MIN_ROWS} or more are needed to compare")
    return rows


def _find_lacking(path: Path, place: str, first: dict[str, Any]) -> tuple[str, ...]:
    """The optional columns that the file lacks, by its first row; says so."""
    _check_columns(place, first, NEEDED)
    lacking = tuple(column for column in OPTIONAL if column not in first)
    if lacking:
        say(f"{path}: has no column {', '.join(lacking)}; metrics that read it are left out")
    return lacking


def _check_columns(place: str, values: dict[str, Any], columns: tuple[str, ...]) -> None:
    for column in columns:
        if column not in values:
            found = ", ".join(str(key) for key in list(values)[:12])
            raise DataError(f"{place}: has no column {column!r} (found: {found}); rename the columns, or check the delimiter")


def _convert_row(place: str, values: dict[str, Any], lacking: tuple[str, ...]) -> Row:
    """One row, checked; `place` is `file:line`. What the file lacks is empty, a rating NaN."""
    _check_columns(place, values, tuple(column for column in (*NEEDED, *OPTIONAL) if column not in lacking))
    words = {}
    for column in ("title", "text", "category", "product_title", "finish_reason"):
        value = values.get(column)
        if value is not None and not isinstance(value, str):
            raise DataError(f"{place}: {column} is not text ({str(value)[:40]!r}); correct the row")
        words[column] = value or ""
    return Row(rating=math.nan if "rating" in lacking else _convert_rating(place, values["rating"]), **words)


def _convert_rating(place: str, value: Any) -> float:
    try:
        rating = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        rating = math.nan
    if not RATINGS[0] <= rating <= RATINGS[-1]:  # false for NaN too
        raise DataError(f"{place}: rating {str(value)[:40]!r} is no number from {RATINGS[0]} to {RATINGS[-1]}; correct or remove the row")
    return rating


def _read_values(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (`file:line`, row); every way in which a file can be unreadable becomes one DataError."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    is_gzip = bool(suffixes) and suffixes[-1] == ".gz"
    suffix = (suffixes[-2:-1] if is_gzip else suffixes[-1:]) or [""]
    if suffix[0] not in _FORMATS or (is_gzip and suffix[0] == ".parquet"):
        raise DataError(f"{path}: is of a format that is not read; give one of {', '.join(_FORMATS)} (text also as .gz)")
    if not path.exists():
        raise DataError(f"{path}: does not exist; check the path")
    if path.is_dir():
        raise DataError(f"{path}: is a folder; give a file")
    try:
        if suffix[0] == ".parquet":
            yield from _read_parquet(path)
        else:
            with gzip.open(path, "rt", encoding="utf-8-sig", newline="") if is_gzip else open(path, encoding="utf-8-sig", newline="") as handle:
                yield from _read_json_lines(path, handle) if suffix[0] in (".jsonl", ".ndjson") else _read_delimited(path, handle, suffix[0])
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not UTF-8; convert it, for example with iconv") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise DataError(f"{path}: the gzip data is cut off or damaged; fetch or compress the file again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check the file and its permissions") from None


def _read_json_lines(path: Path, handle: IO[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for line_num, line in enumerate(handle, 1):
        if not line.strip():
            continue
        place = f"{path}:{line_num}"
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            raise DataError(f"{place}: is not valid JSON; each line must hold one object") from None
        if not isinstance(values, dict):
            raise DataError(f"{place}: is not a JSON object; each line must hold one object with the column text")
        yield place, values


def _read_delimited(path: Path, handle: IO[str], suffix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    reader = csv.DictReader(handle, delimiter="\t" if suffix == ".tsv" else ",", strict=True)
    try:
        for values in reader:
            place = f"{path}:{reader.line_num}"
            if None in values:
                raise DataError(f"{place}: has more fields than the header; quote fields that hold the delimiter")
            yield place, values
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: is not valid CSV ({error}); correct the row") from None


def _read_parquet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            wanted = [name for name in (*NEEDED, *OPTIONAL, "product_title", "finish_reason") if name in file.schema_arrow.names]
            row_num = 0
            for batch in file.iter_batches(batch_size=4096, columns=wanted):
                for values in batch.to_pylist():
                    row_num += 1
                    yield f"{path}:{row_num}", values
    except pyarrow.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: is not a readable Parquet file ({reason}); write it again") from None
