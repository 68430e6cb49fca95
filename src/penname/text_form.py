"""Faults of a text that need no other text to see: repetition, abrupt endings, characters that are not text.

generate draws such texts again, evaluate counts them, people are shown them; so the rules stand here. They read the text alone.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection

import numpy as np

from penname.segmentation import split_sentences, split_words

MIN_WORD_RUN = 5
"""One word this often in a row is a repetition; below that people do write `very very very good`."""
MIN_PHRASE_RUN = 3
"""A phrase of two words or more this often in a row, as in Holtzman et al. (2020), section 6.2."""
MAX_PHRASE_WORDS = 40
MIN_SENTENCE_REPEATS = 3
MIN_SENTENCE_WORDS = 4
"""A sentence of this many words that stands in a text MIN_SENTENCE_REPEATS times, in a row or not, is a loop."""
MAX_NON_TEXT_FRAC = 0.05

_FINAL = ".!?…。！？"
_CLOSERS = "\"'”’»)]*"
_EMOTICON = re.compile(r"(?:[:;=8xX][-']?[)(DPpOo3*/\]\[|]|<3|\^_?\^)$")
_MOJIBAKE = re.compile(r"Ã[\x80-\xbf]|â€|â\x80|Â[\x80-\xbf]|ï»¿|ðŸ|\ufffd")
_EMOJI_RANGES = ((0x2190, 0x21FF), (0x2300, 0x23FF), (0x2600, 0x27BF), (0x2B00, 0x2BFF), (0x1F000, 0x1FAFF))
_EMOJI_JOINERS = "\u200d\ufe0e\ufe0f\u20e3"


def is_repeated(text: str) -> bool:
    """Whether a word, a phrase or a sentence comes round again and again.

    >>> is_repeated("I love it so much, I love it so much, I love it so much"), is_repeated("Very very very good, very good.")
    (True, False)

    Source: Holtzman et al. (2020): a phrase of two words or more, three times in a row. https://arxiv.org/abs/1904.09751
    """
    words = split_words(text)
    codes = np.unique(np.array(words), return_inverse=True)[1] if words else np.zeros(0, dtype=np.int64)
    for length in range(1, min(MAX_PHRASE_WORDS, len(words) // 2) + 1):
        # A phrase of k words said r times in a row is a run of k (r - 1) words, each equal to the one k before it.
        needed = length * ((MIN_WORD_RUN if length == 1 else MIN_PHRASE_RUN) - 1)
        if _longest_run(codes[length:] == codes[:-length]) >= needed:
            return True
    sentences = [tuple(split_words(part)) for part in split_sentences(text)]
    sentences = [sentence for sentence in sentences if len(sentence) >= MIN_SENTENCE_WORDS]
    return any(sentences.count(sentence) >= MIN_SENTENCE_REPEATS for sentence in set(sentences))


def _longest_run(flags: np.ndarray) -> int:
    """Length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return int(np.max(edges[1::2] - edges[::2], initial=0))


def is_abrupt_ending(text: str, finish_reason: str = "") -> bool:
    """Whether a text was cut by the token limit, or stops without a final mark, a closing quote or bracket, or an emoji.

    Real reviews often lack the final full stop, so the figure is read against the real one. Empty texts count.

    >>> is_abrupt_ending("The case is"), is_abrupt_ending("Love it :)"), is_abrupt_ending("Fine.", finish_reason="length")
    (True, False, True)
    """
    text = text.rstrip()
    if finish_reason == "length" or not text:
        return True
    last = text[-1]
    return not (last in _FINAL or last in _CLOSERS or _is_emoji(last) or _EMOTICON.search(text))


def is_non_text(text: str) -> bool:
    """Whether a text holds no letter, digit or emoji, holds broken encoding, or more than 5 % of characters that are none of
    letters, marks, digits, punctuation, spaces, currency and mathematical signs, and emoji.

    >>> is_non_text("Très bien 👍 10 €"), is_non_text("It is grÃ©at"), is_non_text("--- ... ---")
    (False, True, True)
    """
    if _MOJIBAKE.search(text):
        return True
    if not any(char.isalnum() or _is_emoji(char) for char in text):
        return True
    return sum(not _is_text_char(char) for char in text) > MAX_NON_TEXT_FRAC * len(text)


def _is_emoji(char: str) -> bool:
    return char in _EMOJI_JOINERS or any(low <= ord(char) <= high for low, high in _EMOJI_RANGES)


def _is_text_char(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] in "LMNPZ" or category in ("Sc", "Sm", "Sk") or char in "\n\t\r°©®" or _is_emoji(char)


FAULTS: dict[str, Callable[[str, str], bool]] = {
    "repetition": lambda text, _: is_repeated(text),
    "non_text": lambda text, _: is_non_text(text),
    "abrupt_ending": is_abrupt_ending,
    "cut": lambda _, finish_reason: finish_reason == "length",
}
"""Fault -> whether a text that ended for this reason has it."""


def has_fault(text: str, finish_reason: str, faults: Collection[str]) -> bool:
    """Whether a text has one of these faults, by names of `FAULTS`.

    >>> has_fault("Good, good.", "length", ["repetition"]), has_fault("Good, good.", "length", ["cut"])
    (False, True)
    """
    return any(FAULTS[fault](text, finish_reason) for fault in faults)
