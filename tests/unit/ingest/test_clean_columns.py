"""Whole columns are cleaned as single values are."""

import math
import re
import unicodedata
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penname.ingest import cleaning
from penname.ingest.clean_columns import PLAIN_RANGES, clean_ids, clean_texts, clean_titles, clean_unit_ids, parse_ratings, read_strings
from penname.ingest.cleaning import clean_id, clean_text, clean_title, clean_unit_id, parse_rating, read_string
from penname.ingest.raw_batch import MISSING

PIECES = [
    "a", "Z", "9", " ", "  ", "\n", "\n\n\n", " \n ", "\t", "\r\n", "\x0b", "\x85", "\u2028", "<br />", "<b>", "</p>", "<3", "<!-- x -->", "&amp;",
    "&amp;quot;", "&#39;", "&#34;", "&quot;", "&amp;#39;",
    "&nope;", "&", "& ", "<br>", "<BR/>", "< br>", "<br", "#39;", "br />",
    "é", "e\u0301", "\u00a0", "\u00ad", "\u200b", "\u200d", "👨‍👩‍👧", "😀", "\ufe0f", "\u3099", "か", "한",
    "\u1100\u1161", "\ud83d", "\udc00", "\x00", "\x1f", "\ufeff", "\uffff", "Ω", "\u2126", "NaN", "null", "\u0130", "א\u05bc", "می‌خواهم",
    "\u2024", "\u205f", "Ⅳ", "ﬁ",
]  # fmt: skip
DIRTY = st.one_of(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), st.text(max_size=12))
COLUMNS = [(clean_texts, clean_text), (clean_titles, clean_title), (clean_ids, clean_id), (clean_unit_ids, clean_unit_id)]


@pytest.mark.parametrize(("column", "single"), COLUMNS)
@settings(max_examples=120, deadline=None, derandomize=True)
@given(values=st.lists(DIRTY, max_size=6))
@example(values=["", " ", "NaN", "nan ", "\\N", "undefined", "\ud800", "plain"])
def test_a_column_is_cleaned_as_its_values_are(column, single, values):
    assert column(values).to_list() == [single(value) for value in values]


def test_signs_that_are_called_plain_are():
    """Alone, beside themselves, and behind or before what could be joined with them."""
    for first, last in PLAIN_RANGES:
        signs = [chr(code) for code in range(ord(first), ord(last) + 1)]
        assert not any(sign.isspace() or unicodedata.combining(sign) for sign in signs)
        text = "".join(f"{sign}{sign}a{sign}é{sign}가{sign}か" for sign in signs)
        assert unicodedata.is_normalized("NFC", text)
        slow = cleaning._ODD_SPACE.sub(" ", cleaning._CONTROL.sub("", cleaning._NEW_LINE.sub("\n", text)))
        assert slow == text
        assert not re.search("[&< \n]", text)
        assert [sign for sign in signs if clean_unit_id(f"an-id-{sign}") != f"an-id-{sign}"] == []


def clean_slowly(value):
    """Every rule on every text: what clean_text leaves out because it would find nothing."""
    text = cleaning._join_surrogates(value)
    for _ in range(2):
        text = cleaning._ENTITY.sub(cleaning._unescape, text)
    text = cleaning._TAG.sub(cleaning._replace_tag, cleaning._COMMENT.sub("", text))
    text = cleaning._CONTROL.sub("", cleaning._NEW_LINE.sub("\n", text))
    text = cleaning._LOOSE_JOINER.sub("", unicodedata.normalize("NFC", text))
    text = cleaning._SPACES.sub(" ", cleaning._ODD_SPACE.sub(" ", text))
    return cleaning._BLANK_LINES.sub("\n\n", cleaning._AROUND_NEW_LINE.sub("\n", text)).strip()


@settings(max_examples=400, deadline=None, derandomize=True)
@given(value=DIRTY)
def test_no_rule_is_left_out_that_would_find_something(value):
    assert clean_text(value) == clean_slowly(value)


VALUES = [
    5, 5.0, "5", "5.0", " 5 ", 4.5, 0, 6, "five", "", None, True, False, math.nan, math.inf, Decimal("5"), [5], {"a": 5}, MISSING, 10**30, 17.0, b"x", b"\xff",
]  # fmt: skip


@settings(max_examples=200, deadline=None, derandomize=True)
@given(values=st.lists(st.sampled_from(VALUES), max_size=6))
@example(values=[True, 1, 1.0])
@example(values=["5", 5, 5.0])
def test_ratings_and_texts_are_read_as_single_values_are(values):
    assert parse_ratings(values) == [parse_rating(value) for value in values]
    for numbers in (True, False):
        assert read_strings(values, numbers=numbers) == ["" if value is MISSING else read_string(value, numbers=numbers) for value in values]
