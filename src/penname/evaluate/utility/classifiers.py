"""Classifiers of sentiment that the utility metrics train: what each reads of a review, and how it is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from penname.evaluate.samples import RowSet, Samples

MIN_POSITIVE_RATING = 4
MAX_WORDS = 20_000
NUM_DIRECTIONS = 24
NUM_TRAININGS = 5
"""Classifiers trained on resamples of the training rows, behind an interval."""


@dataclass(frozen=True, slots=True)
class Classifier:
    """One way to learn sentiment from rows."""

    suffix: str
    """Of the names of its metrics; empty for the first."""
    what: str
    read: Callable[[Samples, Sequence[RowSet]], list[Any]]
    """(samples, sets) -> one (n, K) matrix a set, columns in common. PRIVATE when the rows are."""
    predict: Callable[[Any, np.ndarray, Any], np.ndarray]
    """(training rows, (n,) bool labels of both classes, rows) -> (m,) bool."""

    def train_and_predict(self, features: Any, labels: np.ndarray, rows: Any) -> np.ndarray:
        """(m,) bool predictions; training rows of one class, or without anything to learn from, predict their majority for every row."""
        majority = np.full(rows.shape[0], bool(labels.mean() >= 0.5))
        if labels.all() or not labels.any() or not _has_content(features):
            return majority
        return np.asarray(self.predict(features, labels, rows), dtype=bool)


def label_sentiment(rows: RowSet) -> np.ndarray:
    """(n,) bool: the rating is 4 or 5."""
    return np.array([row.rating >= MIN_POSITIVE_RATING for row in rows.rows], dtype=bool)


def predict_with_resamples(classifier: Classifier, features: Any, labels: np.ndarray, rows: Any, *, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """What a classifier of the rows says, and what NUM_TRAININGS classifiers of bootstrap resamples of them say.

    Args:
      classifier: How to learn.
      features: (n, K) of `classifier.read`. PRIVATE when real.
      labels: (n,) bool.
      rows: (m, K) to predict. PRIVATE when real.
      rng: Seeded.
    Returns:
      (m,) bool and (NUM_TRAININGS, m) bool. As private as what they were made from.
    """
    main = classifier.train_and_predict(features, labels, rows)
    draws = (rng.integers(len(labels), size=len(labels)) for _ in range(NUM_TRAININGS))
    return main, np.array([classifier.train_and_predict(features[drawn], labels[drawn], rows) for drawn in draws])


@dataclass(frozen=True, slots=True)
class WordCounts:
    """How often each word stands in each text. PRIVATE when the texts are."""

    vocabulary: list[str]
    """(K,) all words of all sets, in the order of the alphabet."""
    tables: list[Any]
    """One sparse (n, K) a set."""


def count_words(samples: Samples, sets: Sequence[RowSet]) -> WordCounts:
    """Counts the words of several sets.

    Args:
      samples: Keeps what was counted.
      sets: PRIVATE when real.
    """

    def count() -> WordCounts:
        from scipy.sparse import csr_matrix

        vocabulary = sorted({word for rows in sets for words in rows.words for word in words})
        places = {word: place for place, word in enumerate(vocabulary)}
        tables = []
        for rows in sets:
            columns = [places[word] for words in rows.words for word in words]
            bounds = np.concatenate([[0], np.cumsum([len(words) for words in rows.words])])
            table = csr_matrix((np.ones(len(columns)), columns, bounds), shape=(len(rows), max(1, len(vocabulary))))
            table.sum_duplicates()
            tables.append(table)
        return WordCounts(vocabulary, tables)

    return samples.once(("count_words", *((rows.name, len(rows)) for rows in sets)), count)


def _read_words(samples: Samples, sets: Sequence[RowSet]) -> list[Any]:
    return count_words(samples, sets).tables


def _read_embeddings(_samples: Samples, sets: Sequence[RowSet]) -> list[Any]:
    return [rows.embeddings for rows in sets]


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is known of reviews beside their words and ratings. PRIVATE when the reviews are."""

    names: list[str]
    """(1 + K,) the length, and every category of all sets in the order of the alphabet."""
    tables: list[np.ndarray]
    """One (n, 1 + K) float64 a set: log of 1 + the number of words, and 1 in the column of the category."""


