"""Kolmogorov-Smirnov distance between length distributions."""

from __future__ import annotations

from functools import partial

import numpy as np

from penname.evaluate.fidelity.lengths import LENGTHS, LengthsOf, compare_lengths
from penname.evaluate.metric import Estimate, Metric, compare_with_test
from penname.evaluate.samples import Samples

_SOURCE = "Kolmogorov-Smirnov statistic of two samples; Smirnov (1939), as in Hodges (1958), doi:10.1007/BF02589501"
_RANGE = (0.0, 1.0)


def kolmogorov_smirnov_distance(values: np.ndarray, first_counts: np.ndarray, second_counts: np.ndarray) -> float:
    """Largest gap between two distribution functions.

    Range, direction, reference: 0 to 1; lower is better; it has no unit, so it compares lengths of any kind. The reference is heldout against test.

    Args:
      values: (K,) sorted, distinct; their distances do not matter.
      first_counts: (K,) >= 0, sum > 0. PRIVATE.
      second_counts: (K,) >= 0, sum > 0. PRIVATE.
    Returns:
      float: PRIVATE.
    Source: Hodges (1958), The significance probability of the Smirnov two-sample test. https://doi.org/10.1007/BF02589501

    >>> kolmogorov_smirnov_distance(np.array([0, 3]), np.array([1, 1]), np.array([0, 4]))
    0.5
    """
    del values
    gaps = np.cumsum(first_counts) / np.sum(first_counts) - np.cumsum(second_counts) / np.sum(second_counts)
    return float(min(1.0, np.max(np.abs(gaps))))


def _compute(name: str, lengths_of: LengthsOf, samples: Samples) -> list[Estimate]:
    return compare_with_test(samples, name, partial(compare_lengths, lengths_of, kolmogorov_smirnov_distance, _RANGE))


def _declare(kind: str) -> Metric:
    name = f"{kind}_ks_distance"
    return Metric(name, "fidelity", "lower", _RANGE, 1, _SOURCE, partial(_compute, name, LENGTHS[kind]))


WORDS_PER_REVIEW_KS = _declare("words_per_review")
WORDS_PER_SENTENCE_KS = _declare("words_per_sentence")
SENTENCES_PER_REVIEW_KS = _declare("sentences_per_review")
