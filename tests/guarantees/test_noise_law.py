"""The noise has the law that is accounted for: a test that accepts the right one and rejects 2/3 and 3/2 of it."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from penname.privacy.keystream import Keystream
from penname.privacy.mechanism import DpSgd, GaussianRelease
from penname.privacy.noise import draw_gaussian
from tests.conftest import charged

# A right mechanism is rejected once in a million keys; the keys here are fixed, so the outcome is too.
FALSE_ALARM = 1e-6
NUM_DRAWS = 20_000


def is_accepted(noise, stddev):
    """Kolmogorov-Smirnov for the shape, chi-square for the scale."""
    by_shape = stats.kstest(noise / stddev, "norm").pvalue
    square_sum = float(np.sum((noise / stddev) ** 2))
    law = stats.chi2(len(noise))
    by_scale = 2 * min(law.cdf(square_sum), law.sf(square_sum))
    return min(by_shape, by_scale) > FALSE_ALARM


def make_noise(kind, seed, *, noise_multiplier=0.8, bound=2.5):
    keystream = Keystream.from_seed(seed)
    if kind == "dp_sgd":
        mechanism = charged(DpSgd(noise_multiplier, 0.5, 3, bound, keystream))
        return mechanism.release(1, mechanism.empty_sum(NUM_DRAWS)).double().numpy()
    return charged(GaussianRelease("histogram", noise_multiplier, bound, keystream)).release(np.zeros(NUM_DRAWS))


@pytest.mark.parametrize("kind", ["dp_sgd", "gaussian"])
@pytest.mark.parametrize("seed", range(5))
def test_the_right_stddev_is_accepted_and_others_are_rejected(kind, seed):
    noise = make_noise(kind, seed)
    stddev = 0.8 * 2.5
    assert is_accepted(noise, stddev)
    for factor in (2 / 3, 3 / 2, 0.95, 1.05):
        assert not is_accepted(noise, factor * stddev)
    assert not is_accepted(noise + 0.1 * stddev, stddev)


def test_the_test_rejects_what_is_not_gaussian():
    generator = np.random.default_rng(0)
    assert not is_accepted(generator.laplace(size=NUM_DRAWS) / 2**0.5, 1.0)
    assert not is_accepted(generator.choice([-1.0, 1.0], NUM_DRAWS), 1.0)
    assert is_accepted(generator.normal(size=NUM_DRAWS), 1.0)


def test_tails_reach_as_far_as_they_must():
    noise = draw_gaussian(Keystream.from_seed(7), purpose="tail", index=0, size=1_000_000, stddev=1.0)
    for bound in (3.0, 4.0):
        beyond = int(np.sum(np.abs(noise) > bound))
        assert stats.binomtest(beyond, len(noise), 2 * stats.norm.sf(bound)).pvalue > FALSE_ALARM


def test_steps_and_purposes_are_independent():
    keystream = Keystream.from_seed(3)
    streams = [draw_gaussian(keystream, purpose=purpose, index=index, size=NUM_DRAWS, stddev=1.0) for purpose in ("dp_sgd", "histogram") for index in (0, 1, 2)]
    streams.append(draw_gaussian(Keystream.from_seed(4), purpose="dp_sgd", index=0, size=NUM_DRAWS, stddev=1.0))
    for one, other in itertools.combinations(streams, 2):
        assert stats.pearsonr(one, other).pvalue > FALSE_ALARM
        # Signs too: a copy with another sign here and there would have no correlation of values.
        agree = int(np.sum(np.sign(one) == np.sign(other)))
        assert stats.binomtest(agree, NUM_DRAWS, 0.5).pvalue > FALSE_ALARM


def test_both_halves_of_a_draw_are_independent():
    # Box-Muller makes them in pairs, from the same radius.
    noise = draw_gaussian(Keystream.from_seed(5), purpose="p", index=0, size=2 * NUM_DRAWS, stddev=1.0)
    first, second = noise[:NUM_DRAWS], noise[NUM_DRAWS:]
    assert stats.pearsonr(first, second).pvalue > FALSE_ALARM
    assert stats.pearsonr(first**2, second**2).pvalue > FALSE_ALARM
    assert is_accepted((first + second) / 2**0.5, 1.0)


def test_the_same_step_has_the_same_noise():
    mechanism, again = (charged(DpSgd(1.0, 0.5, 3, 1.0, Keystream.from_seed(3))) for _ in range(2))
    assert torch.equal(mechanism.release(2, mechanism.empty_sum(100)), again.release(2, again.empty_sum(100)))
