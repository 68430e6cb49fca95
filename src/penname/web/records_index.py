"""All records of a run in one SQLite file with an index of their words, built once and kept beside the run until its records change."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from penname.errors import PennameError, RunDirError
from penname.run_dir import ARTEFACTS, RunDir, hash_path, hash_value, read_rows
from penname.text_form import is_abrupt_ending, is_non_text, is_repeated

INDEX_VERSION = 1
SETS = {
    "with_dp": ("synthetic_with_dp", "Synthetic, with DP"),
    "no_dp": ("synthetic_no_dp", "Synthetic, no DP"),
    "train": ("train_records", "Real, train"),
    "heldout": ("heldout_records", "Real, heldout"),
    "test": ("test_records", "Real, test"),
}
"""Set -> artefact and what it is called."""
FLAGS = {"repetition": "Repetition of phrases", "abrupt_ending": "Abrupt ending", "non_text": "Non-text characters"}
"""What the form metrics say of a record, one bit each in this order."""
_ROWS_AT_ONCE = 1000

_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE records (
  id INTEGER PRIMARY KEY, part TEXT NOT NULL, record_id TEXT NOT NULL, rating INTEGER NOT NULL, category TEXT NOT NULL, product_title TEXT NOT NULL,
  title TEXT NOT NULL, text TEXT NOT NULL, flags INTEGER NOT NULL);
CREATE VIRTUAL TABLE words USING fts5(title, text, product_title, content='records', content_rowid='id', tokenize="unicode61 remove_diacritics 2");
CREATE VIRTUAL TABLE word_counts USING fts5vocab('words', 'row');
"""
_INDEXES = """
CREATE INDEX by_part ON records (part, id);
CREATE INDEX by_part_rating ON records (part, rating, id);
CREATE INDEX by_rating ON records (rating, id);
CREATE INDEX by_category ON records (category, id);
INSERT INTO words (words) VALUES ('rebuild');
INSERT INTO words (words) VALUES ('optimize');
"""


def find_sets(run_dir: RunDir) -> dict[str, Path]:
    """Set -> file, of those that the run has."""
    paths = {part: run_dir.root / ARTEFACTS[name].path for part, (name, _) in SETS.items()}
    return {part: path for part, path in paths.items() if path.is_file()}


class RecordsIndex:
    """The index of one run: built in the background when it is first asked for, again when a file of records has changed."""

    def __init__(self, run_dir: RunDir) -> None:
        self.run_dir = run_dir
        self.num_indexed = 0
        self.problem: str | None = None
        self._lock = threading.Lock()
        self._builder: threading.Thread | None = None
        self._ready: tuple[Any, Path] | None = None

    def open(self) -> Path | None:
        """The index, where it is whole and of the records as they are now; None while it is being built.

        Raises:
          PennameError: it could not be built; says why.
        """
        signature = self._sign()
        with self._lock:
            if self._ready is not None and self._ready[0] == signature and self._ready[1].is_file():
                return self._ready[1]
            if self._builder is not None and self._builder.is_alive():
                return None
            if self.problem is not None:
                problem, self.problem = self.problem, None
                raise PennameError(problem)
            self._builder = threading.Thread(target=self._build, args=(signature,), daemon=True)
            self._builder.start()
            return None

    def wait(self) -> Path:
        """The index, when it is built."""
        while (path := self.open()) is None:
            if self._builder is not None:
                self._builder.join()
        return path

    def _sign(self) -> Any:
        """Size and time of change of every file: what they hold is hashed only where these differ."""
        stats = {part: path.stat() for part, path in find_sets(self.run_dir).items()}
        return {part: (stat.st_size, stat.st_mtime_ns) for part, stat in stats.items()}

    def _build(self, signature: Any) -> None:
        try:
            path = build_index(self.run_dir, self._count)
        except (PennameError, OSError, sqlite3.Error) as error:
            self.problem = f"{self.run_dir.root}: the records cannot be indexed: {error}"
            return
        with self._lock:
            self._ready = (signature, path)

    def _count(self, num: int) -> None:
        self.num_indexed = num


def build_index(run_dir: RunDir, count: Any = lambda num: None) -> Path:
    """Builds the index, unless the one that is there was built from the same content.

    Args:
      run_dir: Holds the records. PRIVATE.
      count: Gets the number of records so far.
    Returns:
      Path: in the run folder; in a folder of its own where that one cannot be written.
    Raises:
      RunDirError: a file of records is damaged, or there is none.
    """
    paths = find_sets(run_dir)
    if not paths:
        raise RunDirError(f"{run_dir.root}: has no records yet; run `penname records` (or `penname run`) first")
    sha256 = hash_value([INDEX_VERSION, {part: hash_path(path) for part, path in paths.items()}])
    target = _choose_target(run_dir)
    if _read_hash(target) == sha256:
        return target
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    os.close(handle)
    try:
        with contextlib.closing(sqlite3.connect(name, isolation_level=None)) as connection:
            _fill(connection, paths, sha256, count)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return target


def _choose_target(run_dir: RunDir) -> Path:
    target = run_dir.root / ARTEFACTS["records_index"].path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if os.access(target.parent, os.W_OK):
            return target
    except OSError:
        pass
    folder = Path(tempfile.gettempdir()) / f"penname-index-{os.getuid()}-{hash_value(str(run_dir.root.resolve()))[:16]}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.is_symlink():
        raise RunDirError(f"{folder}: belongs to somebody else; set TMPDIR to a folder of yours")
    return folder / target.name


def _read_hash(path: Path) -> str | None:
    if not path.is_file():
        return None
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            row = connection.execute("SELECT value FROM facts WHERE name = 'sha256'").fetchone()
    except sqlite3.Error:
        return None
    return row[0] if row else None


def _fill(connection: sqlite3.Connection, paths: dict[str, Path], sha256: str, count: Any) -> None:
    # The file is thrown away when this fails, so nothing is gained by waiting for the disk.
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    connection.executescript(_SCHEMA)
    connection.execute("BEGIN")
    for num, row in enumerate(_read_records(paths), 1):
        connection.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (num, *row))
        if num % _ROWS_AT_ONCE == 0:
            count(num)
    connection.execute("INSERT INTO facts VALUES ('sha256', ?)", (sha256,))
    connection.execute("COMMIT")
    connection.executescript(_INDEXES)


def _read_records(paths: dict[str, Path]) -> Iterator[tuple[Any, ...]]:
    for part, path in paths.items():
        for row in read_rows(path):
            try:
                texts = tuple(_encodable(str(row[key])) for key in ("category", "product_title", "title", "text"))
                yield part, str(row["record_id"]), int(row["rating"]), *texts, _find_flags(str(row["text"]), str(row.get("finish_reason", "")))
            except (KeyError, TypeError, ValueError):
                raise RunDirError(f"{path}: a row lacks rating, title, text or category; run the stage that writes it again") from None


def _encodable(text: str) -> str:
    """A lone surrogate, which SQLite cannot hold, is written as its code."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _find_flags(text: str, finish_reason: str) -> int:
    found = (is_repeated(text), is_abrupt_ending(text, finish_reason), is_non_text(text))
    return sum(1 << bit for bit, is_set in enumerate(found) if is_set)
