"""MAUVE: the divergence frontier between two sets of texts whose embeddings are sorted into bins."""

from __future__ import annotations

from typing import Any

import numpy as np

from penname.evaluate.bootstrap import Interval, interval_around
from penname.evaluate.fidelity.lengths import resample_both
from penname.evaluate.metric import Estimate, Metric, compare_with_test
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.samples import RowSet, Samples

NAME = "mauve_score"
MAX_BINS = 500
ROWS_A_BIN = 10
"""Bins: one for this many rows of a set, at most MAX_BINS; both as in the paper."""
SCALE = 5.0
NUM_MIXTURES = 25
_EXPLAINED_FRAC = 0.9
MIN_ROWS = 2 * ROWS_A_BIN


def mauve_score(first_counts: np.ndarray, second_counts: np.ndarray) -> float:
    """Area under the divergence frontier of two histograms.

    Range, direction, reference: 0 to 1; higher is better. It rises with fewer bins and falls with n: only the reference at the same n makes it
    readable, and values from other encoders than ours, GPT-2 large in most papers, do not compare.

    Args:
      first_counts: (K,) >= 0, sum > 0. PRIVATE.
      second_counts: (K,) >= 0, sum > 0. PRIVATE.
    Source: Pillutla et al. (2021), definition 1 and section 2.2, scale 5, natural logarithms. https://arxiv.org/abs/2102.01454

    >>> mauve_score(np.array([3, 1]), np.array([6, 2])), round(mauve_score(np.array([5, 0, 1]), np.array([1, 1, 4])), 6)
    (1.0, 0.206788)
    """
    first, second = first_counts / first_counts.sum(), second_counts / second_counts.sum()
    # A share just off 0 and 1 on either side keeps the mixture above zero where its parts are.
    shares = np.linspace(1e-6, 1 - 1e-6, NUM_MIXTURES)
    mixtures = [share * first + (1 - share) * second for share in shares]
    points = [(_kl_nats(second, mixture), _kl_nats(first, mixture)) for mixture in mixtures]
    curve = np.exp(-SCALE * np.array([(0.0, np.inf), *points, (np.inf, 0.0)]))
    return float(min(1.0, (_area(curve[:, 0], curve[:, 1]) + _area(curve[:, 1], curve[:, 0])) / 2))


def _kl_nats(frequencies: np.ndarray, others: np.ndarray) -> float:
    there = frequencies > 0
    return max(0.0, float(np.sum(frequencies[there] * np.log(frequencies[there] / others[there]))))


def _area(along: np.ndarray, heights: np.ndarray) -> float:
    """Under a curve that falls from left to right."""
    order = np.lexsort((-heights, along))
    return float(np.trapezoid(heights[order], along[order]))


def assign_bins(first: np.ndarray, second: np.ndarray, *, num_bins: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorts the rows of both sides into the same bins: principal components that hold nine tenths of the variance, then k-means.

    Args:
      first: (n, D). PRIVATE when real.
      second: (m, D). PRIVATE when real.
      num_bins: K >= 2.
      seed: Of k-means.
    Returns:
      (n,) and (m,) bins, 0 to K - 1.
    Source: Pillutla et al. (2021), appendix C.1; k-means++, Arthur and Vassilvitskii (2007).
    """
    import warnings

    from sklearn.cluster import KMeans

    both = np.concatenate([first, second])
    centred = both - both.mean(axis=0)
    values, directions = np.linalg.eigh(centred.T @ centred)
    explained = np.cumsum(values[::-1]) / max(values.sum(), 1e-12)
    kept = directions[:, ::-1][:, : int(np.searchsorted(explained, _EXPLAINED_FRAC)) + 1]
    # float32 halves the memory that every thread goes through.
    projected = (centred @ kept).astype(np.float32)
    with warnings.catch_warnings():
        # Fewer distinct texts than bins: the bins left over stay empty, which is right.
        warnings.filterwarnings("ignore", message="Number of distinct clusters")
        starts: Any = 1  # an int; sklearn's annotation knows the word only
        labels = KMeans(num_bins, n_init=starts, random_state=seed).fit_predict(projected)
    return labels[: len(first)], labels[len(first) :]


def _measure(candidate: RowSet, test: RowSet, samples: Samples, stream: str) -> tuple[float, Interval]:
    """The bins stay as they are when records are drawn again."""
    if min(len(candidate), len(test)) < MIN_ROWS:
        raise LeftOutError(f"needs {MIN_ROWS} rows in every set for two bins; give more rows")
    num_bins = min(MAX_BINS, len(test) // ROWS_A_BIN)
    seed = int(samples.generator(stream).integers(2**31))
    own, real = assign_bins(candidate.embeddings, test.embeddings, num_bins=num_bins, seed=seed)

    def score(own_weights: np.ndarray | None, real_weights: np.ndarray | None) -> float:
        return mauve_score(np.bincount(own, own_weights, num_bins), np.bincount(real, real_weights, num_bins))

    value = score(None, None)
    resampled = [score(a, b) for a, b in resample_both(len(own), len(real), samples, f"{stream}/resample")]
    return value, interval_around(value, resampled, (0.0, 1.0))


def _compute(samples: Samples) -> list[Estimate]:
    return compare_with_test(samples, NAME, _measure)


MAUVE = Metric(NAME, "fidelity", "higher", (0.0, 1.0), 1, "Pillutla et al. (2021), on the embeddings of this run; arXiv:2102.01454", _compute)
