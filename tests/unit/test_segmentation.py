"""Words and sentences."""

import pytest

from penname.segmentation import split_sentences, split_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("... !!! 👍", []),
        ("Don't buy; it's CHEAP.", ["don't", "buy", "it's", "cheap"]),
        ("a well-made case -- really", ["a", "well-made", "case", "really"]),
        ("Straße 10€", ["strasse", "10"]),
    ],
)
def test_split_words(text, words):
    assert split_words(text) == words


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        ("👍 👍", []),
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("No end\nsecond line\n\nthird", ["No end", "second line", "third"]),
        ('He said "Stop!" Then left', ['He said "Stop!', "Then left"]),
        ("It cost 3.50 at v1.2", ["It cost 3.50 at v1.2"]),
        ("好。很好！", ["好。", "很好！"]),
    ],
)
def test_split_sentences(text, sentences):
    assert split_sentences(text) == sentences
