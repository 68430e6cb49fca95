"""From raw values to clean ones: pure functions of one value, so that no row ever changes another.

Text is data, never markup: tags are taken out for the sake of the model, not for safety. Whoever shows a text must still escape it.
"""

from __future__ import annotations

import html
import re
import unicodedata
from decimal import Decimal
from html.entities import html5
from typing import Any

from penname.schemas import RATINGS

# Most titles and many texts are plain: one match instead of a dozen substitutions.
_PLAIN = re.compile(r"[!-%'-;=-~]++(?: [!-%'-;=-~]++)*+")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
# Only with its semicolon, and by exact name: html.unescape alone turns "?a=1&copy=2" and "&notes;" into signs nobody wrote.
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|([A-Za-z][A-Za-z0-9]{1,31}));")
_NAMES = (
    "a|abbr|address|article|aside|b|big|blockquote|body|br|button|caption|center|cite|code|col|dd|del|div|dl|dt|em|font|footer|form|h[1-6]|head|header|hr"
    "|html|i|iframe|img|input|ins|kbd|label|li|link|mark|meta|nav|object|ol|option|p|pre|q|s|samp|script|section|select|small|source|span|strike|strong"
    "|style|sub|sup|svg|table|tbody|td|textarea|tfoot|th|thead|title|tr|tt|u|ul|var|video"
)
# A tag has a known name and attributes with values: "I <3 this" and "a < b and c > d" are not tags. Possessive, so linear.
_TAG = re.compile(rf"</?({_NAMES})(?:\s++[A-Za-z_:][\w:.-]*+\s*+=\s*+(?:\"[^\"<>]*+\"|'[^'<>]*+'|[^\s\"'<>]++))*+\s*+/?>", re.IGNORECASE)
_COMMENT = re.compile(r"<!--[^<>]{0,2000}-->")
_BREAKING = re.compile("address|article|aside|blockquote|br|caption|center|dd|div|dl|dt|footer|form|h[1-6]|header|hr|li|ol|option|p|pre|section|table|tr|ul")
_NEW_LINE = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff]")
# Joiners make emoji families and shape Persian or Hindi words: they stay where both neighbours are beyond ASCII.
_LOOSE_JOINER = re.compile("(?<![^\x00-\x7f])[\u200c\u200d]+|[\u200c\u200d]+(?![^\x00-\x7f])")
_ODD_SPACE = re.compile(r"[^\S\n ]")
_SPACES = re.compile(" {2,}")
_AROUND_NEW_LINE = re.compile(r" ?\n ?")
_BLANK_LINES = re.compile(r"\n{3,}")
# What pandas, R, SQL dumps and JavaScript write where there is no value.
WORDS_FOR_NOTHING = frozenset(("nan", "-nan", "null", "none", "nil", "na", "n/a", "#na", "#n/a", "<na>", "nat", "\\n", "undefined"))
_RATING = re.compile(r"[1-5](?:\.0+)?")


def clean_text(value: str) -> str:
    """Takes tags, entities, control characters and odd white space out of a text; emoji and every language stay.

    Args:
      value: As read. PRIVATE.
    Returns:
      Unicode NFC, lines without space at their ends, at most one blank line in a row; may be empty. PRIVATE.

    >>> clean_text("Fits.<br />It&#39;s  <b>great</b> &amp;amp; cheap")
    "Fits.\\nIt's great & cheap"
    """
    if _PLAIN.fullmatch(value):
        return value
    text = _join_surrogates(value)
    if "&" in text:
        for _ in range(2):  # "&amp;quot;" is common; deeper nesting is somebody's literal text
            text = _ENTITY.sub(_unescape, text)
    if "<" in text:
        text = _TAG.sub(_replace_tag, _COMMENT.sub("", text))
    # What is printable holds no control character, no odd space and no joiner: to ask is a hundred times cheaper than to look for each.
    if not text.replace("\n", "").isprintable():
        text = _CONTROL.sub("", _NEW_LINE.sub("\n", text))
        if not text.isascii():
            text = _LOOSE_JOINER.sub("", unicodedata.normalize("NFC", text))
        text = _ODD_SPACE.sub(" ", text)
    elif not text.isascii():
        text = unicodedata.normalize("NFC", text)
    if "  " in text:
        text = _SPACES.sub(" ", text)
    if " \n" in text or "\n " in text:
        text = _AROUND_NEW_LINE.sub("\n", text)
    if "\n\n\n" in text:
        text = _BLANK_LINES.sub("\n\n", text)
    return text.strip()


def clean_title(value: str) -> str:
    """Cleans as clean_text does and makes one line of it: for titles, categories and names.

    >>> clean_title("Cases,<br>Holsters")
    'Cases, Holsters'
    """
    return " ".join(clean_text(value).split())


def clean_id(value: str) -> str:
    """An identifier without space around it and without lone surrogates, which no file could hold."""
    return _join_surrogates(value).strip()


def clean_unit_id(value: str) -> str | None:
    """An id of a privacy unit as clean_id gives it, or None where there is none: blank, or what programs write for nothing.

    Were "NaN" taken for an id, strangers would become one unit, and none of them be protected alone.

    >>> clean_unit_id(" u7 "), clean_unit_id("NaN"), clean_unit_id(" ")
    ('u7', None, None)
    """
    identity = clean_id(value)
    if identity.casefold() in WORDS_FOR_NOTHING or not _CONTROL.sub("", identity).strip():
        return None
    return identity


def parse_rating(value: Any) -> int | None:
    """Reads a rating: 5, 5.0, "5" and "5.0" are 5.

    Returns:
      1 to 5, or None for everything else, true and NaN included. PRIVATE.

    >>> parse_rating("5.0"), parse_rating(4.5), parse_rating("five")
    (5, None, None)
    """
    if isinstance(value, str):
        text = value.strip()
        return int(text[0]) if _RATING.fullmatch(text) else None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    return int(value) if value in RATINGS else None


def read_string(value: Any, *, numbers: bool) -> str | None:
    """Reads a value that should be text; null, NaN and nothing are the empty text.

    Args:
      value: As a JSON, CSV or Parquet reader gives it. PRIVATE.
      numbers: Whether a whole number counts too, as it does for identifiers and category codes.
    Returns:
      The text as it stands, or None where the type is wrong. PRIVATE.

    >>> read_string(17.0, numbers=True), read_string(None, numbers=False), read_string(17, numbers=False)
    ('17', '', None)
    """
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return None
    if numbers and isinstance(value, int | float | Decimal) and not isinstance(value, bool) and value == value // 1:
        return str(int(value))
    return None


def _join_surrogates(text: str) -> str:
    """Joins surrogate pairs that were escaped one by one, drops lone ones."""
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return _SURROGATE.sub("", text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass"))


def _unescape(match: re.Match[str]) -> str:
    name = match.group(1)
    return html.unescape(match.group()) if name is None else html5.get(f"{name};", match.group())


def _replace_tag(match: re.Match[str]) -> str:
    name = match.group(1).lower()
    if _BREAKING.fullmatch(name):
        return "\n"
    return " " if name in ("td", "th", "img") else ""
