import numpy as np
import pytest

from penname.privacy.errors import PrivacyError
from penname.privacy.keystream import Keystream
from penname.privacy.sampling import draw_dropout_seed, draw_poisson_units

KEY = Keystream.from_seed(11)


@pytest.mark.parametrize("sampling_prob", [0, -0.1, 1.0001, float("nan"), float("inf")])
def test_a_probability_outside_its_range_is_refused(sampling_prob):
    with pytest.raises(PrivacyError, match="sampling_prob"):
        draw_poisson_units(KEY, step=0, num_units=5, sampling_prob=sampling_prob)


def test_probability_one_draws_everybody():
    np.testing.assert_array_equal(draw_poisson_units(KEY, step=3, num_units=5, sampling_prob=1.0), np.arange(5))


def test_no_units_draw_nobody():
    assert draw_poisson_units(KEY, step=0, num_units=0, sampling_prob=0.5).shape == (0,)


def test_a_draw_is_ascending_repeatable_and_differs_by_step():
    first = draw_poisson_units(KEY, step=0, num_units=1000, sampling_prob=0.3)
    np.testing.assert_array_equal(first, draw_poisson_units(KEY, step=0, num_units=1000, sampling_prob=0.3))
    assert np.all(np.diff(first) > 0)
    assert not np.array_equal(first, draw_poisson_units(KEY, step=1, num_units=1000, sampling_prob=0.3))


def test_a_unit_at_the_end_does_not_change_the_draw_of_the_others():
    few = draw_poisson_units(KEY, step=0, num_units=99, sampling_prob=0.3)
    many = draw_poisson_units(KEY, step=0, num_units=100, sampling_prob=0.3)
    np.testing.assert_array_equal(many[many < 99], few)


def test_dropout_seeds_differ_by_step_and_by_key():
    seeds = {draw_dropout_seed(Keystream.from_seed(key), step=step) for key in range(4) for step in range(50)}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**53 for seed in seeds)
    assert draw_dropout_seed(KEY, step=7) == draw_dropout_seed(Keystream.from_seed(11), step=7)
