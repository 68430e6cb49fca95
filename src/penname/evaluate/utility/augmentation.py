"""Augmentation: does a classifier learn more from some real reviews and synthetic ones than from those real reviews alone?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from penname.evaluate.bootstrap import interval_around
from penname.evaluate.metric import Estimate, Metric
from penname.evaluate.samples import Samples
from penname.evaluate.utility.classifiers import NUM_TRAININGS, WORDS, label_sentiment, predict_with_resamples
from penname.evaluate.utility.tstr import Predictions, accuracy, measure_predictions

PERCENTS = (10, 50, 100)
MIN_REAL_ROWS = 2
ALONE = "alone"

_SOURCE = "synthetic rows added to a share of the real ones, as Ravuri and Vinyals (2019), arXiv:1905.10887; TF-IDF and logistic regression"


@dataclass(frozen=True, slots=True)
class Augmented:
    """Predictions of test by what was trained on. PRIVATE."""

    num_real: dict[int, int]
    """Percent -> real rows."""
    num_added: int
    predictions: dict[tuple[int, str], Predictions]
    """(percent, what was added) -> predictions; `alone`: nothing; `real`: heldout rows."""


def _predict_all(samples: Samples) -> Augmented:
    def predict() -> Augmented:
        train = samples.take(samples.train, min(len(samples.train), samples.max_records))
        num_added = samples.num_compared
        added = {"real": samples.heldout, **samples.synthetic}
        added = {arm: samples.take(rows, num_added) for arm, rows in added.items()}
        real, *others, test = WORDS.read(samples, [train, *added.values(), samples.test])
        labels, truth = label_sentiment(train), label_sentiment(samples.test)
        order = samples.generator("augmentation/order").permutation(len(train))
        num_real = {percent: max(min(MIN_REAL_ROWS, len(train)), round(len(train) * percent / 100)) for percent in PERCENTS}
        found = {}
        for percent, num in num_real.items():
            # Each share holds the smaller ones.
            own = np.sort(order[:num])
            sets = {ALONE: (real[own], labels[own])}
            for (arm, rows), features in zip(added.items(), others, strict=True):
                sets[arm] = (_stack(real[own], features), np.concatenate([labels[own], label_sentiment(rows)]))
            for arm, (features, own_labels) in sets.items():
                rng = samples.generator(f"augmentation/{percent}/{arm}")
                found[percent, arm] = Predictions(truth, *predict_with_resamples(WORDS, features, own_labels, test, rng=rng))
        return Augmented(num_real, num_added, found)

    return samples.once("augmentation", predict)


def _stack(first: object, second: object) -> object:
    from scipy.sparse import vstack

    return vstack([first, second], format="csr")


def _compute_accuracy(percent: int, samples: Samples) -> list[Estimate]:
    """Accuracy of real plus synthetic; `real` and the reference are the real rows alone."""
    found = _predict_all(samples)
    name, estimates = f"augmentation_accuracy_score_{percent}", []
    for arm in (ALONE, *samples.synthetic):
        rng = samples.generator(f"{name}/{arm}")
        value, interval = measure_predictions(accuracy, found.predictions[percent, arm], rng, samples.num_bootstrap)
        reference = estimates[0].value if estimates else value
        estimates.append(Estimate("real" if arm == ALONE else arm, value, interval, reference, found.num_real[percent]))
    drawn = samples.for_figures.setdefault("augmentation", {"num_added": found.num_added, "points": {}})
    drawn["points"][str(percent)] = {
        "num_real": found.num_real[percent],
        "arms": {estimate.arm: {"value": estimate.value, "ci95": list(estimate.ci95)} for estimate in estimates},
    }
    return estimates


def _compute_gain(percent: int, samples: Samples) -> list[Estimate]:
    """What was gained by adding rows; `real` and the reference are the gain by as many other real rows."""
    found = _predict_all(samples)
    alone = found.predictions[percent, ALONE]
    estimates = []
    for arm in ("real", *samples.synthetic):
        rng = samples.generator(f"augmentation_accuracy_gain_{percent}/{arm}")
        predictions = found.predictions[percent, arm]
        value = accuracy(predictions.truth, predictions.main) - accuracy(alone.truth, alone.main)
        resampled = [_resample_gain(predictions, alone, rng) for _ in range(samples.num_bootstrap)]
        reference = estimates[0].value if estimates else value
        estimates.append(Estimate(arm, value, interval_around(value, resampled, (-1.0, 1.0)), reference, found.num_real[percent]))
    return estimates


def _resample_gain(predictions: Predictions, alone: Predictions, rng: np.random.Generator) -> float:
    """Both classifiers are asked about the same rows."""
    drawn = rng.integers(len(alone.truth), size=len(alone.truth))
    gained, without = (one.resampled[rng.integers(NUM_TRAININGS)] for one in (predictions, alone))
    return float(np.mean(gained[drawn] == alone.truth[drawn])) - float(np.mean(without[drawn] == alone.truth[drawn]))


AUGMENTATION = tuple(
    metric
    for percent in PERCENTS
    for metric in (
        Metric(f"augmentation_accuracy_score_{percent}", "utility", "higher", (0.0, 1.0), 1, _SOURCE, partial(_compute_accuracy, percent), columns=("rating",)),
        Metric(f"augmentation_accuracy_gain_{percent}", "utility", "higher", (-1.0, 1.0), 1, _SOURCE, partial(_compute_gain, percent), columns=("rating",)),
    )
)
