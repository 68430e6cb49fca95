"""Answers on disk: SQLite in the run folder. An answer is on the disk before `store` returns; nothing is ever deleted, a changed answer is one more row."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Generator, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from penname.evaluate.human.errors import RatingsError
from penname.evaluate.human.questions import Judgement, Kind, Preference, clean_name, parse_answer
from penname.evaluate.human.sample import RatingSample

RATERS_PER_RECORD = 2
"""Every record is to be judged by at least this many."""
STORE_VERSION = 1
LOCK_SECS = 10.0
"""How long a write waits for another writer."""
_TURNS: dict[Path, threading.Lock] = {}
"""Of the writers of each file in this process. SQLite's own waiting knows no order: of many who write at once, one may wait until it gives up."""
_SHOWN_FOR = timedelta(minutes=30)
"""A record that is on a rater's screen counts as half judged for this long, so that raters who begin together are sent to different records."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS raters (name TEXT PRIMARY KEY, folded TEXT NOT NULL UNIQUE, joined_at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, subject INTEGER NOT NULL, rater TEXT NOT NULL, answer TEXT, answered_at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS latest (
  kind TEXT NOT NULL, subject INTEGER NOT NULL, rater TEXT NOT NULL, seq INTEGER NOT NULL, answer TEXT, answered_at TEXT NOT NULL,
  PRIMARY KEY (kind, subject, rater)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS shown (
  kind TEXT NOT NULL, subject INTEGER NOT NULL, rater TEXT NOT NULL, shown_at TEXT NOT NULL, PRIMARY KEY (kind, subject, rater)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """The latest answer of one rater to one record or pair. PRIVATE."""

    seq: int
    kind: Kind
    subject: int
    rater: str
    answer: Judgement | Preference
    answered_at: str


@dataclass(frozen=True, slots=True)
class Advance:
    """How far one rater is, and the sample."""

    num_answered: int
    num_skipped: int
    num_subjects: int
    num_covered: int
    """Records, or pairs, with answers of at least RATERS_PER_RECORD raters."""


class Ratings:
    """The answers to one sample."""

    def __init__(self, path: Path, sample: RatingSample) -> None:
        self.path, self._sample = path, sample

    @contextlib.contextmanager
    def _open(self, *, writes: bool) -> Generator[sqlite3.Connection]:
        """One transaction; an error leaves the file as it was and is told in one line."""
        with self._take_turn() if writes else contextlib.nullcontext(), self._connect() as connection:
            connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            yield connection
            connection.execute("COMMIT")

    @contextlib.contextmanager
    def _take_turn(self) -> Generator[None]:
        turn = _TURNS.setdefault(self.path.absolute(), threading.Lock())
        if not turn.acquire(timeout=LOCK_SECS):
            raise RatingsError(_explain(self.path, sqlite3.OperationalError("busy")))
        try:
            yield
        finally:
            turn.release()

    @contextlib.contextmanager
    def _connect(self) -> Generator[sqlite3.Connection]:
        try:
            # Without a transaction of the module's own: BEGIN IMMEDIATE takes the lock before anything is read, so no answer is decided on old rows.
            connection = sqlite3.connect(self.path, timeout=LOCK_SECS, isolation_level=None)
            try:
                connection.execute("PRAGMA synchronous = FULL")
                yield connection
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise RatingsError(_explain(self.path, error)) from None

    def begin(self) -> None:
        """Makes the file where there is none, and checks that it belongs to this sample.

        Raises:
          RatingsError: it cannot be written, is damaged, or holds answers to another sample.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(sqlite3.connect(self.path, timeout=LOCK_SECS, isolation_level=None)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(_SCHEMA)
                faults = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        except OSError as error:
            raise RatingsError(f"{self.path}: cannot be made: {error.strerror}") from None
        except sqlite3.Error as error:
            raise RatingsError(_explain(self.path, error)) from None
        if faults != "ok":
            raise RatingsError(_say_damaged(self.path))
        with self._open(writes=True) as connection:
            facts = {"schema_version": str(STORE_VERSION), "sample_sha256": self._sample.sha256}
            connection.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?)", facts.items())
            found = dict(connection.execute("SELECT name, value FROM facts"))
        if found["schema_version"] != facts["schema_version"]:
            raise RatingsError(f"{self.path}: was written by another version of penname; move it away to begin anew")
        if found["sample_sha256"] != facts["sample_sha256"]:
            raise RatingsError(f"{self.path}: holds answers to another sample; move it away to begin anew")

    def join(self, name: str) -> str:
        """Adds a rater; the same name in other letters is the same rater. Returns the name as it was first written.

        Raises:
          AnswerError: the name cannot be kept.
          RatingsError: the file cannot be written.
        """
        cleaned = clean_name(name)
        with self._open(writes=True) as connection:
            return _join(connection, cleaned)

    def next_subject(self, kind: Kind, rater: str) -> int | None:
        """What this rater is to judge next: what is on the screen already, else what one other has judged, else what nobody has, else the rest.

        Skipped ones come last. None when the rater has judged all.
        """
        with self._open(writes=True) as connection:
            own = dict(connection.execute("SELECT subject, answer IS NULL FROM latest WHERE kind = ? AND rater = ?", (kind, rater)))
            since = (datetime.now(UTC) - _SHOWN_FOR).isoformat()
            open_here = "SELECT subject FROM shown WHERE kind = ? AND rater = ? ORDER BY shown_at DESC"
            for (subject,) in connection.execute(open_here, (kind, rater)).fetchall():
                if subject not in own:
                    return subject
            waiting = [subject for subject in range(1, self._sample.num_subjects(kind) + 1) if subject not in own]
            if waiting:
                load = _count_load(connection, kind, since)
                # One other's comes first, so that few records are left with a single answer; the ones that many judge already come last.
                subject = min(waiting, key=lambda number: ((1, 0)[load[number]] if load[number] < RATERS_PER_RECORD else load[number], number))
            else:
                skipped = "SELECT subject FROM latest WHERE kind = ? AND rater = ? AND answer IS NULL ORDER BY seq LIMIT 1"
                found = connection.execute(skipped, (kind, rater)).fetchone()
                subject = found[0] if found else None
            if subject is not None:
                row = (kind, subject, rater, datetime.now(UTC).isoformat())
                connection.execute("INSERT OR REPLACE INTO shown VALUES (?, ?, ?, ?)", row)
            return subject

    def store(self, kind: Kind, subject: int, rater: str, answer: Judgement | Preference | None) -> None:
        """Keeps an answer, or None for a record that was skipped; on disk when it returns.

        Raises:
          RatingsError: there is no such record or pair, or the file cannot be written; nothing was stored then.
        """
        self._check_subject(kind, subject)
        with self._open(writes=True) as connection:
            _write(connection, kind, subject, rater, answer, datetime.now(UTC).isoformat())

    def add_all(self, answers: Iterable[tuple[Kind, int, str, Judgement | Preference, str]]) -> tuple[int, int]:
        """Adds answers from elsewhere, all or none; where a rater has a later answer already, that one stays.

        Returns:
          (int, int): added, and left alone because they were there or a later one was.
        Raises:
          RatingsError: the file cannot be written.
        """
        num_added = num_kept = 0
        with self._open(writes=True) as connection:
            for kind, subject, rater, answer, answered_at in answers:
                self._check_subject(kind, subject)
                name = _join(connection, rater)
                found = connection.execute(
                    "SELECT answered_at FROM latest WHERE kind = ? AND subject = ? AND rater = ? AND answer IS NOT NULL", (kind, subject, name)
                ).fetchone()
                if found and found[0] >= answered_at:
                    num_kept += 1
                    continue
                _write(connection, kind, subject, name, answer, answered_at)
                num_added += 1
        return num_added, num_kept

    def find(self, kind: Kind, subject: int, rater: str) -> Answer | None:
        """This rater's answer; None where there is none, or it was skipped."""
        with self._open(writes=False) as connection:
            return self._read(connection, "kind = ? AND subject = ? AND rater = ?", (kind, subject, rater))

    def find_before(self, kind: Kind, rater: str, subject: int | None) -> Answer | None:
        """The answer that this rater gave last, or last before the one to `subject`."""
        with self._open(writes=False) as connection:
            before = connection.execute("SELECT seq FROM latest WHERE kind = ? AND subject = ? AND rater = ? AND answer IS NOT NULL", (kind, subject, rater))
            row = before.fetchone()
            return self._read(connection, "kind = ? AND rater = ? AND seq < ?", (kind, rater, row[0] if row else 1 << 62))

    def _read(self, connection: sqlite3.Connection, where: str, values: tuple[Any, ...]) -> Answer | None:
        query = f"SELECT seq, kind, subject, rater, answer, answered_at FROM latest WHERE answer IS NOT NULL AND {where} ORDER BY seq DESC LIMIT 1"  # noqa: S608
        row = connection.execute(query, values).fetchone()
        return _to_answer(row) if row else None

    def read_all(self, kind: Kind) -> list[Answer]:
        """Every rater's latest answers, without skipped ones, in the order in which they came. PRIVATE."""
        query = "SELECT seq, kind, subject, rater, answer, answered_at FROM latest WHERE kind = ? AND answer IS NOT NULL ORDER BY seq"
        with self._open(writes=False) as connection:
            return [_to_answer(row) for row in connection.execute(query, (kind,))]

    def has_joined(self, name: str) -> bool:
        """Whether there is a rater of this name."""
        with self._open(writes=False) as connection:
            return connection.execute("SELECT 1 FROM raters WHERE name = ?", (name,)).fetchone() is not None

    def measure(self, kind: Kind, rater: str) -> Advance:
        """How far this rater is; of others it only says how many records have enough answers."""
        with self._open(writes=False) as connection:
            own = connection.execute("SELECT COUNT(answer), COUNT(*) FROM latest WHERE kind = ? AND rater = ?", (kind, rater)).fetchone()
            enough = "SELECT 1 FROM latest WHERE kind = ? AND answer IS NOT NULL GROUP BY subject HAVING COUNT(*) >= ?"
            covered = connection.execute(f"SELECT COUNT(*) FROM ({enough})", (kind, RATERS_PER_RECORD)).fetchone()  # noqa: S608  no value is in it
        return Advance(own[0], own[1] - own[0], self._sample.num_subjects(kind), covered[0])

    def _check_subject(self, kind: Kind, subject: int) -> None:
        if not 1 <= subject <= self._sample.num_subjects(kind):
            raise RatingsError(f"{self.path}: there is no {'record' if kind == 'single' else 'pair'} {subject} in this sample")


