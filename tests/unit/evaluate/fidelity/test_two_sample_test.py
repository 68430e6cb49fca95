"""The classifier two-sample test: its area under the curve against scikit-learn, and sets that can and cannot be told apart."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from penname.evaluate.fidelity.two_sample_test import score_out_of_fold, weighted_auroc


def test_weighted_auroc_agrees_with_scikit_learn():
    rng = np.random.default_rng(3)
    scores, labels, weights = np.round(rng.normal(size=60), 1), rng.random(60) < 0.4, rng.integers(0, 4, size=60)
    assert weighted_auroc(scores, labels, weights) == pytest.approx(roc_auc_score(labels, scores, sample_weight=weights))


def measure(first, second, groups=None):
    groups = np.arange(len(first) + len(second)) if groups is None else groups
    scores = score_out_of_fold(first, second, groups, np.random.default_rng(0))
    return weighted_auroc(scores, np.arange(len(scores)) < len(first), np.ones(len(scores)))


def test_apart_the_same_law_and_the_same_texts():
    rng = np.random.default_rng(4)
    first, second = rng.normal(size=(80, 10)), rng.normal(size=(80, 10))
    assert measure(first + 3, second) > 0.99
    assert 0.35 < measure(first, second) < 0.65
    # The copies of a text stay in one fold: else the classifier would be right about them by being wrong.
    assert measure(first, first, np.concatenate([np.arange(80), np.arange(80)])) == pytest.approx(0.5, abs=0.02)
