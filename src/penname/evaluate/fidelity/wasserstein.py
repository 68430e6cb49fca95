"""Wasserstein distance between length distributions."""

from __future__ import annotations

from functools import partial

import numpy as np

from penname.evaluate.fidelity.lengths import LENGTHS, LengthsOf, compare_lengths
from penname.evaluate.metric import Estimate, Metric, compare_with_test
from penname.evaluate.samples import Samples

_SOURCE = "Wasserstein-1 distance, in words or sentences; Vallender (1974), doi:10.1137/1118101"
_RANGE = (0.0, float("inf"))


def wasserstein_distance(values: np.ndarray, first_counts: np.ndarray, second_counts: np.ndarray) -> float:
    """Earth mover's distance between two histograms on the same values.

    Range, direction, reference: 0 and up in the unit of `values`; lower is better; 0 only for equal distributions.

    Args:
      values: (K,) sorted, distinct.
      first_counts: (K,) >= 0, sum > 0. PRIVATE.
      second_counts: (K,) >= 0, sum > 0. PRIVATE.
    Returns:
      float: mean distance that a unit of mass must travel. PRIVATE.
    Source: Vallender (1974): the area between the two distribution functions. https://doi.org/10.1137/1118101

    >>> wasserstein_distance(np.array([0, 3]), np.array([1, 0]), np.array([0, 1]))
    3.0
    """
    gaps = np.cumsum(first_counts) / np.sum(first_counts) - np.cumsum(second_counts) / np.sum(second_counts)
    return float(np.sum(np.abs(gaps[:-1]) * np.diff(values)))


def _compute(name: str, lengths_of: LengthsOf, samples: Samples) -> list[Estimate]:
    return compare_with_test(samples, name, partial(compare_lengths, lengths_of, wasserstein_distance, _RANGE))


def _declare(kind: str) -> Metric:
    name = f"{kind}_wasserstein_distance"
    return Metric(name, "fidelity", "lower", _RANGE, 1, _SOURCE, partial(_compute, name, LENGTHS[kind]))


WORDS_PER_REVIEW = _declare("words_per_review")
WORDS_PER_SENTENCE = _declare("words_per_sentence")
SENTENCES_PER_REVIEW = _declare("sentences_per_review")
