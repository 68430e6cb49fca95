"""95 % intervals: percentile bootstrap over records, and score intervals for plain fractions.

Two departures from the textbook percentile, both on purpose. Drawing records with replacement repeats some, which inflates every
distance between samples; the resampled values are therefore shifted so that their median is the value itself. And a fraction of
0 or 1 has no spread to resample, so fractions have Wilson's interval, which never claims certainty from a finite sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

Interval = tuple[float, float]
_Z95 = 1.959963984540054


def resample(rng: np.random.Generator, num_records: int, num_bootstrap: int) -> Iterator[np.ndarray]:
    """Bootstrap resamples as multiplicities: how often each record was drawn.

    Args:
      rng: Seeded.
      num_records: n >= 1.
      num_bootstrap: How many resamples.
    Returns:
      Iterator of (n,) int64 that sum to n.
    Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 6.
    """
    for _ in range(num_bootstrap):
        yield np.bincount(rng.integers(num_records, size=num_records), minlength=num_records)


def interval_around(value: float, resampled: Iterable[float], bounds: tuple[float, float]) -> Interval:
    """The 2.5 and 97.5 percentiles of resampled values, shifted so that their median is `value`, cut to `bounds`.

    Args:
      value: The estimate from the sample itself.
      resampled: The same from each resample.
      bounds: Smallest and largest possible value.
    Returns:
      Interval: (lo, hi) with lo <= value <= hi.
    Source: Efron and Tibshirani (1993), chapter 13, with the shift explained above.

    >>> interval_around(1.0, [3.0, 3.0, 3.0], (0.0, 2.0))
    (1.0, 1.0)
    """
    low, middle, high = np.percentile(np.asarray(list(resampled), dtype=np.float64), [2.5, 50.0, 97.5])
    return max(bounds[0], value + float(low - middle)), min(bounds[1], value + float(high - middle))


def frac_interval(num_hits: int, num_records: int) -> Interval:
    """Wilson's 95 % interval of a fraction.

    Args:
      num_hits: 0 <= hits <= records.
      num_records: n >= 1.
    Returns:
      Interval: (lo, hi) within [0, 1]; wider than a point even at 0 and 1.
    Source: Wilson (1927), JASA 22, 209-212.

    >>> low, high = frac_interval(0, 100)
    >>> low, round(high, 3)
    (0.0, 0.037)
    """
    frac = num_hits / num_records
    scale = 1 + _Z95**2 / num_records
    middle = (frac + _Z95**2 / (2 * num_records)) / scale
    half = _Z95 * float(np.sqrt(frac * (1 - frac) / num_records + _Z95**2 / (4 * num_records**2))) / scale
    # At 0 and 1 the formula meets the fraction exactly; rounding must not push the bound past it.
    return max(0.0, min(frac, middle - half)), min(1.0, max(frac, middle + half))


def share_interval_around(value: float, resampled: Iterable[float], *, num_records: int) -> Interval:
    """`interval_around` of a share that is no plain fraction of records; at 0 and 1, where resamples have no spread, as wide as Wilson's.

    Args:
      value: In [0, 1].
      resampled: The same from each resample.
      num_records: n, what was resampled.

    >>> low, high = share_interval_around(0.0, [0.0, 0.0], num_records=100)
    >>> low, round(high, 3)
    (0.0, 0.037)
    """
    low, high = interval_around(value, resampled, (0.0, 1.0))
    if 0 < value < 1:
        return low, high
    widest = frac_interval(round(value) * num_records, num_records)
    return min(low, widest[0]), max(high, widest[1])


def paired_difference_interval(first: np.ndarray, second: np.ndarray) -> Interval:
    """95 % interval of the difference of two fractions observed on the same records.

    Args:
      first: (n,) bool.
      second: (n,) bool, the same records.
    Returns:
      Interval: of mean(first) - mean(second); half a record is added to each cell, so it is never a point. Contains the estimate.
    Source: Agresti and Min (2005), Statistics in Medicine 24, 729-740.
    """
    only_first, only_second = float(np.sum(first & ~second)) + 0.5, float(np.sum(~first & second)) + 0.5
    num = len(first) + 2
    middle = (only_first - only_second) / num
    half = _Z95 * float(np.sqrt(only_first + only_second - (only_first - only_second) ** 2 / num)) / num
    difference = float(np.mean(first) - np.mean(second))
    return max(-1.0, min(difference, middle - half)), min(1.0, max(difference, middle + half))
