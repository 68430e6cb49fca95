"""Classifier two-sample test: how well a classifier tells the set from real texts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

from penname.evaluate.bootstrap import Interval, interval_around
from penname.evaluate.fidelity.lengths import resample_both
from penname.evaluate.metric import Estimate, Metric, compare_with_test
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.samples import RowSet, Samples

NAME = "c2st_auroc"
NUM_FOLDS = 5
MIN_ROWS = 10


def weighted_auroc(scores: np.ndarray, is_positive: np.ndarray, weights: np.ndarray) -> float:
    """Probability that a positive scores above a negative, a tie counting half.

    Args:
      scores: (n,).
      is_positive: (n,) bool, both kinds with some weight.
      weights: (n,) >= 0.

    >>> weighted_auroc(np.array([0.9, 0.1, 0.5]), np.array([True, False, True]), np.ones(3))
    1.0
    """
    places = np.unique(scores, return_inverse=True)[1]
    positive = np.bincount(places, weights * is_positive)
    negative = np.bincount(places, weights * ~is_positive)
    below = np.cumsum(negative) - negative / 2
    return float(min(1.0, positive @ below / (positive.sum() * negative.sum())))


def number_copies(texts: Sequence[str]) -> list[str]:
    """Names of texts: equal for the first copy on either side, for the second copy on either side, and so on.

    >>> len(set(number_copies(["a", "b", "a"]))), number_copies(["a"]) == number_copies(["a", "a"])[:1]
    (3, True)
    """
    seen: Counter[str] = Counter()
    names = []
    for text in texts:
        seen[text] += 1
        names.append(hashlib.sha256(f"{seen[text]}/{text}".encode("utf-8", "surrogatepass")).hexdigest())
    return names


def score_out_of_fold(first: np.ndarray, second: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How much each row looks like the first set, by a classifier that did not see it.

    Args:
      first: (n, D) embeddings, n >= NUM_FOLDS. PRIVATE when real.
      second: (m, D), m >= NUM_FOLDS. PRIVATE when real.
      groups: (n + m,) numbers from 0; rows of one number stay in one fold. A text that both sides hold would else be learnt with the wrong label.
      rng: Assigns groups to folds.
    Returns:
      (n + m,) log odds. PRIVATE.
    """
    from sklearn.linear_model import LogisticRegression

    rows = np.concatenate([first, second])
    is_first = np.arange(len(rows)) < len(first)
    rows = (rows - rows.mean(axis=0)) / (rows.std(axis=0) + 1e-9)
    folds = rng.permutation(np.arange(groups.max() + 1) % NUM_FOLDS)[groups]
    scores = np.empty(len(rows))
    for fold in range(NUM_FOLDS):
        held = folds == fold
        if len(np.unique(is_first[~held])) < 2:
            raise LeftOutError("too few different texts to hold some out; give more rows")
        if not held.any():
            continue
        # Strong regularisation: with more dimensions than rows, anything can be told apart in training.
        model = LogisticRegression(C=0.01, max_iter=200).fit(rows[~held], is_first[~held])
        scores[held] = model.decision_function(rows[held])
    return scores


def _measure(candidate: RowSet, test: RowSet, samples: Samples, stream: str) -> tuple[float, Interval]:
    """Range, direction, reference: 0 to 1; 0.5 cannot be told apart, 1 always; lower is better; the reference, heldout against test, is 0.5 but for chance."""
    if min(len(candidate), len(test)) < MIN_ROWS:
        raise LeftOutError(f"needs {MIN_ROWS} rows in every set; give more rows")
    groups = np.unique(np.array([*number_copies(candidate.texts), *number_copies(test.texts)]), return_inverse=True)[1]
    scores = score_out_of_fold(candidate.embeddings, test.embeddings, groups, samples.generator(stream))
    is_candidate = np.arange(len(scores)) < len(candidate)
    value = weighted_auroc(scores, is_candidate, np.ones(len(scores)))
    draws = resample_both(len(candidate), len(test), samples, f"{stream}/resample")
    resampled = [weighted_auroc(scores, is_candidate, np.concatenate([a, b])) for a, b in draws]
    return value, interval_around(value, resampled, (0.0, 1.0))


def _compute(samples: Samples) -> list[Estimate]:
    return compare_with_test(samples, NAME, _measure)


C2ST_AUROC = Metric(
    NAME, "fidelity", "lower", (0.0, 1.0), 1, "Lopez-Paz and Oquab (2017), logistic regression on embeddings, five folds; arXiv:1610.06545", _compute
)
