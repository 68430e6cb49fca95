"""Intervals: known answers, and coverage on data whose truth is known."""

import numpy as np
import pytest

from penname.evaluate.bootstrap import frac_interval, interval_around, paired_difference_interval, resample, share_interval_around


def test_a_resample_draws_as_many_records_as_there_are():
    draws = list(resample(np.random.default_rng(0), 50, 20))
    assert len(draws) == 20
    assert all(len(draw) == 50 and draw.sum() == 50 for draw in draws)
    assert len({tuple(draw) for draw in draws}) == 20


def test_interval_is_shifted_to_the_value_and_cut_to_the_bounds():
    resampled = np.linspace(10, 20, 1001)
    assert interval_around(5.0, resampled, (0.0, 100.0)) == pytest.approx((0.25, 9.75))
    assert interval_around(0.5, resampled, (0.0, 1.0)) == (0.0, 1.0)


def test_bootstrap_interval_of_a_mean_covers_it_about_95_times_in_100():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        values = rng.normal(3.0, 2.0, size=80)
        resampled = [weights @ values / 80 for weights in resample(rng, 80, 200)]
        low, high = interval_around(values.mean(), resampled, (-100.0, 100.0))
        covered += low <= 3.0 <= high
    assert 0.89 <= covered / 300 <= 0.985


def test_wilson_interval_known_answers():
    # Newcombe (1998), table I: 81 of 263, and 0 of 20.
    assert frac_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert frac_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert frac_interval(20, 20) == pytest.approx((0.8389, 1.0), abs=1e-4)


def test_paired_difference_known_answer_and_never_a_point():
    first, second = np.zeros(100, dtype=bool), np.zeros(100, dtype=bool)
    low, high = paired_difference_interval(first, second)
    assert low < 0 < high
    assert high == pytest.approx(1.95996 / 102, abs=1e-4)
    first[:30] = True
    low, high = paired_difference_interval(first, second)
    assert 0.2 < low < 0.3 < high < 0.4
    assert paired_difference_interval(second, first) == pytest.approx((-high, -low))


@pytest.mark.parametrize(("value", "other_end"), [(0.0, 0.0713), (1.0, 0.9287)])
def test_a_share_that_no_resample_moves_is_not_certain(value, other_end):
    interval = share_interval_around(value, [value] * 20, num_records=50)
    assert sorted(interval) == pytest.approx(sorted([value, other_end]), abs=1e-3)
    assert share_interval_around(0.5, [0.4, 0.5, 0.6], num_records=50) == interval_around(0.5, [0.4, 0.5, 0.6], (0.0, 1.0))
