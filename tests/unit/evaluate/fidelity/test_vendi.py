"""Vendi score against a value recorded from vendi-score 0.0.3, both ways to compute it, and the moments behind its interval."""

import numpy as np
import pytest

from penname.evaluate.embedding_moments import Moments
from penname.evaluate.fidelity.frechet import _distance_of_gaussians, _factor_moments, frechet_distance
from penname.evaluate.fidelity.vendi import _entropy_number, vendi_score


def unit_rows():
    real = np.random.default_rng(7).normal(size=(40, 6))
    return real / np.linalg.norm(real, axis=1, keepdims=True)


def test_agrees_with_the_reference_implementation():
    rows = unit_rows()
    assert vendi_score(rows) == pytest.approx(5.398187154113454)
    assert vendi_score(rows[:5]) == pytest.approx(_entropy_number(rows[:5].T @ rows[:5] / 5))


def test_weights_are_repetitions_and_copies_add_nothing():
    rows = unit_rows()
    weights = np.bincount(np.random.default_rng(0).integers(40, size=40), minlength=40)
    assert vendi_score(rows, weights) == pytest.approx(vendi_score(np.repeat(rows, weights, axis=0)))
    assert vendi_score(np.repeat(rows, 3, axis=0)) == pytest.approx(vendi_score(rows))
    assert vendi_score(np.repeat(rows[:1], 9, axis=0)) == pytest.approx(1.0)


def test_moments_of_blocks_are_those_of_the_rows():
    rng = np.random.default_rng(5)
    first, second = rng.normal(size=(350, 4)) + 1, rng.normal(size=(350, 4)) * 2
    num, mean, second_moment = Moments(first, rng).all()
    assert num == 350
    assert mean == pytest.approx(first.mean(axis=0))
    assert second_moment == pytest.approx(first.T @ first / 350, rel=1e-5)
    gaussians = [_factor_moments(Moments(rows, rng).all()) for rows in (first, second)]
    assert _distance_of_gaussians(*gaussians) == pytest.approx(frechet_distance(first, second), rel=1e-3)


def test_resampled_blocks_spread_as_resampled_rows_do():
    rng = np.random.default_rng(6)
    rows = rng.normal(size=(1000, 2))
    means = np.array([mean for _, mean, _ in Moments(rows, rng).resampled(rng, 400)])
    assert means.std(axis=0) == pytest.approx(np.full(2, 1 / np.sqrt(1000)), rel=0.25)
