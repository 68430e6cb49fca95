"""Fréchet distance between Gaussians fitted to text embeddings."""

from __future__ import annotations

import numpy as np

from penname.evaluate.bootstrap import Interval, interval_around
from penname.evaluate.embedding_moments import moments_of
from penname.evaluate.fidelity.lengths import resample_both
from penname.evaluate.metric import Estimate, Metric, compare_with_test
from penname.evaluate.samples import RowSet, Samples

NAME = "frechet_distance"
_JITTER = 1e-6
"""Of the size of the second moment, which is float32: rounding must not leave a direction of negative variance."""


def frechet_distance(first: np.ndarray, second: np.ndarray, *, first_weights: np.ndarray | None = None, second_weights: np.ndarray | None = None) -> float:
    """Squared Fréchet (2-Wasserstein) distance of the two fitted Gaussians.

    Range, direction, reference: 0 and up; lower is better. Biased upwards, the more so the fewer the rows are against the
    dimensions (384 for MiniLM): only the reference at the same n makes it readable, and values at different n do not compare.

    Args:
      first: (n, D) embeddings, n >= 2. PRIVATE.
      second: (m, D) embeddings, m >= 2. PRIVATE.
      first_weights: (n,) multiplicities of a resample; none means one each.
      second_weights: (m,) likewise.
    Returns:
      float: |mean1 - mean2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)), S the unbiased covariance. PRIVATE.
    Source: Dowson and Landau (1982), https://doi.org/10.1016/0047-259X(82)90077-X; on learned features, Heusel et al. (2017),
      https://arxiv.org/abs/1706.08500
    """
    return _distance_of_gaussians(_fit_gaussian(first, first_weights), _fit_gaussian(second, second_weights))


def _distance_of_gaussians(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> float:
    """From means and factors of the covariances."""
    (first_mean, first_factor), (second_mean, second_factor) = first, second
    # With S1 = A'A and S2 = B'B, Tr (S1 S2)^(1/2) is the sum of the singular values of A B': no matrix root, no complex numbers.
    product = first_factor @ second_factor.T
    gram = product @ product.T if product.shape[0] <= product.shape[1] else product.T @ product
    overlap = float(np.sum(np.sqrt(np.clip(np.linalg.eigvalsh(gram), 0.0, None))))
    spread = float(np.sum(first_factor**2) + np.sum(second_factor**2))
    return max(0.0, float(np.sum((first_mean - second_mean) ** 2)) + spread - 2 * overlap)


def _fit_gaussian(rows: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and a factor F (k, D) of the unbiased covariance F'F, k <= D."""
    weights = np.ones(len(rows)) if weights is None else weights.astype(np.float64)
    drawn = weights > 0
    rows, weights = rows[drawn], weights[drawn]
    mean = weights @ rows / weights.sum()
    factor = np.sqrt(weights / (weights.sum() - 1))[:, None] * (rows - mean)
    if len(factor) > factor.shape[1]:
        factor = np.asarray(np.linalg.qr(factor, mode="r"))
    return mean, factor


def _factor_moments(moments: tuple[float, np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """As `_fit_gaussian`, from n, mean and second moment."""
    num, mean, second_moment = moments
    covariance = (second_moment - np.outer(mean, mean)) * (num / (num - 1))
    covariance[np.diag_indices_from(covariance)] += _JITTER * np.trace(second_moment) + 1e-12
    return mean, np.linalg.cholesky(covariance).T


def _measure(candidate: RowSet, test: RowSet, samples: Samples, stream: str) -> tuple[float, Interval]:
    """With more rows than dimensions, resamples are drawn from moments of blocks, with fewer from the rows; the value is always of the rows."""
    first, second = candidate.embeddings, test.embeddings
    value, rng = frechet_distance(first, second), samples.generator(stream)
    if min(len(first), len(second)) <= first.shape[1]:
        draws = resample_both(len(first), len(second), samples, stream)
        resampled = [frechet_distance(first, second, first_weights=a, second_weights=b) for a, b in draws]
    else:
        pairs = zip(*(moments_of(rows, samples).resampled(rng, samples.num_bootstrap) for rows in (candidate, test)), strict=True)
        resampled = [_distance_of_gaussians(_factor_moments(a), _factor_moments(b)) for a, b in pairs]
    return value, interval_around(value, resampled, (0.0, float("inf")))


def _compute(samples: Samples) -> list[Estimate]:
    return compare_with_test(samples, NAME, _measure)


FRECHET_DISTANCE = Metric(NAME, "fidelity", "lower", (0.0, float("inf")), 1, "Heusel et al. (2017) on text embeddings; arXiv:1706.08500", _compute)
