"""Train on synthetic, test on real: a sentiment classifier, TF-IDF and logistic regression."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from penname.evaluate.bootstrap import Interval, frac_interval, interval_around
from penname.evaluate.metric import Estimate, Metric
from penname.evaluate.samples import RowSet, Samples

MIN_POSITIVE_RATING = 4
NUM_TRAININGS = 5
"""Classifiers trained on resamples of the training rows, behind the interval."""
MAX_FEATURES = 20_000

_SOURCE = "Esteban et al. (2017), train on synthetic, test on real; arXiv:1706.02633"


@dataclass(frozen=True, slots=True)
class Predictions:
    """What classifiers of one training set say about the test rows. PRIVATE."""

    truth: np.ndarray
    """(m,) bool."""
    main: np.ndarray
    """(m,) bool: the classifier trained on the rows themselves."""
    resampled: np.ndarray
    """(NUM_TRAININGS, m) bool: each trained on a bootstrap resample of the rows."""
    num_train: int


def accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Share of rows predicted right.

    >>> accuracy(np.array([True, False]), np.array([True, True]))
    0.5
    """
    return float(np.mean(truth == predicted))


def macro_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean of the F1 of the positive and of the negative class; a class that is neither there nor predicted does not count.

    >>> round(macro_f1(np.array([True, True, False]), np.array([True, True, True])), 2)
    0.4
    """
    scores = []
    for label in (True, False):
        is_label, is_predicted = truth == label, predicted == label
        total = int(is_label.sum()) + int(is_predicted.sum())
        if total:
            scores.append(2 * int((is_label & is_predicted).sum()) / total)
    return float(np.mean(scores))


def _is_positive(rows: RowSet) -> np.ndarray:
    return np.array([row.rating >= MIN_POSITIVE_RATING for row in rows.rows])


def _train_and_predict(texts: list[str], labels: np.ndarray, test_texts: list[str]) -> np.ndarray:
    """(m,) bool predictions; training rows of one class, or without a word, predict their majority for every row."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    from penname.evaluate.segmentation import split_words

    majority = np.full(len(test_texts), bool(labels.mean() >= 0.5))
    if labels.all() or not labels.any():
        return majority
    analyzer: Any = split_words  # sklearn takes a callable; its annotation knows words only
    vectorizer = TfidfVectorizer(analyzer=analyzer, sublinear_tf=True, max_features=MAX_FEATURES)
    try:
        features = vectorizer.fit_transform(texts)
    except ValueError:  # sklearn's word for an empty vocabulary
        return majority
    # Reviews are mostly positive: unweighted, a few hundred rows teach the classifier to say so of every text, and all sets score alike.
    classifier = LogisticRegression(C=1.0, class_weight="balanced", max_iter=1000)
    classifier.fit(features, labels)
    return np.asarray(classifier.predict(vectorizer.transform(test_texts)))


def _predict(rows: RowSet, samples: Samples, arm: str) -> Predictions:
    """Trains once on the rows and NUM_TRAININGS times on resamples of them; accuracy and F1 share the result."""

    def predict() -> Predictions:
        labels, rng = _is_positive(rows), samples.generator(f"tstr/{arm}")
        main = _train_and_predict(rows.texts, labels, samples.test.texts)
        resampled = []
        for _ in range(NUM_TRAININGS):
            drawn = rng.integers(len(rows), size=len(rows))
            resampled.append(_train_and_predict([rows.texts[i] for i in drawn], labels[drawn], samples.test.texts))
        return Predictions(_is_positive(samples.test), main, np.array(resampled), len(rows))

    return samples.once(("tstr", arm), predict)


def _measure(
    score: Callable[[np.ndarray, np.ndarray], float], predictions: Predictions, rng: np.random.Generator, num_bootstrap: int
) -> tuple[float, Interval]:
    """Each resample draws one of the classifiers and a bootstrap of the test rows: one interval for both sources of chance."""
    value = score(predictions.truth, predictions.main)
    num_test, resampled = len(predictions.truth), []
    for _ in range(num_bootstrap):
        predicted = predictions.resampled[rng.integers(NUM_TRAININGS)]
        drawn = rng.integers(num_test, size=num_test)
        resampled.append(score(predictions.truth[drawn], predicted[drawn]))
    return value, interval_around(value, resampled, (0.0, 1.0))


def _compute(name: str, score: Callable[[np.ndarray, np.ndarray], float], samples: Samples) -> list[Estimate]:
    """The reference is a classifier trained on as many rows of train, tested on the same test rows."""
    num = min(len(samples.train), samples.max_records, *(len(rows) for rows in samples.synthetic.values()))
    training_sets = {"real": samples.train, **samples.synthetic}
    results: dict[str, tuple[float, Interval]] = {}
    for arm, rows in training_sets.items():
        predictions = _predict(samples.take(rows, num), samples, arm)
        results[arm] = _measure(score, predictions, samples.generator(f"{name}/{arm}"), samples.num_bootstrap)
    reference = results["real"][0]
    return [Estimate(arm, value, interval, reference, num) for arm, (value, interval) in results.items()]


def _compute_majority(samples: Samples) -> list[Estimate]:
    """What always saying the commoner class of train scores on test."""
    guess = bool(_is_positive(samples.train).mean() >= 0.5)
    num_right = int(np.sum(_is_positive(samples.test) == guess))
    value = num_right / len(samples.test)
    return [Estimate("real", value, frac_interval(num_right, len(samples.test)), value, len(samples.test))]


TSTR_ACCURACY = Metric("tstr_accuracy_score", "utility", "higher", (0.0, 1.0), 1, _SOURCE, partial(_compute, "tstr_accuracy_score", accuracy))
TSTR_MACRO_F1 = Metric("tstr_macro_f1_score", "utility", "higher", (0.0, 1.0), 1, _SOURCE, partial(_compute, "tstr_macro_f1_score", macro_f1))
MAJORITY_ACCURACY = Metric("majority_accuracy_score", "utility", "higher", (0.0, 1.0), 1, "accuracy of the commoner class of train on test", _compute_majority)
