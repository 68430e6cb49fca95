"""Exposure: how many guesses a model saves whoever looks for a canary among others that were not planted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from penname.evaluate.bootstrap import Interval, interval_around
from penname.evaluate.privacy.errors import LeftOutError

UNEXPOSED_BITS = float(1 / np.log(2))
"""Mean exposure of a canary that the model never saw, 1.44 bits: minus the logarithm of a uniform rank has this mean, not zero."""
MIN_SAMPLED = 100
"""Scores that a distribution can be fitted to."""
_MAX_BITS = 1023.0


@dataclass(frozen=True, slots=True)
class Exposure:
    """Mean exposure of some canaries. PRIVATE."""

    mean_bits: float
    ci95: Interval
    """Percentile bootstrap over canaries."""
    ceiling_bits: float
    """The most that this way of measuring can find."""
    num_canaries: int
    num_references: int


def exposure_by_rank(canary_scores: np.ndarray, reference_scores: np.ndarray) -> np.ndarray:
    """Exposure of each canary from its rank among canaries that were left out.

    Range, direction, reference: 0 to log2(m + 1) bits; lower is better for privacy; a canary that was not planted has 1.44 bits on
    average (`UNEXPOSED_BITS`). More than log2(m + 1) cannot be seen with m references.

    Args:
      canary_scores: (n,) mean log-likelihoods, higher means better known. PRIVATE.
      reference_scores: (m,) of canaries drawn in the same way and left out, or of fresh suffixes to the same prefix. PRIVATE.
    Returns:
      (n,) float64, bits: log2(m + 1) - log2(rank), the canary counted among m + 1; ties rank half way. PRIVATE.
    Raises:
      LeftOutError: no reference, or scores that are no numbers.
    Source: Carlini et al. (2019), The Secret Sharer, definition 5. https://arxiv.org/abs/1802.08232

    >>> exposure_by_rank(np.array([9.0, -9.0]), np.arange(7.0)).round(2).tolist()
    [3.0, 0.0]
    """
    canaries, references = _check(canary_scores, reference_scores, least=1)
    references = np.sort(references)
    num_better = len(references) - np.searchsorted(references, canaries, side="right")
    num_equal = np.searchsorted(references, canaries, side="right") - np.searchsorted(references, canaries, side="left")
    return np.log2(len(references) + 1) - np.log2(num_better + num_equal / 2 + 1)


def exposure_by_sampling(canary_scores: np.ndarray, sampled_scores: np.ndarray) -> np.ndarray:
    """Exposure of each canary from a distribution fitted to sampled scores: sees further than a rank can.

    Range, direction, reference: 0 to 1,023 bits; lower is better for privacy; a canary that was not planted has 1.44 bits on average. An
    extrapolation: beyond log2(m) bits it is as good as the fit of a skew normal distribution in its tail, which no test can show.

    Args:
      canary_scores: (n,) mean log-likelihoods, higher means better known. PRIVATE.
      sampled_scores: (m,) of candidates drawn from the canaries' own distribution, m >= 100. PRIVATE.
    Returns:
      (n,) float64, bits: -log2 of the probability that a candidate scores as high. PRIVATE.
    Raises:
      LeftOutError: too few samples, scores that are no numbers, all alike, or not distributed like a skew normal.
    Source: Carlini et al. (2019), section 4.3: estimation by distribution modelling. https://arxiv.org/abs/1802.08232
    """
    from scipy.stats import kstest, skewnorm

    canaries, sampled = _check(canary_scores, sampled_scores, least=MIN_SAMPLED)
    if np.ptp(sampled) == 0:
        raise LeftOutError("exposure by sampling: all candidates score alike; the model does not tell them apart")
    # Negative log-likelihoods, as in the paper: an exposed canary lies in the lower tail.
    fitted = skewnorm(*skewnorm.fit(-sampled))
    p_value = float(kstest(-sampled, fitted.cdf).pvalue)
    if p_value < 0.01:
        raise LeftOutError(f"exposure by sampling: the candidates' scores are not skew normal (Kolmogorov-Smirnov p = {p_value:.2g}); use the rank instead")
    return np.clip(-fitted.logcdf(-canaries) / np.log(2), 0.0, _MAX_BITS)


def summarise_exposure(bits: np.ndarray, *, ceiling_bits: float, num_references: int, num_bootstrap: int, rng: np.random.Generator) -> Exposure:
    """Mean exposure with a 95 % interval.

    Args:
      bits: (n,) exposures, n >= 2. PRIVATE.
      ceiling_bits: The most that could have been found.
      num_references: Canaries or candidates behind each figure.
      num_bootstrap: Resamples of canaries.
      rng: Seeded.
    Raises:
      LeftOutError: fewer than two canaries.
    Source: Efron and Tibshirani (1993), chapter 13.
    """
    if len(bits) < 2:
        raise LeftOutError(f"exposure: {len(bits)} planted canaries; two or more are needed for an interval")
    value = float(np.mean(bits))
    resampled = [float(np.mean(bits[rng.integers(len(bits), size=len(bits))])) for _ in range(num_bootstrap)]
    low, high = interval_around(value, resampled, (0.0, ceiling_bits))
    # Where all are at the ceiling, the mean may be above it by a rounding.
    return Exposure(value, (min(low, value), max(high, value)), ceiling_bits, len(bits), num_references)


def _check(canary_scores: np.ndarray, reference_scores: np.ndarray, *, least: int) -> tuple[np.ndarray, np.ndarray]:
    canaries, references = (np.asarray(scores, dtype=np.float64).ravel() for scores in (canary_scores, reference_scores))
    if len(references) < least:
        raise LeftOutError(f"exposure: {len(references)} scores to compare with; {least} or more are needed")
    if not (np.isfinite(canaries).all() and np.isfinite(references).all()):
        raise LeftOutError("exposure: some scores are not finite numbers; see what the model gave for them")
    return canaries, references
