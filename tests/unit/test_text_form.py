"""Broken texts are found, and what people really write is not."""

import pytest

from penname.text_form import FAULTS, has_fault, is_abrupt_ending, is_non_text, is_repeated


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


def test_faults_by_name():
    faults = {"repetition": ("so so so so so.", "stop"), "non_text": ("donâ€™t.", "stop"), "abrupt_ending": ("It is the", "stop"), "cut": ("Good.", "length")}
    assert faults.keys() == FAULTS.keys()
    for name, (text, finish_reason) in faults.items():
        assert has_fault(text, finish_reason, [name])
        assert not has_fault("It is good.", "stop", [name])
        assert not has_fault(text, finish_reason, [])
        others = [other for other in FAULTS if other not in (name, "abrupt_ending")]
        assert not has_fault(text, finish_reason, others)
