"""Fréchet distance between Gaussians fitted to text embeddings."""

from __future__ import annotations

import numpy as np

from penname.evaluate.bootstrap import Interval, interval_around, resample
from penname.evaluate.metric import Estimate, Metric, compare_with_test
from penname.evaluate.samples import RowSet, Samples

NAME = "frechet_distance"


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
    first_mean, first_factor = _fit_gaussian(first, first_weights)
    second_mean, second_factor = _fit_gaussian(second, second_weights)
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


def _measure(candidate: RowSet, test: RowSet, samples: Samples, stream: str) -> tuple[float, Interval]:
    first, second = candidate.embeddings, test.embeddings
    value, rng = frechet_distance(first, second), samples.generator(stream)
    draws = zip(resample(rng, len(first), samples.num_bootstrap), resample(rng, len(second), samples.num_bootstrap), strict=True)
    resampled = [frechet_distance(first, second, first_weights=a, second_weights=b) for a, b in draws]
    return value, interval_around(value, resampled, (0.0, float("inf")))


def _compute(samples: Samples) -> list[Estimate]:
    return compare_with_test(samples, NAME, _measure)


FRECHET_DISTANCE = Metric(NAME, "fidelity", "lower", (0.0, float("inf")), 1, "Heusel et al. (2017) on all-MiniLM-L6-v2 embeddings; arXiv:1706.08500", _compute)
