"""Whether what goes together in real reviews goes together in synthetic ones: rating, length, sentiment and form."""

from __future__ import annotations

from functools import partial

import numpy as np

from penname.evaluate.bootstrap import Interval, interval_around
from penname.evaluate.fidelity.lengths import resample_both
from penname.evaluate.fidelity.sentiment import score_sentiment
from penname.evaluate.metric import Estimate, Metric, compare_with_test
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.samples import RowSet, Samples

ATTRIBUTES = ("rating", "words", "sentiment", "words a sentence", "exclamation marks", "title words")
MIN_ROWS = 4
_SOURCE = "difference of Pearson correlations, as the pair trends of SDMetrics"


def correlation_matrix(values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Pearson correlations between columns.

    Args:
      values: (n, K) float64. PRIVATE.
      weights: (n,) multiplicities of a resample; none means one each.
    Returns:
      (K, K); a column that does not vary correlates 0 with the others. PRIVATE.

    >>> correlation_matrix(np.array([[1.0, 2.0, 7.0], [2.0, 4.0, 7.0], [3.0, 6.0, 7.0]])).round(6)[0].tolist()
    [1.0, 1.0, 0.0]
    """
    weights = np.ones(len(values)) if weights is None else weights.astype(np.float64)
    centred = values - weights @ values / weights.sum()
    covariance = centred.T @ (weights[:, None] * centred) / weights.sum()
    spread = np.sqrt(np.diag(covariance))
    varies = spread > 1e-9 * (1 + np.abs(values).max(axis=0))
    scale = np.where(varies, 1 / np.where(varies, spread, 1.0), 0.0)
    matrix = np.clip(covariance * scale * scale[:, None], -1.0, 1.0)
    np.fill_diagonal(matrix, 1.0)
    return matrix


def correlation_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Mean absolute difference between the correlations of two matrices, the diagonal left out.

    Range, direction, reference: 0 to 2; lower is better; the reference is heldout against test.

    Args:
      first: (K, K) correlations, K >= 2. PRIVATE.
      second: (K, K) likewise. PRIVATE.

    >>> correlation_distance(np.array([[1.0, 0.5], [0.5, 1.0]]), np.array([[1.0, -0.5], [-0.5, 1.0]]))
    1.0
    """
    pairs = np.triu_indices(len(first), k=1)
    return float(np.mean(np.abs(first[pairs] - second[pairs])))


def describe_attributes(rows: RowSet, samples: Samples) -> np.ndarray:
    """(n, K) float64, the ATTRIBUTES of each record; lengths are log(1 + n), whose correlations a few long reviews do not decide. PRIVATE when real."""
    counted = [
        (row.rating, len(words), sum(lengths) / max(1, sum(n > 0 for n in lengths)), row.text.count("!"), len(row.title.split()))
        for row, words, lengths in zip(rows.rows, rows.words, rows.sentence_lengths, strict=True)
    ]
    rating, words, sentence_words, marks, title_words = np.array(counted, dtype=np.float64).T
    return np.stack([rating, np.log1p(words), score_sentiment(rows, samples), np.log1p(sentence_words), np.log1p(marks), np.log1p(title_words)], axis=1)


def _measure(columns: tuple[int, ...], candidate: RowSet, test: RowSet, samples: Samples, stream: str) -> tuple[float, Interval]:
    if min(len(candidate), len(test)) < MIN_ROWS:
        raise LeftOutError(f"a correlation of fewer than {MIN_ROWS} rows says nothing; give more rows")
    own, real = (
        samples.once(("attributes", rows.name, len(rows)), partial(describe_attributes, rows, samples))[:, list(columns)] for rows in (candidate, test)
    )
    value = correlation_distance(correlation_matrix(own), correlation_matrix(real))
    if len(columns) == len(ATTRIBUTES):
        # Of the arm `real` test is drawn, which the others are compared with.
        arm = stream.rpartition("/")[2]
        drawn = samples.for_figures.setdefault("correlations", {"attributes": list(ATTRIBUTES), "sets": {}})
        drawn["sets"][arm] = np.round(correlation_matrix(real if arm == "real" else own), 4).tolist()
    draws = resample_both(len(own), len(real), samples, stream)
    resampled = [correlation_distance(correlation_matrix(own, a), correlation_matrix(real, b)) for a, b in draws]
    return value, interval_around(value, resampled, (0.0, 2.0))


def _compute(name: str, columns: tuple[int, ...], samples: Samples) -> list[Estimate]:
    return compare_with_test(samples, name, partial(_measure, columns))


def _declare(name: str, columns: tuple[int, ...]) -> Metric:
    return Metric(name, "fidelity", "lower", (0.0, 2.0), 1, _SOURCE, partial(_compute, name, columns), columns=("rating",))


RATING_LENGTH = _declare("rating_length_correlation_error", (0, 1))
RATING_SENTIMENT = _declare("rating_sentiment_correlation_error", (0, 2))
CORRELATION_MATRIX = _declare("correlation_matrix_distance", tuple(range(len(ATTRIBUTES))))
