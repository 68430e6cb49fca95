"""Broken texts are found, and what people really write is not."""

import pytest

from penname.evaluate.fidelity.well_formed import (
    ABRUPT_ENDING,
    NON_TEXT,
    REPEATED,
    WELL_FORMED,
    is_abrupt_ending,
    is_non_text,
    is_repeated,
)
from penname.evaluate.samples import Row, RowSet, Samples


@pytest.mark.parametrize(
    "text",
    [
        "good good good good good",
        "It broke. I love it I love it I love it and then some.",
        "The case fits well. Nice. The case fits well. Thanks. The case fits well!",
        "it is a case, it is a case, it is a case",
        "ha! " * 5,
        " ".join([f"word{i}" for i in range(40)] * 3),
    ],
)
def test_repeated(text):
    assert is_repeated(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "word",
        "very very very very good",
        "I love it, I love it. Fits well.",
        "I love it. My wife loves it. I would buy it again and again and again.",
        "Great! Great! Great! Great case.",
        "No. No. No. Do not buy this.",
    ],
)
def test_not_repeated(text):
    assert not is_repeated(text)


@pytest.mark.parametrize("text", ["", "   ", "The case is", "I bought this for my,", "and then -"])
def test_abrupt(text):
    assert is_abrupt_ending(text)


@pytest.mark.parametrize("text", ["Good.", "Why?!", "Love it 👍", "so-so…", 'He said "no."', "(nice)", "Great :)", "Great :D\n", "love it <3", "いい。"])
def test_not_abrupt(text):
    assert not is_abrupt_ending(text)
    assert not is_abrupt_ending(text, "stop")
    assert is_abrupt_ending(text, "length")


@pytest.mark.parametrize(
    "text",
    ["", "....", "broken \ufffd char", "grÃ©at", "donâ€™t", "▓▓▓▓ ok", "\x00\x01\x02 hi", "a\ue000\ue000b"],
)
def test_non_text(text):
    assert is_non_text(text)


@pytest.mark.parametrize(
    "text", ["Très bon!", "👍🏽👩‍👩‍👧", "5", "costs $5 = £4", "とても良い。", "очень хорошо", "São Paulo", "A 20° angle ™ is fine with me, all in all"]
)
def test_text(text):
    assert not is_non_text(text)


def test_fractions_by_hand():
    texts = ["All is well.", "go go go go go.", "It stops in the", "donâ€™t."]
    rows = [Row(rating=5, title="", text=text, category="c", finish_reason="stop") for text in texts]
    real = RowSet("real", [Row(rating=5, title="", text="Good.", category="c")] * 4, None)
    samples = Samples(train=real, heldout=real, test=real, synthetic={"a": RowSet("a", rows, None)}, seed=1, num_bootstrap=20, max_records=9)
    for metric, expected, reference in ((WELL_FORMED, 0.25, 1.0), (REPEATED, 0.25, 0.0), (ABRUPT_ENDING, 0.25, 0.0), (NON_TEXT, 0.25, 0.0)):
        real_estimate, estimate = metric.compute(samples)
        assert (estimate.value, estimate.reference, estimate.num_records) == (expected, reference, 4)
        assert real_estimate.value == reference
