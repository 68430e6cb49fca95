"""Kolmogorov-Smirnov against scipy."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from penname.evaluate.fidelity.kolmogorov_smirnov import kolmogorov_smirnov_distance


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_scipy(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.poisson(8, 50), rng.poisson(8 + seed, 70)
    values = np.unique(np.concatenate([first, second]))
    counts = [np.array([np.sum(sample == value) for value in values]) for sample in (first, second)]
    assert kolmogorov_smirnov_distance(values, *counts) == pytest.approx(ks_2samp(first, second).statistic)


def test_equal_and_apart():
    values = np.array([1, 2, 3, 4])
    assert kolmogorov_smirnov_distance(values, np.array([1, 2, 0, 0]), np.array([2, 4, 0, 0])) == pytest.approx(0.0)
    assert kolmogorov_smirnov_distance(values, np.array([1, 2, 0, 0]), np.array([0, 0, 2, 4])) == 1.0
