"""Exact intervals against their definitions."""

import numpy as np
import pytest
from scipy.stats import binom, poisson

from penname.evaluate.privacy.exact_intervals import clopper_pearson, difference_interval, poisson_interval


@pytest.mark.parametrize(("hits", "trials"), [(1, 10), (37, 100), (99, 100)])
def test_clopper_pearson_leaves_two_and_a_half_percent_on_each_side(hits, trials):
    low, high = (float(bound) for bound in clopper_pearson(hits, trials))
    assert binom.sf(hits - 1, trials, low) == pytest.approx(0.025)
    assert binom.cdf(hits, trials, high) == pytest.approx(0.025)


def test_clopper_pearson_at_the_ends_and_over_arrays():
    low, high = clopper_pearson(np.array([0, 20]), 20)
    assert (low[0], high[1]) == (0.0, 1.0)
    assert high[0] == pytest.approx(1 - 0.025 ** (1 / 20))
    assert low[1] == pytest.approx(0.025 ** (1 / 20))


def test_clopper_pearson_covers_over_1000_simulations():
    hits = np.random.default_rng(0).binomial(60, 0.07, size=1000)
    low, high = clopper_pearson(hits, 60)
    assert np.mean((low <= 0.07) & (high >= 0.07)) >= 0.95


def test_poisson_interval_by_definition():
    low, high = poisson_interval(7)
    assert poisson.sf(6, low) == pytest.approx(0.025)
    assert poisson.cdf(7, high) == pytest.approx(0.025)
    assert poisson_interval(0)[0] == 0.0


def test_difference_interval_against_newcombes_paper():
    # Table II of Newcombe (1998), method 10: 56/70 - 48/80.
    low, high = difference_interval(56, 70, 48, 80)
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)
    low, high = difference_interval(0, 10, 0, 10)
    assert low < 0 < high
