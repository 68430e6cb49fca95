"""Answers as CSV or JSON lines, out and in. Each row names the sample that it answers to; rows of another sample are refused."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from penname.errors import DataError
from penname.evaluate.human.errors import AnswerError
from penname.evaluate.human.questions import KINDS, Judgement, Kind, Preference, clean_name, parse_answer
from penname.evaluate.human.ratings import Answer, Ratings
from penname.evaluate.human.sample import RatingSample

Format = Literal["csv", "jsonl"]
COLUMNS = (
    "sample_sha256", "kind", "number", "rater", "answered_at", "categories", "naturalness", "fits", "origin", "preferred", "note", "arm", "record_id",
    "right_arm", "right_record_id",
)  # fmt: skip
"""arm and record_id are those of the record, or of the first of a pair. They are for the reader; an import goes by the number."""
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "'")


def export_ratings(ratings: Ratings, sample: RatingSample, file_format: Format) -> str:
    """Every answer as the text of a file. PRIVATE: it names arms and raters.

    In CSV a text that a spreadsheet would take for a formula begins with an apostrophe; the import takes it away again.
    """
    answers = [answer for kind in KINDS for answer in ratings.read_all(kind)]
    rows = (_to_row(answer, sample) for answer in answers)
    if file_format == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list[str](COLUMNS), lineterminator="\r\n")
    writer.writeheader()
    for row in rows:
        flat = row | {"categories": "+".join(row["categories"])}
        writer.writerow({key: f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_STARTS) else value for key, value in flat.items()})
    return text.getvalue()


def _to_row(answer: Answer, sample: RatingSample) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(COLUMNS, "") | {"categories": [], "sample_sha256": sample.sha256, "kind": answer.kind, "number": answer.subject}
    row |= {"rater": answer.rater, "answered_at": answer.answered_at} | asdict(answer.answer)
    row["categories"] = list(row["categories"])
    if answer.kind == "single":
        record = sample.records[answer.subject - 1]
        return row | {"arm": record.arm, "record_id": record.record_id}
    pair = sample.pairs[answer.subject - 1]
    left, right = sample.records[pair.left - 1], sample.records[pair.right - 1]
    return row | {"arm": left.arm, "record_id": left.record_id, "right_arm": right.arm, "right_record_id": right.record_id}


def import_ratings(ratings: Ratings, sample: RatingSample, path: Path) -> tuple[int, int]:
    """Adds the answers of an exported file, all or none.

    Args:
      ratings: The answers of this run.
      sample: Of this run; a row of another is refused.
      path: `.csv` or `.jsonl`, as exported.
    Returns:
      (int, int): added, and left alone because they were there already or the rater has answered later.
    Raises:
      DataError: the file cannot be read, or a row is of another sample or outside the scale; names the line.
      RatingsError: the answers cannot be written.
    """
    checked = [_check_row(row, sample, f"{path}:{line}") for line, row in _read_rows(path)]
    return ratings.add_all(checked)


def _read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if path.suffix not in (".csv", ".jsonl"):
        raise DataError(f"{path}: is neither .csv nor .jsonl; give a file that `penname ratings export` wrote")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    yield from _read_csv(path, text) if path.suffix == ".csv" else _read_json_lines(path, text.splitlines())


def _read_csv(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        missing = [column for column in COLUMNS[:11] if column not in (reader.fieldnames or [])]
        if missing:
            raise DataError(f"{path}: lacks the columns {', '.join(missing)}; give a file that `penname ratings export` wrote")
        last = reader.line_num
        for row in reader:
            # A note may have several lines; the row is named by its first.
            line, last = last + 1, reader.line_num
            if None in row or None in row.values():
                raise DataError(f"{path}:{line}: has more or fewer cells than the first line")
            plain = {key: value[1:] if value.startswith("'") else value for key, value in row.items()}
            yield line, plain | {"categories": [name for name in plain["categories"].split("+") if name]}
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: is no CSV ({error})") from None


def _read_json_lines(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for line_num, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            raise DataError(f"{path}:{line_num}: is no JSON; give a file that `penname ratings export` wrote") from None
        if not isinstance(row, dict) or not isinstance(row.get("categories", []), list):
            raise DataError(f"{path}:{line_num}: is no answer; give a file that `penname ratings export` wrote")
        yield line_num, row


def _check_row(row: dict[str, Any], sample: RatingSample, where: str) -> tuple[Kind, int, str, Judgement | Preference, str]:
    if row.get("sample_sha256") != sample.sha256:
        raise DataError(f"{where}: answers another sample ({str(row.get('sample_sha256'))[:12]} instead of {sample.sha256[:12]}); nothing was added")
    kind = row.get("kind")
    if kind not in KINDS:
        raise DataError(f"{where}: kind: {str(kind)[:40]!r} is unknown; kinds are {', '.join(KINDS)}; nothing was added")
    number = str(row.get("number"))
    if not number.isascii() or not number.isdecimal() or not 1 <= int(number) <= sample.num_subjects(kind):
        raise DataError(f"{where}: number: {number[:40]!r} is not in this sample; nothing was added")
    try:
        answered_at = datetime.fromisoformat(str(row.get("answered_at"))).astimezone(UTC).isoformat()
    except ValueError:
        raise DataError(f"{where}: answered_at: is no time (2026-01-31T12:00:00+00:00); nothing was added") from None
    try:
        return kind, int(number), clean_name(str(row.get("rater", ""))), parse_answer(kind, row), answered_at
    except AnswerError as error:
        raise DataError(f"{where}: {error}; nothing was added") from None
