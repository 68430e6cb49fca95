import doctest
import math
import time
from decimal import Decimal

import pytest

from penname.ingest import cleaning
from penname.ingest.cleaning import clean_id, clean_text, clean_title, clean_unit_id, parse_rating, read_string


def test_the_examples_in_the_docstrings_hold():
    results = doctest.testmod(cleaning)
    assert results.attempted >= 4
    assert results.failed == 0


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Plain text, nothing to do.", "Plain text, nothing to do."),
        ("one<br />two<BR>three<br/>four", "one\ntwo\nthree\nfour"),
        ('<p class="x">para</p><p>next</p>', "para\n\nnext"),
        ("<b>bold</b> and <a href='http://x.y'>link</a>", "bold and link"),
        ("I <3 this, a < b and c > d, 5 <b 6", "I <3 this, a < b and c > d, 5 <b 6"),
        ("&#34;fine&#34; &amp;amp; &lt;3", '"fine" & <3'),
        ("&lt;br /&gt;x", "x"),
        ("AT&T ?a=1&copy=2 &unknown; &amp;amp;amp;", "AT&T ?a=1&copy=2 &unknown; &amp;"),
        ("cafe\u0301", "café"),
        ("a\u200bb\ufeffc\u00add\u202ee", "abcde"),
        ("x\x00y\x1bz\x07", "xyz"),
        ("tab\there\u00a0and\u3000there", "tab here and there"),
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("a  \n\n\n\n  b", "a\n\nb"),
        ("lone \ud83d end", "lone end"),
        ("pair \ud83d\ude00", "pair 😀"),
        ("👨‍👩‍👧 👍🏽 1️⃣", "👨‍👩‍👧 👍🏽 1️⃣"),
        ("می‌خواهم", "می‌خواهم"),
        ("a\u200db \u200d", "ab"),
        ("很好 очень хорошо ดีมาก", "很好 очень хорошо ดีมาก"),
        ("<br /> &nbsp; \u200b", ""),
        ("", ""),
    ],
)
def test_clean_text(raw, clean):
    assert clean_text(raw) == clean
    clean_text(raw).encode("utf-8")


def test_a_title_is_one_line():
    assert clean_title("Works<br />as\n\nit  should") == "Works as it should"


@pytest.mark.parametrize("unit", ["<", "<a b=", "&", "&#", "<!--", "\u200d", " \n", "<b "])
def test_hostile_text_takes_linear_time(unit):
    start = time.process_time()
    clean_text(unit * (200_000 // len(unit)))
    assert time.process_time() - start < 5


@pytest.mark.parametrize("value", [5, 5.0, "5", "5.0", " 5 ", "5.00", Decimal("5")])
def test_ratings_that_are_five(value):
    assert parse_rating(value) == 5


@pytest.mark.parametrize("value", [0, 6, 4.5, "five", "", None, True, math.nan, math.inf, "5.5", "55", "5,0", [5], Decimal("NaN"), "٥"])
def test_ratings_that_are_none(value):
    assert parse_rating(value) is None


def test_read_string_tells_missing_from_wrong():
    assert read_string(math.nan, numbers=True) == ""
    assert read_string(b"caf\xc3\xa9", numbers=False) == "café"
    assert read_string(b"\xff", numbers=False) is None
    assert read_string(True, numbers=True) is None
    assert read_string(1.5, numbers=True) is None
    assert read_string(math.inf, numbers=True) is None
    assert read_string(["x"], numbers=True) is None


def test_an_id_can_be_written_to_a_file():
    assert clean_id(" u\ud8001 ") == "u1"


@pytest.mark.parametrize(
    "value", ["", " ", "\t\n", "\u200b", "\ufeff ", "\x00", "\ud800", "NaN", "nan", "NULL", " null ", "None", "<NA>", "#N/A", "\\N", "NaT"]
)
def test_what_is_no_id_of_a_unit(value):
    assert clean_unit_id(value) is None


@pytest.mark.parametrize(
    ("value", "identity"), [("0", "0"), (" u7 ", "u7"), ("nano", "nano"), ("-", "-"), ("none of us", "none of us"), ("Ann", "Ann"), ("é", "é")]
)
def test_what_is_an_id_of_a_unit_stays_as_it_is(value, identity):
    assert clean_unit_id(value) == identity
