"""Exact intervals of counts, for figures whose error must not be larger than it says, however small the count."""

from __future__ import annotations

import numpy as np

from penname.evaluate.bootstrap import Interval, frac_interval


def clopper_pearson(num_hits: np.ndarray | int, num_trials: np.ndarray | int, *, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Exact interval of a probability.

    Args:
      num_hits: 0 <= hits <= trials; arrays broadcast.
      num_trials: >= 1.
      confidence: Of the interval; each side alone errs with probability at most (1 - confidence) / 2.
    Returns:
      (lo, hi), arrays of the broadcast shape, within [0, 1].
    Source: Clopper and Pearson (1934), Biometrika 26, 404-413.

    >>> low, high = clopper_pearson(0, 10)
    >>> float(low), round(float(high), 4)
    (0.0, 0.3085)
    """
    from scipy.stats import beta

    hits, trials = np.broadcast_arrays(np.asarray(num_hits, dtype=np.float64), np.asarray(num_trials, dtype=np.float64))
    tail = (1 - confidence) / 2
    # The quantiles are not defined at no hits and at all hits, where the bound is 0 or 1.
    low = np.where(hits > 0, beta.ppf(tail, np.maximum(hits, 1), trials - hits + 1), 0.0)
    high = np.where(hits < trials, beta.ppf(1 - tail, hits + 1, np.maximum(trials - hits, 1)), 1.0)
    return low, high


def poisson_interval(count: int) -> Interval:
    """Exact 95 % interval of a count of rare events.

    Args:
      count: >= 0.
    Returns:
      Interval: (lo, hi) of the expected count; hi is 3.69 where nothing was seen.
    Source: Garwood (1936), Biometrika 28, 437-442.

    >>> [round(bound, 2) for bound in poisson_interval(0)]
    [0.0, 3.69]
    """
    from scipy.stats import chi2

    low = float(chi2.ppf(0.025, 2 * count)) / 2 if count else 0.0
    return low, float(chi2.ppf(0.975, 2 * (count + 1))) / 2


def difference_interval(first_hits: int, first_num: int, second_hits: int, second_num: int) -> Interval:
    """95 % interval of the difference of two fractions of different records.

    Args:
      first_hits, first_num: Hits and records of the first, records >= 1.
      second_hits, second_num: Of the second.
    Returns:
      Interval: of first minus second; never a point. Contains the estimate.
    Source: Newcombe (1998), Statistics in Medicine 17, 873-890, method 10.
    """
    first, second = first_hits / first_num, second_hits / second_num
    first_low, first_high = frac_interval(first_hits, first_num)
    second_low, second_high = frac_interval(second_hits, second_num)
    difference = first - second
    return (
        difference - float(np.hypot(first - first_low, second_high - second)),
        difference + float(np.hypot(first_high - first, second - second_low)),
    )
