"""Do raters agree beyond chance? Krippendorff's alpha for any number of raters and gaps, Cohen's kappa for a rule beside people."""

from __future__ import annotations

from typing import Literal

import numpy as np

from penname.evaluate.bootstrap import Interval, resample
from penname.evaluate.human.resampling import interval_or_none


def krippendorff_alpha(codes: np.ndarray, units: np.ndarray, values: np.ndarray, *, level: Literal["nominal", "ordinal", "interval"]) -> float:
    """Krippendorff's alpha of judgements, one row a judgement.

    Range, direction, reference: at most 1, which is perfect agreement; 0 is what chance gives; below 0 is systematic disagreement. NaN where no unit
    has two judgements, or all judgements are the same.

    Args:
      codes: (n,) int, the place of each judgement's value in `values`.
      units: (n,) int, what was judged. Units with one judgement say nothing of agreement and drop out.
      values: (V,) float, the scale in ascending order; their size counts for `interval` only.
      level: How far apart two values are.
    Returns:
      float: 1 - observed / expected disagreement.
    Source: Krippendorff (2011), Computing Krippendorff's Alpha-Reliability, section D.
    """
    counts = count_values(codes, units, len(values))
    return float(_alphas(counts, np.ones((1, len(counts))), values, level)[0])


def count_values(codes: np.ndarray, units: np.ndarray, num_values: int) -> np.ndarray:
    """(U, V): how often each value was given to each unit that has two judgements or more."""
    places, rows = np.unique(units, return_inverse=True)
    counts = np.zeros((len(places), num_values))
    np.add.at(counts, (rows, codes), 1.0)
    return counts[counts.sum(axis=1) >= 2]


def alpha_with_interval(
    codes: np.ndarray, units: np.ndarray, values: np.ndarray, *, level: Literal["nominal", "ordinal", "interval"], rng: np.random.Generator, num_bootstrap: int
) -> tuple[float, Interval | None]:
    """Alpha and its 95 % interval over resampled units. Raters are not resampled: one drawn twice would agree with themselves.

    Returns:
      (float, Interval | None): NaN where alpha is not defined; None where too few resamples have one.
    Source: Hayes and Krippendorff (2007), Communication Methods and Measures 1, 77-89.
    """
    counts = count_values(codes, units, len(values))
    alpha = float(_alphas(counts, np.ones((1, len(counts))), values, level)[0])
    if np.isnan(alpha):
        return alpha, None
    weights = np.stack(list(resample(rng, len(counts), num_bootstrap))).astype(np.float64)
    return alpha, interval_or_none(alpha, _alphas(counts, weights, values, level), (-1.0, 1.0))


def _alphas(counts: np.ndarray, weights: np.ndarray, values: np.ndarray, level: str) -> np.ndarray:
    """(B,): alpha under each row of unit weights (B, U)."""
    if not len(counts):
        return np.full(len(weights), np.nan)
    judged = counts.sum(axis=1, keepdims=True)
    # Coincidences of unit u: pairs of different judgements of it, each counted 1 / (m_u - 1).
    pairs = (counts[:, :, None] * counts[:, None, :] - np.eye(counts.shape[1]) * counts[:, :, None]) / (judged[:, :, None] - 1)
    coincidences = np.tensordot(weights, pairs, axes=1)  # (B, V, V)
    totals = coincidences.sum(axis=2)  # (B, V)
    num = totals.sum(axis=1)
    distances = _distances(totals, values, level)
    observed = (coincidences * distances).sum(axis=(1, 2))
    expected = (totals[:, :, None] * totals[:, None, :] * distances).sum(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected > 0, 1 - (num - 1) * observed / expected, np.nan)


def _distances(totals: np.ndarray, values: np.ndarray, level: str) -> np.ndarray:
    """(B or 1, V, V): squared distance of two values."""
    if level == "nominal":
        return (1 - np.eye(len(values)))[None]
    if level == "interval":
        return ((values[:, None] - values[None, :]) ** 2)[None]
    # Ordinal: the judgements between two values, those of the two counted half.
    ranks = np.cumsum(totals, axis=1) - totals / 2
    return (ranks[:, :, None] - ranks[:, None, :]) ** 2


def cohen_kappas(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Cohen's kappa of two yes-or-no judgements of the same records.

    Range, direction, reference: -1 to 1, higher agrees more, 0 is chance. NaN where both always say the same one thing.

    Args:
      first, second: (n,) bool.
      weights: (B, n) how often each record counts.
    Returns:
      (B,) float64.
    Source: Cohen (1960), Educational and Psychological Measurement 20, 37-46.
    """
    total = weights.sum(axis=1)
    agreed = weights @ (first == second).astype(np.float64) / total
    yes_first, yes_second = weights @ first.astype(np.float64) / total, weights @ second.astype(np.float64) / total
    chance = yes_first * yes_second + (1 - yes_first) * (1 - yes_second)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Rounded: only the last bits would say that what agrees as chance does is not zero.
        return np.where(chance < 1, np.round((agreed - chance) / (1 - chance), 12), np.nan)
