"""Where many phrases stand in many texts: letter for letter, or nearly."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

_TOKEN = re.compile(r"\w+")
_GRAM = 3
_PHRASES_AT_ONCE, _TEXTS_AT_ONCE = 256, 128
_WORD_BITS = 64
"""Windows of longer phrases take many times as long to compare."""


def find_phrases(phrases: Sequence[str], texts: Iterable[str]) -> list[list[int]]:
    """Finds every phrase in every text, letter for letter; it must begin and end where a word does.

    One pass over the texts, whatever the number of phrases.

    Args:
      phrases: Any; one without a letter or digit is never found.
      texts: PRIVATE when real.
    Returns:
      Places of the texts that hold each phrase, ascending.

    >>> find_phrases(["Ann Lee", "555-1"], ["I am Ann Lee, call 555-12", "Joann Lee 555-1."])
    [[0], [1]]
    """
    by_first: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for place, phrase in enumerate(phrases):
        first = _TOKEN.search(phrase)
        if first:
            by_first[first.group()].append((place, first.start()))
    found: list[list[int]] = [[] for _ in phrases]
    for text_place, text in enumerate(texts):
        for token in _TOKEN.finditer(text):
            for place, offset in by_first.get(token.group(), ()):
                begin = token.start() - offset
                own, phrase = found[place], phrases[place]
                if begin < 0 or (own and own[-1] == text_place) or not text.startswith(phrase, begin):
                    continue
                end = begin + len(phrase)
                if end == len(text) or not (text[end].isalnum() and phrase[-1].isalnum()):
                    own.append(text_place)
    return found


def score_phrases(phrases: Sequence[str], texts: Sequence[str], *, floor: float) -> list[dict[int, float]]:
    """Likeness of each phrase to the stretch of each text that is most like it, case aside.

    Only pairs that share as many runs of three characters as `floor` demands are compared, which loses none above it but phrases so short
    that a pair above it need not share a single run.

    Args:
      phrases: At least three characters each, or they score nowhere.
      texts: Synthetic.
      floor: Likenesses below it are not kept, from 0 to 100.
    Returns:
      For each phrase, likeness (floor to 100) by place of the text: 100 times 1 minus insertions and deletions over twice the phrase's length.
    Source: rapidfuzz, partial_ratio (indel distance of the best window). https://github.com/rapidfuzz/RapidFuzz
    """
    folded_texts = [text.casefold() for text in texts]
    scores: list[dict[int, float]] = []
    for phrase, places, shared in _list_shared_runs(phrases, folded_texts):
        close = np.sort(places[shared >= _least_shared(phrase, floor)])
        likenesses = _compare(phrase, folded_texts, close, floor=floor)
        scores.append({int(i): float(score) for i, score in zip(close, likenesses, strict=True) if score >= max(floor, 1e-9)})
    return scores


def best_likenesses(phrases: Sequence[str], texts: Sequence[str], *, floor: float) -> np.ndarray:
    """The highest likeness of each phrase in any text: the highest of `score_phrases`, and sooner had.

    Args:
      phrases, texts, floor: As there.
    Returns:
      (n,) float64; 0 where no text reaches the floor.
    """
    folded_texts = [text.casefold() for text in texts]
    best = np.zeros(len(phrases))
    for row, (phrase, places, shared) in enumerate(_list_shared_runs(phrases, folded_texts)):
        # Texts that share most come first: what they reach, others must exceed.
        order = np.argsort(-shared, kind="stable")
        for begin in range(0, len(order), _TEXTS_AT_ONCE):
            ahead, wanted = order[begin : begin + _TEXTS_AT_ONCE], max(floor, best[row])
            ahead = ahead[shared[ahead] >= _least_shared(phrase, wanted)]
            if not len(ahead):
                break
            best[row] = max(best[row], _compare(phrase, folded_texts, places[ahead], floor=wanted).max())
    return best


def _list_shared_runs(phrases: Sequence[str], folded_texts: Sequence[str]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Each phrase, case aside; the places of the texts that share runs of characters with it and are no shorter; and how many distinct ones (int)."""
    folded = [phrase.casefold() for phrase in phrases]
    vocabulary: dict[str, int] = {}
    for phrase in folded:
        for gram in _grams(phrase):
            vocabulary.setdefault(gram, len(vocabulary))
    in_texts = _incidence(folded_texts, vocabulary).T.tocsc()
    text_lengths = np.array([len(text) for text in folded_texts], dtype=np.int64)
    for begin in range(0, len(folded), _PHRASES_AT_ONCE):
        own = folded[begin : begin + _PHRASES_AT_ONCE]
        shared = (_incidence(own, vocabulary) @ in_texts).tocsr()
        for row, phrase in enumerate(own):
            span = slice(shared.indptr[row], shared.indptr[row + 1])
            # Of a text shorter than the phrase, rapidfuzz would look for the text in the phrase: a text "Alex" is not the name in full.
            is_long = text_lengths[shared.indices[span]] >= len(phrase)
            yield phrase, shared.indices[span][is_long], shared.data[span][is_long]


