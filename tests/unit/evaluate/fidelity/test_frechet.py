"""Fréchet distance against closed forms and a matrix square root."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from penname.evaluate.fidelity.frechet import frechet_distance


def _exact_gaussian(rng, mean, root, num=200):
    """Rows whose mean and unbiased covariance are exactly `mean` and root root'."""
    raw = rng.normal(size=(num, len(mean)))
    raw -= raw.mean(axis=0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw.T))).T
    return mean + white @ np.asarray(root).T


def test_known_gaussians_in_closed_form():
    rng = np.random.default_rng(0)
    first = _exact_gaussian(rng, np.array([0.0, 0.0, 0.0]), np.diag([1.0, 2.0, 3.0]))
    second = _exact_gaussian(rng, np.array([1.0, -2.0, 0.0]), np.diag([2.0, 2.0, 1.0]), num=150)
    # Covariances commute: |difference of means|^2 + sum of squared differences of standard deviations.
    assert frechet_distance(first, second) == pytest.approx(1 + 4 + 1 + 0 + 4)


def test_agrees_with_the_matrix_square_root():
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(60, 5)) @ rng.normal(size=(5, 5)), rng.normal(size=(80, 5)) + 0.3
    cov1, cov2 = np.cov(first.T), np.cov(second.T)
    gap = first.mean(axis=0) - second.mean(axis=0)
    expected = gap @ gap + np.trace(cov1 + cov2 - 2 * np.real(sqrtm(cov1 @ cov2)))
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(second, first) == pytest.approx(expected, rel=1e-6)


def test_fewer_rows_than_dimensions():
    rng = np.random.default_rng(2)
    first = rng.normal(size=(10, 30))
    assert frechet_distance(first, first) == pytest.approx(0.0, abs=1e-5)
    assert frechet_distance(first, first + 2.0) == pytest.approx(4.0 * 30, rel=1e-6)


def test_weights_are_repetitions():
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(20, 4)), rng.normal(size=(20, 4))
    weights = np.bincount(rng.integers(20, size=20), minlength=20)
    expected = frechet_distance(np.repeat(first, weights, axis=0), second)
    assert frechet_distance(first, second, first_weights=weights) == pytest.approx(expected)


def test_small_samples_of_one_law_are_biased_upwards():
    rng = np.random.default_rng(4)
    few = frechet_distance(rng.normal(size=(40, 20)), rng.normal(size=(40, 20)))
    many = frechet_distance(rng.normal(size=(4000, 20)), rng.normal(size=(4000, 20)))
    assert few > 10 * many > 0
