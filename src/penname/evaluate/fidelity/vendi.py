"""Vendi score: how many different texts a set amounts to."""

from __future__ import annotations

import numpy as np

from penname.evaluate.bootstrap import Interval, interval_around, resample
from penname.evaluate.embedding_moments import moments_of
from penname.evaluate.metric import Estimate, Metric, describe_each
from penname.evaluate.samples import RowSet, Samples

NAME = "vendi_score"


def vendi_score(rows: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Effective number of different texts: e to the entropy of the eigenvalues of their cosine similarities over n.

    Range, direction, reference: 1 (all the same) to n (all at right angles); higher is more varied, and a value above the reference, which is that of
    test at the same n, is not better than real. It depends on the encoder.

    Args:
      rows: (n, D) unit length, n >= 1. PRIVATE when real.
      weights: (n,) multiplicities of a resample; none means one each.
    Returns:
      float: computed from the smaller of the n by n and the D by D matrix, which have the same eigenvalues. PRIVATE when rows are.
    Source: Friedman and Dieng (2023), https://arxiv.org/abs/2210.02410

    >>> round(vendi_score(np.eye(3)), 6), round(vendi_score(np.array([[1.0, 0.0], [1.0, 0.0]])), 6)
    (3.0, 1.0)
    """
    weights = np.ones(len(rows)) if weights is None else weights.astype(np.float64)
    drawn = np.sqrt(weights[weights > 0] / weights.sum())[:, None] * rows[weights > 0]
    return _entropy_number(drawn @ drawn.T if len(drawn) <= drawn.shape[1] else drawn.T @ drawn)


def _entropy_number(similarity: np.ndarray) -> float:
    values = np.linalg.eigvalsh(similarity)
    values = values[values > 1e-10]
    values = values / values.sum()
    return float(np.exp(-np.sum(values * np.log(values))))


def _measure(rows: RowSet, samples: Samples, stream: str) -> tuple[float, Interval]:
    vectors, rng = rows.embeddings, samples.generator(stream)
    value = vendi_score(vectors)
    if len(vectors) <= vectors.shape[1]:
        resampled = [vendi_score(vectors, weights) for weights in resample(rng, len(vectors), samples.num_bootstrap)]
    else:
        resampled = [_entropy_number(second_moment) for _, _, second_moment in moments_of(rows, samples).resampled(rng, samples.num_bootstrap)]
    return value, interval_around(value, resampled, (1.0, float("inf")))


def _compute(samples: Samples) -> list[Estimate]:
    return describe_each(samples, NAME, _measure)


VENDI_SCORE = Metric(NAME, "fidelity", "higher", (1.0, float("inf")), 1, "Friedman and Dieng (2023), cosine kernel; arXiv:2210.02410", _compute)
