"""The rules of cleaning.py for a whole column: Polars finds the values that are clean as they stand, the rules themselves see only the others.

Every function here gives what its namesake gives value by value; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from penname.ingest.cleaning import WORDS_FOR_NOTHING, clean_id, clean_text, clean_title, clean_unit_id, parse_rating, read_string
from penname.ingest.raw_batch import MISSING

PLAIN_RANGES = (
    ("!", "%"), ("'", ";"), ("=", "~"), ("\u00a1", "\u00ac"), ("\u00ae", "\u024f"), ("\u0400", "\u0482"), ("\u048a", "\u052f"), ("\u2010", "\u2027"),
    ("\u2030", "\u205e"), ("\u20a0", "\u20bf"), ("\u2122", "\u2122"), ("\u2190", "\u21ff"), ("\u2460", "\u27bf"), ("\u2b00", "\u2bff"),
    ("\u3041", "\u3096"), ("\u30a1", "\u30fa"), ("\u4e00", "\u9fff"), ("\uac00", "\ud7a3"), ("\ufe0f", "\ufe0f"), ("\U0001f300", "\U0001faff"),
)  # fmt: skip
"""Signs that no rule touches, wherever they stand: no `&` or `<`, no space, and none that NFC changes or joins with its neighbour."""

_SIGN = "[" + "".join(rf"\x{{{ord(first):x}}}-\x{{{ord(last):x}}}" for first, last in PLAIN_RANGES) + "]"
# No name follows an ampersand at the end of a word, so that it begins no entity.
_WORD = rf"(?:{_SIGN}+&?|&)"
_PLAIN_TEXT = rf"\A(?:{_WORD}(?:(?: |\n\n?){_WORD})*)?\z"
_PLAIN_TITLE = rf"\A(?:{_WORD}(?: {_WORD})*)?\z"
_ENTITIES = {"&#34;": '"', "&quot;": '"', "&#39;": "'", "&amp;": "&"}
_PLAIN_ID = r"\A[!-~]*\z"
# The empty id, and one that may be a word for nothing, are looked at closely.
_PLAIN_UNIT_ID = rf"\A[!-~]{{{max(map(len, WORDS_FOR_NOTHING)) + 1},}}\z"


def read_strings(values: list[Any], *, numbers: bool) -> list[str | None]:
    """`read_string` of every value; what is missing is the empty text. PRIVATE."""
    if set(map(type, values)) <= {str}:
        return values
    return [value if type(value) is str else "" if value is MISSING else read_string(value, numbers=numbers) for value in values]


def parse_ratings(values: list[Any]) -> list[int | None]:
    """`parse_rating` of every value. PRIVATE."""
    # True equals 1, and a list is no key: only where neither can occur are equal values looked at once.
    if set(map(type, values)) <= {str, int, float}:
        known = {value: parse_rating(value) for value in set(values)}
        return [known[value] for value in values]
    return [parse_rating(value) for value in values]


def clean_texts(values: list[str]) -> Any:
    """`clean_text` of every value, as a Polars Series. PRIVATE."""
    series = _make_series(values)
    odd = (~series.str.contains(_PLAIN_TEXT)).arg_true()
    mended = _mend_texts(series.gather(odd))
    still_odd = (~mended.str.contains(_PLAIN_TEXT)).arg_true()
    rows = odd.gather(still_odd).to_list()
    return replace_at(series, odd, replace_at(mended, still_odd, [clean_text(values[row]) for row in rows]))


def _mend_texts(texts: Any) -> Any:
    """What most texts need that are not plain: some of the rules of `clean_text`, in their order.

    Where the result is plain the other rules would have found nothing: an entity, a tag or a comment that they know leaves its `&` or `<`.
    """
    texts = texts.str.replace_many(list(_ENTITIES), list(_ENTITIES.values())).str.replace_all("(?i)<br ?/?>", "\n")
    # Polars replaces what it sees to be a literal much slower than what a class of one sign makes a pattern.
    texts = texts.str.replace_all(" {2,}", " ").str.replace_all("[ ]\n", "\n").str.replace_all("\n[ ]", "\n")
    return texts.str.replace_all("\n{3,}", "\n\n").str.strip_chars(" \n")


def clean_titles(values: list[str]) -> Any:
    """`clean_title` of every value, as a Polars Series. PRIVATE."""
    return _clean(values, _PLAIN_TITLE, clean_title)


def clean_ids(values: list[str]) -> Any:
    """`clean_id` of every value, as a Polars Series. PRIVATE."""
    return _clean(values, _PLAIN_ID, clean_id)


def clean_unit_ids(values: list[str]) -> Any:
    """`clean_unit_id` of every value, as a Polars Series; null where there is none. PRIVATE."""
    return _clean(values, _PLAIN_UNIT_ID, clean_unit_id)


def _clean(values: list[str], plain: str, clean: Callable[[str], str | None]) -> Any:
    series = _make_series(values)
    odd = (~series.str.contains(plain)).arg_true()
    return replace_at(series, odd, [clean(values[i]) for i in odd.to_list()])


def replace_at(series: Any, places: Any, values: Any) -> Any:
    """A Polars Series of texts with other values at some places, given in their order; what stays is not copied. PRIVATE."""
    import numpy as np
    import polars as pl

    if not len(places):
        return series
    # The others come from where they stand, these from behind the end.
    sources = np.arange(len(series), dtype=np.uint32)
    sources[places.to_numpy()] = np.arange(len(series), len(series) + len(places))
    return pl.concat([series, pl.Series(values, dtype=pl.String)], rechunk=True).gather(pl.Series(sources))


def _make_series(values: list[str]) -> Any:
    import polars as pl

    try:
        return pl.Series(values, dtype=pl.String)
    except UnicodeEncodeError:
        # Lone surrogates are in no plain text: a tab, which is in none either, stands for them until they are cleaned.
        return pl.Series([value if _is_encodable(value) else "\t" for value in values], dtype=pl.String)


def _is_encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
