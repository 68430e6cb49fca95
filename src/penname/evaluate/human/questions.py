"""What people are asked about a record, and which answers there are. A form, an import and the statistics all go by this file."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from penname.evaluate.human.errors import AnswerError

Kind = Literal["single", "pair"]
KINDS: tuple[Kind, ...] = ("single", "pair")
"""One record at a time, or two side by side."""

GOOD = "good"
CATEGORIES = {
    GOOD: "Good",
    "non_text": "Non-text characters",
    "repetition": "Repetition of phrases",
    "abrupt_ending": "Abrupt ending",
    "gibberish": "Gibberish",
}
"""Those of the system that penname set out from; several may apply, but nothing beside good."""
NATURALNESS = {1: "not at all", 2: "hardly", 3: "partly", 4: "mostly", 5: "fully"}
FITS = {"yes": "Fits", "no": "Does not fit", "unsure": "Cannot tell"}
ORIGINS = {"real": "Written by a person", "synthetic": "Written by a machine"}
PREFERENCES = {"left": "The first", "right": "The second", "tie": "No difference"}
MAX_NOTE_CHARACTERS = 2000
MAX_NAME_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one person says of one record. PRIVATE."""

    categories: tuple[str, ...]
    naturalness: int
    fits: str
    """Whether the text fits its rating and product."""
    origin: str
    """What it was taken for."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Preference:
    """Which of two records one person finds more natural. PRIVATE."""

    preferred: str
    note: str = ""


def parse_answer(kind: Kind, values: Mapping[str, Any]) -> Judgement | Preference:
    """Checks an answer from a form or a file.

    Args:
      kind: Which question.
      values: Field -> value; `categories` is a list of names.
    Raises:
      AnswerError: a part is missing or outside its scale; names it.
    """
    note = str(values.get("note") or "").replace("\r\n", "\n").strip()
    if len(note) > MAX_NOTE_CHARACTERS:
        raise AnswerError(f"note: has {len(note):,} characters, at most {MAX_NOTE_CHARACTERS:,} are kept; shorten it")
    if kind == "pair":
        return Preference(_choose("preferred", values, PREFERENCES), note)
    return Judgement(
        categories=_choose_categories(values.get("categories") or ()),
        naturalness=int(_choose("naturalness", values, [str(step) for step in NATURALNESS])),
        fits=_choose("fits", values, FITS),
        origin=_choose("origin", values, ORIGINS),
        note=note,
    )


def _choose(field: str, values: Mapping[str, Any], allowed: Any) -> str:
    value = str(values.get(field) if values.get(field) is not None else "").strip()
    if not value:
        raise AnswerError(f"{field}: no answer yet; choose one of {', '.join(allowed)}")
    if value not in allowed:
        raise AnswerError(f"{field}: {value[:40]!r} is outside the scale; answers are {', '.join(allowed)}")
    return value


def _choose_categories(values: Any) -> tuple[str, ...]:
    names = [str(value) for value in values]
    for name in names:
        if name not in CATEGORIES:
            raise AnswerError(f"categories: {name[:40]!r} is outside the scale; answers are {', '.join(CATEGORIES)}")
    if not names:
        raise AnswerError("categories: no answer yet; choose good, or what is wrong with it")
    if GOOD in names and len(set(names)) > 1:
        raise AnswerError("categories: good does not go with a fault; choose good, or what is wrong with it")
    return tuple(name for name in CATEGORIES if name in names)


def clean_name(name: str) -> str:
    """The name of a rater as it is kept: one line, no spaces around it.

    Raises:
      AnswerError: it is empty, too long, or holds characters that do not show.

    >>> clean_name("  Ada   Lovelace ")
    'Ada Lovelace'
    """
    cleaned = " ".join(unicodedata.normalize("NFC", name).split())
    if not cleaned:
        raise AnswerError("name: is empty; any name will do, the same one each time")
    if len(cleaned) > MAX_NAME_CHARACTERS:
        raise AnswerError(f"name: has {len(cleaned)} characters, at most {MAX_NAME_CHARACTERS} are kept; shorten it")
    if not cleaned.isprintable():
        raise AnswerError("name: holds characters that do not show; use letters")
    return cleaned
