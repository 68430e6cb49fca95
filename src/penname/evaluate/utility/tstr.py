"""Train on synthetic, test on real, and the converse: classifiers of sentiment, and what always guessing scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from penname.evaluate.bootstrap import Interval, frac_interval, interval_around
from penname.evaluate.metric import Estimate, Metric
from penname.evaluate.samples import RowSet, Samples
from penname.evaluate.utility.classifiers import (
    CLASSIFIERS,
    NUM_TRAININGS,
    WORDS,
    Classifier,
    label_sentiment,
    predict_with_resamples,
)

_SOURCE = "Esteban et al. (2017), arXiv:1706.02633, {direction}; {what}"

Score = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True, slots=True)
class Predictions:
    """What classifiers of one training set say about some rows. PRIVATE."""

    truth: np.ndarray
    """(m,) bool."""
    main: np.ndarray
    """(m,) bool: the classifier trained on the rows themselves."""
    resampled: np.ndarray
    """(NUM_TRAININGS, m) bool: each trained on a bootstrap resample of the rows."""


def accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Share of rows predicted right.

    >>> accuracy(np.array([True, False]), np.array([True, True]))
    0.5
    """
    return float(np.mean(truth == predicted))


def macro_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean of the F1 of each class; a class that is neither there nor predicted does not count.

    >>> round(macro_f1(np.array([True, True, False]), np.array([True, True, True])), 2)
    0.4
    """
    scores = []
    for label in np.union1d(truth, predicted):
        is_label, is_predicted = truth == label, predicted == label
        scores.append(2 * int((is_label & is_predicted).sum()) / (int(is_label.sum()) + int(is_predicted.sum())))
    return float(np.mean(scores))


def measure_predictions(score: Score, predictions: Predictions, rng: np.random.Generator, num_bootstrap: int) -> tuple[float, Interval]:
    """A score with its interval: each resample draws one of the classifiers and a bootstrap of the rows, both sources of chance together.

    Args:
      score: (truth, predicted) -> 0 to 1.
      predictions: PRIVATE.
      rng: Seeded.
      num_bootstrap: How many resamples.
    """
    value = score(predictions.truth, predictions.main)
    num, resampled = len(predictions.truth), []
    for _ in range(num_bootstrap):
        predicted = predictions.resampled[rng.integers(NUM_TRAININGS)]
        drawn = rng.integers(num, size=num)
        resampled.append(score(predictions.truth[drawn], predicted[drawn]))
    return value, interval_around(value, resampled, (0.0, 1.0))


def _predict_test(samples: Samples, classifier: Classifier) -> dict[str, Predictions]:
    """Every set in turn is trained on, in equal numbers, and tested on test; accuracy and F1 share the result."""

    def predict() -> dict[str, Predictions]:
        num = _count_training_rows(samples, classifier)
        sets = {arm: samples.take(rows, num) for arm, rows in {"real": samples.train, **samples.synthetic}.items()}
        test = _test_rows(samples, classifier)
        *features, test_features = classifier.read(samples, [*sets.values(), test])
        found = {}
        for (arm, rows), own in zip(sets.items(), features, strict=True):
            rng = samples.generator(f"tstr{classifier.suffix}/{arm}")
            found[arm] = Predictions(label_sentiment(test), *predict_with_resamples(classifier, own, label_sentiment(rows), test_features, rng=rng))
        return found

    return samples.once(("tstr", classifier.suffix), predict)


def _predict_synthetic(samples: Samples, classifier: Classifier) -> dict[str, Predictions]:
    """Train is trained on, and tested on every set in turn; `real` is test."""

    def predict() -> dict[str, Predictions]:
        train = samples.take(samples.train, _count_training_rows(samples, classifier))
        sets = {arm: samples.take(rows, samples.num_compared) for arm, rows in {"real": samples.test, **samples.synthetic}.items()}
        features, *tested = classifier.read(samples, [train, *sets.values()])
        found = {}
        for (arm, rows), own in zip(sets.items(), tested, strict=True):
            # The same stream for every set: all are tested with the same classifiers.
            rng = samples.generator(f"trts{classifier.suffix}")
            found[arm] = Predictions(label_sentiment(rows), *predict_with_resamples(classifier, features, label_sentiment(train), own, rng=rng))
        return found

    return samples.once(("trts", classifier.suffix), predict)


def _count_training_rows(samples: Samples, classifier: Classifier) -> int:
    num = min(len(samples.train), samples.max_records, *(len(rows) for rows in samples.synthetic.values()))
    # What is embedded for other metrics need not be embedded again.
    return num if classifier is WORDS else min(num, samples.num_compared)


def _test_rows(samples: Samples, classifier: Classifier) -> RowSet:
    return samples.test if classifier is WORDS else samples.take(samples.test, samples.num_compared)


def _estimate(
    name: str, score: Score, classifier: Classifier, predict: Callable[[Samples, Classifier], Mapping[str, Predictions]], samples: Samples
) -> list[Estimate]:
    """The reference is the arm `real`: trained and tested on real rows."""
    num = _count_training_rows(samples, classifier)
    results = {
        arm: measure_predictions(score, predictions, samples.generator(f"{name}/{arm}"), samples.num_bootstrap)
        for arm, predictions in predict(samples, classifier).items()
    }
    reference = results["real"][0]
    return [Estimate(arm, value, interval, reference, num) for arm, (value, interval) in results.items()]


def _compute_majority(samples: Samples) -> list[Estimate]:
    """What always saying the commoner class of train scores on test."""
    guess = bool(label_sentiment(samples.train).mean() >= 0.5)
    num_right = int(np.sum(label_sentiment(samples.test) == guess))
    value = num_right / len(samples.test)
    return [Estimate("real", value, frac_interval(num_right, len(samples.test)), value, len(samples.test))]


def _declare(stem: str, score: Score, classifier: Classifier, version: int = 1) -> Metric:
    name = stem + classifier.suffix
    is_converse = stem.startswith("trts")
    source = _SOURCE.format(direction="train on real, test on synthetic" if is_converse else "train on synthetic, test on real", what=classifier.what)
    compute = partial(_estimate, name, score, classifier, _predict_synthetic if is_converse else _predict_test)
    return Metric(name, "utility", "higher", (0.0, 1.0), version, source, compute, columns=("rating",))


_TSTR_SCORES = (("tstr_accuracy_score", accuracy), ("tstr_macro_f1_score", macro_f1))
TSTR = tuple(_declare(stem, score, classifier) for classifier in CLASSIFIERS for stem, score in _TSTR_SCORES)
TRTS = tuple(_declare("trts_accuracy_score", accuracy, classifier) for classifier in CLASSIFIERS)
MAJORITY_ACCURACY = Metric(
    "majority_accuracy_score",
    "utility",
    "higher",
    (0.0, 1.0),
    1,
    "accuracy of the commoner class of train on test",
    _compute_majority,
    columns=("rating",),
)
