"""Kullback-Leibler: against scipy, its smoothing, and what it punishes."""

import numpy as np
import pytest
from scipy.stats import entropy

from penname.evaluate.fidelity.kullback_leibler import SMOOTHING, kullback_leibler_divergence


def test_agrees_with_scipy_on_smoothed_counts():
    rng = np.random.default_rng(1)
    real, own = rng.poisson(3, 40), rng.poisson(2, 40)
    expected = entropy(real + SMOOTHING, own + SMOOTHING, base=2)
    assert kullback_leibler_divergence(real, own) == pytest.approx(expected)


def test_a_missing_word_costs_more_than_a_word_too_many():
    real, missing, extra = np.array([50, 50, 0]), np.array([100, 0, 0]), np.array([50, 50, 30])
    assert kullback_leibler_divergence(real, missing) > 2 * kullback_leibler_divergence(real, extra) > 0
    assert kullback_leibler_divergence(real, real) == 0
