"""Intervals over raters and records at once: other raters and other records might have been drawn."""

from __future__ import annotations

import numpy as np

from penname.evaluate.bootstrap import Interval, frac_interval, interval_around


class TwoWayResamples:
    """Judgements, one row each, of which the records and the raters are both drawn anew with replacement.

    With a single rater only the records vary: an interval then says nothing of how other raters would judge.

    Source: Owen (2007), The pigeonhole bootstrap, Annals of Applied Statistics 1, 386-411. https://arxiv.org/abs/0712.1111
    """

    def __init__(self, subjects: np.ndarray, raters: np.ndarray, *, rng: np.random.Generator, num_bootstrap: int) -> None:
        """Draws the resamples; every figure uses the same ones.

        Args:
          subjects: (n,) int, places 0..S-1 of what was judged.
          raters: (n,) int, places 0..R-1.
          rng: Seeded.
          num_bootstrap: B.
        """
        self.subjects, self.raters = subjects, raters
        self._shape = int(subjects.max()) + 1, int(raters.max()) + 1
        self._of_subjects, self._of_raters = (rng.multinomial(num, np.full(num, 1 / num), size=num_bootstrap).astype(np.float64) for num in self._shape)

    def sum(self, values: np.ndarray) -> np.ndarray:
        """(B,): the sum of (n,) values in every resample."""
        table = np.zeros(self._shape)
        np.add.at(table, (self.subjects, self.raters), values)
        return ((self._of_subjects @ table) * self._of_raters).sum(axis=1)

    def share(self, values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """(B,): the mean of the chosen values in every resample; NaN in one that has none of them."""
        totals = self.sum(chosen.astype(np.float64))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(totals > 0, self.sum(values * chosen) / totals, np.nan)

    def describe(self, values: np.ndarray, chosen: np.ndarray, bounds: tuple[float, float]) -> tuple[float, Interval | None]:
        """Mean of the chosen judgements, such as those of one arm, and its 95 % interval.

        Args:
          values: (n,) float.
          chosen: (n,) bool, at least one of them.
          bounds: Smallest and largest possible mean. An interval of a share, from 0 to 1, is never narrower than Wilson's over the records alone: where all
            raters say the same of all records there is nothing to resample, and still other records might differ.
        """
        value = float(values[chosen].mean())
        interval = interval_or_none(value, self.share(values, chosen), bounds)
        if interval is None or bounds != (0.0, 1.0):
            return value, interval
        num_subjects = len(np.unique(self.subjects[chosen]))
        low, high = frac_interval(round(value * num_subjects), num_subjects)
        return value, (min(interval[0], low), max(interval[1], high))


def interval_or_none(value: float, resampled: np.ndarray, bounds: tuple[float, float]) -> Interval | None:
    """The interval of resampled values; None where more than half of the resamples do not have one (NaN)."""
    defined = resampled[~np.isnan(resampled)]
    return interval_around(value, defined, bounds) if 2 * len(defined) >= len(resampled) else None