def read_attributes(sets: Sequence[RowSet]) -> Attributes:
    """Length and category of the rows of several sets.

    Args:
      sets: PRIVATE when real.
    """
    categories = sorted({row.category for rows in sets for row in rows.rows})
    places = {category: place for place, category in enumerate(categories)}
    tables = []
    for rows in sets:
        table = np.zeros((len(rows), 1 + len(categories)))
        table[:, 0] = np.log1p([len(words) for words in rows.words])
        table[np.arange(len(rows)), [1 + places[row.category] for row in rows.rows]] = 1.0
        tables.append(table)
    return Attributes(["length", *(f"category {category}" for category in categories)], tables)


def _read_directions_and_attributes(samples: Samples, sets: Sequence[RowSet]) -> list[Any]:
    """Trees take long over hundreds of columns: embeddings along the NUM_DIRECTIONS in which heldout varies most, the same for all sets, and attributes."""

    def find_directions() -> np.ndarray:
        vectors = samples.take(samples.heldout, samples.num_compared).embeddings
        return np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)[2][:NUM_DIRECTIONS].T  # (D, NUM_DIRECTIONS or fewer)

    directions = samples.once("boosting directions", find_directions)
    return [np.hstack([rows.embeddings @ directions, table]) for rows, table in zip(sets, read_attributes(sets).tables, strict=True)]


def _predict_from_counts(features: Any, labels: np.ndarray, rows: Any) -> np.ndarray:
    """Words of the training rows alone, weighed by how rare they are there."""
    from sklearn.feature_extraction.text import TfidfTransformer

    totals = np.asarray(features.sum(axis=0)).ravel()
    known = np.sort(np.argsort(-totals, kind="stable")[: min(MAX_WORDS, int(np.count_nonzero(totals)))])
    weights = TfidfTransformer(sublinear_tf=True).fit(features[:, known])
    return _predict_linear(weights.transform(features[:, known]), labels, weights.transform(rows[:, known]))


def _predict_linear(features: Any, labels: np.ndarray, rows: Any) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression

    # Reviews are mostly positive: unweighted, a few hundred rows teach the classifier to say so of every text, and all sets score alike.
    return LogisticRegression(C=1.0, class_weight="balanced", max_iter=1000).fit(features, labels).predict(rows)


def _predict_boosted(features: Any, labels: np.ndarray, rows: Any) -> np.ndarray:
    from sklearn.ensemble import HistGradientBoostingClassifier

    # Shallow trees on a few hundred rows; no early stopping, which would set rows aside by chance. Seeded, though nothing of it is random then.
    settings: dict[str, Any] = {"max_iter": 40, "max_leaf_nodes": 8, "min_samples_leaf": 5, "class_weight": "balanced", "early_stopping": False}
    return HistGradientBoostingClassifier(random_state=0, **settings).fit(features, labels).predict(rows)


def _has_content(features: Any) -> bool:
    return bool((features.count_nonzero() if hasattr(features, "count_nonzero") else np.count_nonzero(features)) > 0)


WORDS = Classifier("", "TF-IDF over words and logistic regression", _read_words, _predict_from_counts)
EMBEDDINGS = Classifier("_embeddings", "sentence embeddings and logistic regression", _read_embeddings, _predict_linear)
BOOSTING = Classifier(
    "_boosting",
    "gradient boosting, Friedman (2001), doi:10.1214/aos/1013203451, on 24 principal directions of sentence embeddings, length and category",
    _read_directions_and_attributes,
    _predict_boosted,
)
CLASSIFIERS = (WORDS, EMBEDDINGS, BOOSTING)
