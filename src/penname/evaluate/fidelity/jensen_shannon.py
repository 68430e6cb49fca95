"""Jensen-Shannon divergence of word frequencies."""

from __future__ import annotations

from collections import Counter

import numpy as np

from penname.evaluate.bootstrap import Interval, interval_around
from penname.evaluate.fidelity.lengths import resample_both
from penname.evaluate.metric import Estimate, Metric, compare_with_test
from penname.evaluate.samples import RowSet, Samples
from penname.evaluate.word_counts import count_pair

NAME = "jensen_shannon_divergence"
NUM_DRAWN = 120


def jensen_shannon_divergence(first_counts: np.ndarray, second_counts: np.ndarray) -> float:
    """Divergence of two word distributions, in bits.

    Range, direction, reference: 0 (equal) to 1 (no word in common); lower is better. No smoothing is needed: a word that one side
    lacks meets the mean of both sides, which is never zero. Two sides without any word are equal.

    Args:
      first_counts: (V,) >= 0. PRIVATE.
      second_counts: (V,) >= 0, the same words. PRIVATE.
    Returns:
      float: the divergence itself, not its square root. PRIVATE.
    Source: Lin (1991), equation 4.1 with equal weights. https://doi.org/10.1109/18.61115

    >>> jensen_shannon_divergence(np.array([2, 0]), np.array([0, 7]))
    1.0
    """
    first_total, second_total = first_counts.sum(), second_counts.sum()
    if first_total == 0 or second_total == 0:
        return 0.0 if first_total == second_total else 1.0
    first, second = first_counts / first_total, second_counts / second_total
    middle = (first + second) / 2
    return float(min(1.0, max(0.0, (kl_bits(first, middle) + kl_bits(second, middle)) / 2)))


def kl_bits(frequencies: np.ndarray, others: np.ndarray) -> float:
    """Kullback-Leibler divergence in bits, with 0 log 0 = 0; `others` is above 0 wherever `frequencies` is."""
    there = frequencies > 0
    return float(np.sum(frequencies[there] * np.log2(frequencies[there] / others[there])))


def _measure(candidate: RowSet, test: RowSet, samples: Samples, stream: str) -> tuple[float, Interval]:
    first, second = count_pair(candidate, test, samples)
    _leave_word_shares(candidate, test, samples, stream.rpartition("/")[2])
    value = jensen_shannon_divergence(first.sum(axis=0), second.sum(axis=0))
    draws = resample_both(len(candidate), len(test), samples, stream)
    resampled = [jensen_shannon_divergence(a @ first, b @ second) for a, b in draws]
    return value, interval_around(value, resampled, (0.0, 1.0))


def _leave_word_shares(candidate: RowSet, test: RowSet, samples: Samples, arm: str) -> None:
    """The commonest words of test, and how often a thousand words of each set are one of them, for the report to draw."""

    def count() -> tuple[list[str], list[float]]:
        counts = Counter(word for words in test.words for word in words)
        words = [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:NUM_DRAWN]]
        return words, [1000 * counts[word] / max(1, counts.total()) for word in words]

    words, shares = samples.once("word shares", count)
    own = Counter(word for words in candidate.words for word in words)
    drawn = samples.for_figures.setdefault("word_shares", {"words": words, "test": [round(share, 4) for share in shares], "sets": {}})
    drawn["sets"][arm] = [round(1000 * own[word] / max(1, own.total()), 4) for word in words]


def _compute(samples: Samples) -> list[Estimate]:
    return compare_with_test(samples, NAME, _measure)


JENSEN_SHANNON_DIVERGENCE = Metric(NAME, "fidelity", "lower", (0.0, 1.0), 1, "Lin (1991), base 2, word frequencies; doi:10.1109/18.61115", _compute)