def _compare(phrase: str, folded_texts: Sequence[str], places: np.ndarray, *, floor: float) -> np.ndarray:
    """(n,) likeness to the text at each place; 0 below the floor."""
    from rapidfuzz.fuzz import partial_ratio
    from rapidfuzz.process import cdist

    texts = [folded_texts[int(i)] for i in places]
    likenesses = np.zeros(len(texts))
    kept = np.flatnonzero(_may_reach(phrase, texts, floor)) if len(phrase) > _WORD_BITS else np.arange(len(texts))
    likenesses[kept] = cdist([phrase], [texts[i] for i in kept], scorer=partial_ratio, score_cutoff=floor, dtype=np.float64, workers=-1)[0]
    return likenesses


def _may_reach(phrase: str, texts: Sequence[str], floor: float) -> np.ndarray:
    """(n,) bool: whether the longest common subsequence leaves it open that a window of the text reaches the floor; found many times faster than the window.

    A likeness of t to a window of W letters is a subsequence of t (L + W) / 2 letters, which are at most W. Only at the ends of a text are windows
    shorter than the phrase, L letters, looked at.
    """
    length, share = len(phrase), floor / 100
    least, least_at_ends = (math.ceil(share * length / part - 1e-9) for part in (1, 2 - share))
    if not least:
        return np.ones(len(texts), dtype=bool)
    parts = ((texts, least), ([text[:length] for text in texts], least_at_ends), ([text[-length:] for text in texts], least_at_ends))
    return np.any([_hold_subsequence(phrase, part, wanted) for part, wanted in parts], axis=0)


def _hold_subsequence(phrase: str, texts: Sequence[str], least: int) -> np.ndarray:
    """(n,) bool: whether a subsequence of at least that many letters stands in both."""
    from rapidfuzz.distance import LCSseq
    from rapidfuzz.process import cdist

    return cdist([phrase], texts, scorer=LCSseq.similarity, score_cutoff=least)[0] >= least


def _grams(text: str) -> set[str]:
    return {text[i : i + _GRAM] for i in range(len(text) - _GRAM + 1)}


def _least_shared(phrase: str, floor: float) -> int:
    """Distinct runs that a window with this likeness must share with the phrase, at least 1.

    With L characters in the phrase and W in the window, at most (1 - t) (L + W) are deleted or inserted. A deletion breaks at most 3 runs, an insertion at
    most 2. Most break where the window, at the end of a text, is the phrase without the 2 L (1 - t) / (2 - t) characters that are deleted. Runs that occur
    twice in the phrase count once.
    """
    share = floor / 100
    num_broken = math.floor(2 * _GRAM * len(phrase) * (1 - share) / (2 - share) + 1e-9)
    return max(1, len(_grams(phrase)) - num_broken)


def _incidence(texts: Sequence[str], vocabulary: dict[str, int]):
    """(n, K) sparse: which of the known runs each text holds."""
    from scipy.sparse import csr_array

    columns = [[vocabulary[gram] for gram in _grams(text) if gram in vocabulary] for text in texts]
    counts = np.array([len(own) for own in columns], dtype=np.int64)
    flat = np.fromiter((column for own in columns for column in own), dtype=np.int32, count=int(counts.sum()))
    pointers = np.concatenate([[0], np.cumsum(counts)])
    return csr_array((np.ones(len(flat), dtype=np.int16), flat, pointers), shape=(len(texts), max(1, len(vocabulary))))
