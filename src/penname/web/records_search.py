"""Questions to the index: a page of records that match, one record, and the real records nearest to it by their words."""

from __future__ import annotations

import contextlib
import math
import re
import sqlite3
import unicodedata
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from penname.evaluate.privacy.longest_common_substring import longest_common_substrings
from penname.web.records_index import FLAGS, SETS

PAGE_RECORDS = 25
MAX_QUERY_CHARACTERS = 200
_NUM_RARE_WORDS, _MIN_RARE_WORDS, _MAX_LOOKED_AT = 12, 3, 5000
_NUM_CANDIDATES = 30
REAL_SETS = ("train", "heldout")
_TERM = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Filter:
    """What is looked for."""

    query: str = ""
    part: str = ""
    rating: int | None = None
    category: str = ""
    flag: str = ""
    page: int = 1


@dataclass(frozen=True, slots=True)
class FoundRecord:
    """One record. PRIVATE, but for those with DP of a run that may be released."""

    id: int
    part: str
    record_id: str
    rating: int
    category: str
    product_title: str
    title: str
    text: str
    flags: int

    @property
    def flag_names(self) -> list[str]:
        """Its faults of form, in words."""
        return [label for bit, label in enumerate(FLAGS.values()) if self.flags >> bit & 1]

    @property
    def is_real(self) -> bool:
        """Whether a person wrote it."""
        return self.part not in ("with_dp", "no_dp")


@dataclass(frozen=True)
class FoundPage:
    """One page of what matches."""

    records: list[FoundRecord]
    num_matches: int
    num_pages: int
    page: int


@dataclass(frozen=True)
class Neighbour:
    """The nearest record of a real set."""

    record: FoundRecord
    likeness: float
    """Cosine of word counts, rare words counting more: 1 for the same words."""
    num_shared_characters: int
    """Length of the longest stretch that stands in both texts."""


@contextlib.contextmanager
def open_index(path: Path) -> Generator[sqlite3.Connection]:
    """Opens the index for reading."""
    # It is replaced by a rename and never written in place, so that no lock is needed.
    with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        yield connection


def split_terms(text: str) -> list[str]:
    """The words of a text as the index has them: letters and digits, folded, without accents.

    >>> split_terms("Don't: CAFÉ_1")
    ['don', 't', 'cafe', '1']
    """
    plain = "".join(char for char in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(char))
    return _TERM.findall(plain)


def quote_query(query: str) -> str:
    """What a person typed as a query of SQLite's: every word is only a word, and the last one may be the beginning of one.

    >>> quote_query('case OR "x* NEAR')
    '"case" "or" "x" "near"*'
    """
    words = split_terms(query)
    return " ".join(f'"{word}"' for word in words) + ("*" if words else "")


