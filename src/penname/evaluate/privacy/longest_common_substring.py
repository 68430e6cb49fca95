"""The longest stretch of each synthetic text that stands letter for letter in a corpus."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from penname.evaluate.bootstrap import interval_around
from penname.evaluate.metric import Estimate, Metric
from penname.evaluate.samples import RowSet, Samples

NAME = "longest_common_substring_mean"


def longest_common_substrings(candidates: Sequence[str], corpus: Sequence[str]) -> np.ndarray:
    """Length of the longest stretch that each candidate shares with a text of the corpus.

    Range, direction, reference: 0 to the candidate's length, characters; lower is better; the reference is a corpus of as many texts that
    were not trained on. White space is made alike and case is ignored, as a reader would.

    Args:
      candidates: n texts.
      corpus: m texts; a stretch does not cross from one into the next. PRIVATE.
    Returns:
      (n,) int64, characters. PRIVATE.
    Source: suffix array by prefix doubling, Manber and Myers (1993), doi:10.1137/0222058.

    >>> longest_common_substrings(["My CASE broke", "xyz"], ["the case  broke.", "a z"]).tolist()
    [11, 1]
    """
    return search_corpora(candidates, [corpus])[0]


def search_corpora(candidates: Sequence[str], corpora: Sequence[Sequence[str]]) -> np.ndarray:
    """`longest_common_substrings` of the same candidates with each of several corpora; the costly part is done once.

    Args:
      candidates: n texts.
      corpora: k times any number of texts. PRIVATE.
    Returns:
      (k, n) int64, characters. PRIVATE.
    """
    found = np.zeros((len(corpora), len(candidates)), dtype=np.int64)
    parts = [" ".join(text.casefold().split()) for texts in (candidates, *corpora) for text in texts]
    lengths = np.array([len(part) for part in parts], dtype=np.int64)
    if not len(candidates) or not lengths[len(candidates) :].sum():
        return found
    letters = np.frombuffer("".join(parts).encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32)
    symbols = _end_each(np.unique(letters, return_inverse=True)[1], lengths)
    starts = np.concatenate([[0], np.cumsum(lengths + 1)])  # of each text, and where the last one's end mark is behind
    bounds = starts[np.cumsum([len(candidates), *map(len, corpora)])]
    names, order = _name_substrings(symbols, int(lengths.max()))
    for row in range(len(corpora)):
        matches = _longest_matches(names, order, int(bounds[0]), (order >= bounds[row]) & (order < bounds[row + 1]))
        found[row] = np.maximum.reduceat(matches, starts[: len(candidates)])
    return found


def _end_each(letters: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """(T,) int64 symbols with a mark of its own after each text, so that no stretch holds an end."""
    ends = np.cumsum(lengths + 1) - 1
    symbols = np.zeros(int(lengths.sum()) + len(lengths), dtype=np.int64)
    is_letter = np.ones(len(symbols), dtype=bool)
    is_letter[ends] = False
    symbols[is_letter] = letters + len(lengths)
    symbols[ends] = np.arange(len(lengths))
    return symbols


def _name_substrings(symbols: np.ndarray, longest: int) -> tuple[list[np.ndarray], np.ndarray]:
    """For k = 0, 1, 2, ...: (T,) the rank of the 2^k symbols from each place on; and the suffixes in order (T,).

    Two places have one rank if and only if those symbols are equal. Ends when all ranks differ, or no text is longer.
    """
    order = np.argsort(symbols)
    names = [_rank(symbols[order], order)]
    num_symbols, width = len(symbols), 1
    while width <= longest and int(names[-1].max()) < num_symbols - 1:
        after = np.zeros(num_symbols, dtype=np.int64)
        after[:-width] = names[-1][width:] + np.int64(1)
        keys = names[-1] * np.int64(num_symbols + 1) + after
        order = np.argsort(keys)
        names.append(_rank(keys[order], order))
        width *= 2
    return names, order


def _rank(in_order: np.ndarray, order: np.ndarray) -> np.ndarray:
    """(T,) int32: how many distinct keys are smaller."""
    ranks = np.empty(len(order), dtype=np.int32)
    ranks[order] = np.concatenate([[0], np.cumsum(in_order[1:] != in_order[:-1], dtype=np.int32)])
    return ranks


def _longest_matches(names: list[np.ndarray], order: np.ndarray, num_own: int, in_corpus: np.ndarray) -> np.ndarray:
    """(num_own,) length of the longest stretch from each own place on that stands in the corpus.

    It is shared with the nearest suffix of the corpus before or after it in the order of suffixes, of which `in_corpus` (T,) says whether they are of it.
    """
    is_own = order < num_own
    places = np.arange(len(order))
    before = np.maximum.accumulate(np.where(in_corpus, places, -1))
    after = np.minimum.accumulate(np.where(in_corpus, places, len(order))[::-1])[::-1]
    own = order[is_own]
    best = np.zeros(num_own, dtype=np.int64)
    for neighbour in (before[is_own], after[is_own]):
        has_one = (neighbour >= 0) & (neighbour < len(order))
        best[own[has_one]] = np.maximum(best[own[has_one]], _common_length(names, own[has_one], order[neighbour[has_one]]))
    return best


def _common_length(names: list[np.ndarray], first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Number of equal symbols from two places on. The end marks all differ, so no stretch runs out of its text, or of the array."""
    length = np.zeros(len(first), dtype=np.int64)
    last = len(names[0]) - 1
    for level in range(len(names) - 1, -1, -1):
        a, b = first + length, second + length
        is_equal = (names[level][np.minimum(a, last)] == names[level][np.minimum(b, last)]) & (a <= last) & (b <= last)
        length += is_equal * (1 << level)
    return length


def _compute(samples: Samples) -> list[Estimate]:
    """The reference is the same synthetic texts against as many heldout texts; the arm `real` is test in their place."""
    num_corpus = min(len(samples.train), len(samples.heldout), samples.max_records)
    corpora: list[RowSet] = [samples.take(rows, num_corpus) for rows in (samples.train, samples.heldout)]
    arms = {arm: samples.take(rows, min(len(rows), samples.max_records)) for arm, rows in {"real": samples.test, **samples.synthetic}.items()}
    found = search_corpora([text for own in arms.values() for text in own.texts], [corpus.texts for corpus in corpora])
    ends = np.cumsum([len(own) for own in arms.values()])
    estimates = []
    for (arm, own), (in_train, in_heldout) in zip(arms.items(), np.split(found, ends[:-1], axis=1), strict=True):
        value, rng = float(in_train.mean()), samples.generator(f"{NAME}/{arm}")
        resampled = [float(in_train[rng.integers(len(own), size=len(own))].mean()) for _ in range(samples.num_bootstrap)]
        estimates.append(Estimate(arm, value, interval_around(value, resampled, (0.0, float("inf"))), float(in_heldout.mean()), len(own)))
    return estimates


LONGEST_COMMON_SUBSTRING = Metric(
    NAME,
    "privacy",
    "lower",
    (0.0, float("inf")),
    1,
    "longest verbatim stretch as in Carlini et al. (2023), arXiv:2202.07646; Manber and Myers (1993)",
    _compute,
)
