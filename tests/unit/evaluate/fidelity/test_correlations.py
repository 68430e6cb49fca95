"""Correlations against numpy; what the sentiment model learns; which way the errors move."""

import numpy as np
import pytest

from penname.evaluate.fidelity.correlations import correlation_distance, correlation_matrix
from penname.evaluate.fidelity.sentiment import fit_sentiment
from penname.evaluate.privacy.errors import LeftOutError


def test_agrees_with_numpy_and_weights_are_repetitions():
    rng = np.random.default_rng(2)
    values = rng.normal(size=(40, 3)) @ rng.normal(size=(3, 3))
    assert correlation_matrix(values) == pytest.approx(np.corrcoef(values.T))
    weights = np.bincount(rng.integers(40, size=40), minlength=40)
    assert correlation_matrix(values, weights) == pytest.approx(np.corrcoef(np.repeat(values, weights, axis=0).T))


def test_a_column_that_does_not_vary_goes_with_nothing():
    values = np.column_stack([np.arange(5.0), np.full(5, 0.1), np.arange(5.0)[::-1]])
    assert correlation_matrix(values).round(9).tolist() == [[1, 0, -1], [0, 1, 0], [-1, 0, 1]]


def test_distance_counts_each_pair_once():
    first, second = np.eye(3), np.eye(3)
    second[0, 1] = second[1, 0] = 0.6
    assert correlation_distance(first, second) == pytest.approx(0.2)
    assert correlation_distance(second, second) == 0


def test_sentiment_is_learned_from_ratings_in_any_language():
    texts = ["sehr gut und schön", "gut, wirklich gut", "schlecht und kaputt", "kaputt, so schlecht"] * 5
    score = fit_sentiment(texts, np.array([5.0, 5.0, 1.0, 1.0] * 5))
    good, unknown, bad = score(["gut", "xyz", "schlecht"])
    assert good > unknown > bad
    with pytest.raises(LeftOutError, match="ratings of train are the same"):
        fit_sentiment(texts, np.full(20, 5.0))
    with pytest.raises(LeftOutError, match="no text of train has a word"):
        fit_sentiment(["!!!"] * 4, np.array([1.0, 2.0, 3.0, 4.0]))
