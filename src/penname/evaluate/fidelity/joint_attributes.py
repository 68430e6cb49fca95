"""Total variation distance between the joint shares of rating and category."""

from __future__ import annotations

import numpy as np

from penname.evaluate.bootstrap import Interval, interval_around
from penname.evaluate.fidelity.lengths import resample_both
from penname.evaluate.metric import Estimate, Metric, compare_with_test
from penname.evaluate.samples import RowSet, Samples

NAME = "rating_category_total_variation_distance"


def total_variation_distance(first_counts: np.ndarray, second_counts: np.ndarray) -> float:
    """Half the sum of the differences between two sets of shares.

    Range, direction, reference: 0 (equal) to 1 (nothing in common); lower is better. A cell that one side never has counts whole. The reference is heldout
    against test at the same n: with few rows and many categories it is far from 0.

    Args:
      first_counts: (K,) >= 0, sum > 0. PRIVATE.
      second_counts: (K,) >= 0, sum > 0. PRIVATE.
    Source: Levin, Peres and Wilmer (2017), Markov Chains and Mixing Times, proposition 4.2.

    >>> total_variation_distance(np.array([1, 1, 0]), np.array([0, 1, 1]))
    0.5
    """
    return float(min(1.0, np.abs(first_counts / first_counts.sum() - second_counts / second_counts.sum()).sum() / 2))


def _measure(candidate: RowSet, test: RowSet, samples: Samples, stream: str) -> tuple[float, Interval]:
    cells: dict[tuple[float, str], int] = {}
    own, real = (np.array([cells.setdefault((row.rating, row.category), len(cells)) for row in rows.rows]) for rows in (candidate, test))

    def measure(own_weights: np.ndarray | None, real_weights: np.ndarray | None) -> float:
        return total_variation_distance(np.bincount(own, own_weights, len(cells)), np.bincount(real, real_weights, len(cells)))

    value = measure(None, None)
    resampled = [measure(a, b) for a, b in resample_both(len(own), len(real), samples, stream)]
    return value, interval_around(value, resampled, (0.0, 1.0))


def _compute(samples: Samples) -> list[Estimate]:
    return compare_with_test(samples, NAME, _measure)


RATING_CATEGORY = Metric(
    NAME, "fidelity", "lower", (0.0, 1.0), 1, "total variation of the joint shares; Levin, Peres and Wilmer (2017)", _compute, columns=("rating", "category")
)