def _join(connection: sqlite3.Connection, name: str) -> str:
    connection.execute("INSERT OR IGNORE INTO raters VALUES (?, ?, ?)", (name, name.casefold(), datetime.now(UTC).isoformat()))
    return connection.execute("SELECT name FROM raters WHERE folded = ?", (name.casefold(),)).fetchone()[0]


def _count_load(connection: sqlite3.Connection, kind: Kind, since: str) -> Counter[int]:
    """Raters who have judged a subject, or have it on their screen."""
    judged = "SELECT subject, rater FROM latest WHERE kind = ? AND answer IS NOT NULL"
    answered = "SELECT 1 FROM latest l WHERE l.kind = s.kind AND l.subject = s.subject AND l.rater = s.rater"
    on_screen = f"SELECT subject, rater FROM shown s WHERE kind = ? AND shown_at > ? AND NOT EXISTS ({answered})"  # noqa: S608  no value is in it
    rows = connection.execute(f"SELECT subject, COUNT(*) FROM ({judged} UNION {on_screen}) GROUP BY subject", (kind, kind, since))  # noqa: S608
    return Counter(dict(rows))


def _write(connection: sqlite3.Connection, kind: Kind, subject: int, rater: str, answer: Judgement | Preference | None, answered_at: str) -> None:
    text = None if answer is None else json.dumps(asdict(answer), ensure_ascii=False)
    row = (kind, subject, rater, text, answered_at)
    seq = connection.execute("INSERT INTO answers (kind, subject, rater, answer, answered_at) VALUES (?, ?, ?, ?, ?)", row).lastrowid
    connection.execute("INSERT OR REPLACE INTO latest VALUES (?, ?, ?, ?, ?, ?)", (kind, subject, rater, seq, text, answered_at))


def _to_answer(row: tuple[Any, ...]) -> Answer:
    seq, kind, subject, rater, text, answered_at = row
    return Answer(seq, kind, subject, rater, parse_answer(kind, json.loads(text)), answered_at)


def _say_damaged(path: Path) -> str:
    return f"{path}: is damaged; keep a copy, move it away, and bring the answers back from an export with `penname ratings import`"


def _explain(path: Path, error: sqlite3.Error) -> str:
    """SQLite's error as a line that says what to do."""
    text = str(error)
    if "locked" in text or "busy" in text:
        return f"{path}: is locked by another program; nothing was stored, try again when it is closed"
    if "readonly" in text or "unable to open" in text:
        return f"{path}: cannot be written; nothing was stored, check the permissions of the folder"
    if "full" in text:
        return f"{path}: the disk is full; nothing was stored, free some space and try again"
    if "malformed" in text or "not a database" in text or "encrypted" in text:
        return _say_damaged(path)
    return f"{path}: cannot be used ({text}); nothing was stored"
