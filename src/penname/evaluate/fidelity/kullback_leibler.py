"""Kullback-Leibler divergence of word frequencies, smoothed."""

from __future__ import annotations

import numpy as np

from penname.evaluate.bootstrap import Interval, interval_around
from penname.evaluate.fidelity.jensen_shannon import kl_bits
from penname.evaluate.fidelity.lengths import resample_both
from penname.evaluate.metric import Estimate, Metric, compare_with_test
from penname.evaluate.samples import RowSet, Samples
from penname.evaluate.word_counts import count_pair

NAME = "kullback_leibler_divergence"
SMOOTHING = 0.5
"""Added to the count of every word of either side: Jeffreys' prior."""


def kullback_leibler_divergence(real_counts: np.ndarray, counts: np.ndarray) -> float:
    """Bits a word that are lost when the words of a candidate stand in for the real ones.

    Range, direction, reference: 0 and up; lower is better. Real is the first argument, so that a word which only real texts have costs most: this
    divergence punishes what is missing. SMOOTHING is added to every count of both sides, over the words that either has; without it one missing
    word would make it infinite.

    Args:
      real_counts: (V,) >= 0. PRIVATE.
      counts: (V,) >= 0, the same words, each of which one side has. PRIVATE.
    Returns:
      float: KL(real || candidate) in bits. PRIVATE.
    Source: Kullback and Leibler (1951), https://doi.org/10.1214/aoms/1177729694; smoothing: Jeffreys (1946).

    >>> kullback_leibler_divergence(np.array([3, 1]), np.array([3, 1])), round(kullback_leibler_divergence(np.array([4, 0]), np.array([0, 4])), 3)
    (0.0, 2.536)
    """
    real, own = real_counts + SMOOTHING, counts + SMOOTHING
    return max(0.0, kl_bits(real / real.sum(), own / own.sum()))


def _measure(candidate: RowSet, test: RowSet, samples: Samples, stream: str) -> tuple[float, Interval]:
    own, real = count_pair(candidate, test, samples)
    value = kullback_leibler_divergence(real.sum(axis=0), own.sum(axis=0))
    draws = resample_both(len(candidate), len(test), samples, stream)
    resampled = [kullback_leibler_divergence(b @ real, a @ own) for a, b in draws]
    return value, interval_around(value, resampled, (0.0, float("inf")))


def _compute(samples: Samples) -> list[Estimate]:
    return compare_with_test(samples, NAME, _measure)


KULLBACK_LEIBLER_DIVERGENCE = Metric(
    NAME, "fidelity", "lower", (0.0, float("inf")), 1, "Kullback and Leibler (1951), bits, 0.5 added to every count; doi:10.1214/aoms/1177729694", _compute
)