def find_records(connection: sqlite3.Connection, wanted: Filter) -> FoundPage:
    """One page of the records that match, in the order of the files.

    Args:
      connection: Of `open_index`.
      wanted: A page past the end gives the last.
    """
    query = quote_query(wanted.query)
    if wanted.query.strip() and not query:
        return FoundPage([], 0, 1, 1)
    conditions, values = [], []
    for condition, value in (("part = ?", wanted.part), ("rating = ?", wanted.rating), ("category = ?", wanted.category)):
        if value:
            conditions.append(condition)
            values.append(value)
    if wanted.flag in FLAGS:
        conditions.append("flags & ?")
        values.append(1 << list(FLAGS).index(wanted.flag))
    source = "records"
    if query:
        # Where nothing else is asked, no record is looked at but those of the page.
        source = "words JOIN records ON records.id = words.rowid" if conditions else "words"
        conditions.append("words MATCH ?")
        values.append(query)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    column = "words.rowid" if query else "id"
    rows = connection.execute(f"SELECT {column} FROM {source} {where} ORDER BY {column}", values)  # noqa: S608  conditions are ours, values are bound
    numbers = [number for (number,) in rows]
    num_pages = max(1, -(-len(numbers) // PAGE_RECORDS))
    page = min(max(1, wanted.page), num_pages)
    shown = [find_record(connection, number) for number in numbers[(page - 1) * PAGE_RECORDS : page * PAGE_RECORDS]]
    return FoundPage([record for record in shown if record], len(numbers), num_pages, page)


def find_record(connection: sqlite3.Connection, number: int) -> FoundRecord | None:
    """One record by its place in the index."""
    row = connection.execute("SELECT * FROM records WHERE id = ?", (number,)).fetchone()
    return FoundRecord(*row) if row else None


def list_choices(connection: sqlite3.Connection) -> tuple[dict[str, int], list[str]]:
    """Sets with their sizes, and all categories."""
    sizes = dict(connection.execute("SELECT part, COUNT(*) FROM records GROUP BY part"))
    categories = [name for (name,) in connection.execute("SELECT DISTINCT category FROM records ORDER BY category")]
    return {part: sizes[part] for part in SETS if part in sizes}, categories


def find_neighbours(connection: sqlite3.Connection, record: FoundRecord) -> dict[str, Neighbour]:
    """The nearest record of train, which the model saw, and of heldout, which it did not: only by comparison does likeness say something of copying.

    Candidates share the rarest words of the text (BM25); the nearest of them by cosine of weighted word counts is taken.

    Args:
      connection: Of `open_index`.
      record: A synthetic record.
    Returns:
      dict[str, Neighbour]: by set; a set without a record that shares a word is missing. PRIVATE.
    Source: Robertson and Zaragoza (2009), The Probabilistic Relevance Framework: BM25 and Beyond.
    """
    terms = split_terms(record.text)
    total = connection.execute("SELECT COUNT(*) FROM records").fetchone()[0]
    counts = {term: _count_records(connection, term) for term in set(terms)}
    weights = {term: math.log(1 + total / (1 + count)) for term, count in counts.items()}
    rarest = _choose_rarest(counts)
    found: dict[str, Neighbour] = {}
    if not rarest:
        return found
    query = " OR ".join(f'"{term}"' for term in rarest)
    for part in REAL_SETS:
        rows = connection.execute(
            "SELECT r.* FROM words JOIN records r ON r.id = words.rowid WHERE words MATCH ? AND r.part = ? ORDER BY bm25(words) LIMIT ?",
            (f"text : ({query})", part, _NUM_CANDIDATES),
        )
        candidates = [FoundRecord(*row) for row in rows]
        if candidates:
            likeness = {row.id: _cosine(terms, split_terms(row.text), weights) for row in candidates}
            nearest = max(candidates, key=lambda row: likeness[row.id])
            found[part] = Neighbour(nearest, likeness[nearest.id], int(longest_common_substrings([record.text], [nearest.text])[0]))
    return found


def _choose_rarest(counts: dict[str, int]) -> list[str]:
    """The rarest words, as long as the records that hold them are not too many to look at."""
    chosen: list[str] = []
    num_looked_at = 0
    for term in sorted(counts, key=lambda term: (counts[term], term))[:_NUM_RARE_WORDS]:
        num_looked_at += counts[term]
        if len(chosen) >= _MIN_RARE_WORDS and num_looked_at > _MAX_LOOKED_AT:
            break
        chosen.append(term)
    return chosen


def _count_records(connection: sqlite3.Connection, term: str) -> int:
    row = connection.execute("SELECT doc FROM word_counts WHERE term = ?", (term,)).fetchone()
    return row[0] if row else 0


def _cosine(first: list[str], second: list[str], weights: dict[str, float]) -> float:
    """Cosine of word counts under weights; a word that only the second text has counts as much as the rarest."""
    rare = max(weights.values(), default=1.0)
    counts = [{word: num * weights.get(word, rare) for word, num in Counter(words).items()} for words in (first, second)]
    norms = [math.sqrt(sum(value * value for value in values.values())) for values in counts]
    shared = sum(value * counts[1].get(word, 0.0) for word, value in counts[0].items())
    return shared / (norms[0] * norms[1]) if norms[0] and norms[1] else 0.0
