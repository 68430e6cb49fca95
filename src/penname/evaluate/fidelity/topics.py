"""How many of the topics of the real data the set still speaks of."""

from __future__ import annotations

from typing import Any

import numpy as np

from penname.evaluate.bootstrap import Interval, resample, share_interval_around
from penname.evaluate.metric import Estimate, Metric, describe_each
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.samples import RowSet, Samples

NAME = "topics_covered_frac"
MAX_TOPICS = 50
ROWS_A_TOPIC = 10
MAX_TRAIN_ROWS = 2000
MIN_ROWS = 2 * ROWS_A_TOPIC
MIN_SHARE = 0.2
"""A topic is covered when the set speaks of it at least this often, as a part of how often train does: a single stray text covers nothing."""


def fit_topics(vectors: np.ndarray, *, num_topics: int, seed: int) -> tuple[Any, np.ndarray]:
    """Cuts real texts into topics: k-means on their embeddings.

    Args:
      vectors: (n, D), n >= num_topics. PRIVATE.
      num_topics: K.
      seed: Of k-means.
    Returns:
      The fitted k-means, and (K,) the share of each topic; topics that no text is nearest to have share 0. PRIVATE.
    """
    import warnings

    from sklearn.cluster import KMeans

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Number of distinct clusters")
        starts: Any = 3  # an int; sklearn's annotation knows the word only
        model: Any = KMeans(num_topics, n_init=starts, random_state=seed).fit(vectors)
    return model, np.bincount(model.labels_, minlength=num_topics) / len(vectors)


def covered_frac(shares: np.ndarray, counts: np.ndarray) -> float:
    """Share of the topics that are covered.

    Range, direction, reference: 0 to 1; higher is better; the reference is that of test at the same n.

    Args:
      shares: (K,) of each topic in train; those of share 0 are no topics. PRIVATE.
      counts: (K,) texts of the set by topic, sum > 0.

    >>> covered_frac(np.array([0.5, 0.5]), np.array([9, 1]))
    1.0
    >>> covered_frac(np.array([0.5, 0.5]), np.array([10, 0]))
    0.5
    """
    is_topic = shares > 0
    return float(np.mean((counts / counts.sum())[is_topic] >= MIN_SHARE * shares[is_topic]))


def _measure(rows: RowSet, samples: Samples, stream: str) -> tuple[float, Interval]:
    model, shares = samples.once("topics", lambda: _fit_to_train(samples))
    topics, num_topics = model.predict(rows.embeddings), len(shares)
    value = covered_frac(shares, np.bincount(topics, minlength=num_topics))
    draws = resample(samples.generator(stream), len(rows), samples.num_bootstrap)
    resampled = [covered_frac(shares, np.bincount(topics, weights, num_topics)) for weights in draws]
    return value, share_interval_around(value, resampled, num_records=len(rows))


def _fit_to_train(samples: Samples) -> tuple[Any, np.ndarray]:
    # As many rows as the sets have that are compared: more topics than they can show would be missed by chance, and more rows take long to embed.
    train = samples.take(samples.train, min(MAX_TRAIN_ROWS, samples.num_compared))
    num_rows = len(train)
    if num_rows < MIN_ROWS:
        raise LeftOutError(f"needs {MIN_ROWS} rows in every set for two topics; give more rows")
    seed = int(samples.generator(NAME).integers(2**31))
    return fit_topics(train.embeddings, num_topics=min(MAX_TOPICS, num_rows // ROWS_A_TOPIC), seed=seed)


def _compute(samples: Samples) -> list[Estimate]:
    return describe_each(samples, NAME, _measure)


TOPICS_COVERED = Metric(NAME, "fidelity", "higher", (0.0, 1.0), 1, "k-means on embeddings of train, at most 50 topics (definition of penname)", _compute)
