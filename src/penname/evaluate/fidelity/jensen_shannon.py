"""Jensen-Shannon divergence of word frequencies."""

from __future__ import annotations

import numpy as np

from penname.evaluate.bootstrap import Interval, interval_around, resample
from penname.evaluate.metric import Estimate, Metric, compare_with_test
from penname.evaluate.samples import RowSet, Samples

NAME = "jensen_shannon_divergence"


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
    return float(min(1.0, max(0.0, (_kl_bits(first, middle) + _kl_bits(second, middle)) / 2)))


def _kl_bits(frequencies: np.ndarray, middle: np.ndarray) -> float:
    """Kullback-Leibler divergence in bits, with 0 log 0 = 0."""
    there = frequencies > 0
    return float(np.sum(frequencies[there] * np.log2(frequencies[there] / middle[there])))


def _count_words(words: list[list[str]], columns: dict[str, int]):
    """(n, V) sparse counts; new words are added to `columns`."""
    from scipy.sparse import csr_array

    rows = np.repeat(np.arange(len(words)), [len(own) for own in words])
    places = np.array([columns.setdefault(word, len(columns)) for own in words for word in own], dtype=np.int64)
    return csr_array((np.ones(len(rows)), (rows, places)), shape=(len(words), max(1, len(columns))))


def _measure(candidate: RowSet, test: RowSet, samples: Samples, stream: str) -> tuple[float, Interval]:
    columns: dict[str, int] = {}
    first = _count_words(candidate.words, columns)
    second = _count_words(test.words, columns)
    first.resize(len(candidate), len(columns) or 1)
    value = jensen_shannon_divergence(first.sum(axis=0), second.sum(axis=0))
    rng = samples.generator(stream)
    draws = zip(
        resample(rng, len(candidate), samples.num_bootstrap),
        resample(rng, len(test), samples.num_bootstrap),
        strict=True,
    )
    resampled = [jensen_shannon_divergence(a @ first, b @ second) for a, b in draws]
    return value, interval_around(value, resampled, (0.0, 1.0))


def _compute(samples: Samples) -> list[Estimate]:
    return compare_with_test(samples, NAME, _measure)


JENSEN_SHANNON_DIVERGENCE = Metric(NAME, "fidelity", "lower", (0.0, 1.0), 1, "Lin (1991), base 2, word frequencies; doi:10.1109/18.61115", _compute)
