import numpy as np
import pytest
import torch

from penname.privacy.accounting import check_event
from penname.privacy.clipping import clip_and_sum
from penname.privacy.errors import PrivacyError
from penname.privacy.keystream import Keystream
from penname.privacy.mechanism import DpSgd, GaussianRelease, NonPrivateSum

KEY = Keystream.from_seed(31)
MECHANISM = DpSgd(noise_multiplier=1.5, sampling_prob=0.25, num_steps=4, l2_clip_norm=2.0, keystream=KEY)


def test_the_event_states_the_fields_that_sample_and_add_noise():
    check_event(MECHANISM.event)
    assert MECHANISM.event == {
        "type": "poisson_sampled_gaussian",
        "noise_multiplier": 1.5,
        "l2_sensitivity": 2.0,
        "sampling_prob": 0.25,
        "num_steps": 4,
    }


@pytest.mark.parametrize("step", [-1, 4, 100])
def test_no_step_beyond_the_event_is_taken(step):
    for take in (
        lambda: MECHANISM.draw_units(step, num_units=10),
        lambda: MECHANISM.release(step, MECHANISM.empty_sum(3)),
        lambda: MECHANISM.draw_dropout_seed(step),
    ):
        with pytest.raises(PrivacyError, match="num_steps"):
            take()


def test_a_sum_that_was_clipped_to_another_bound_gets_no_noise():
    with pytest.raises(PrivacyError, match="l2_clip_norm"):
        MECHANISM.release(0, clip_and_sum(torch.ones(1, 3), l2_clip_norm=2.5))


def test_release_adds_the_same_noise_once_whatever_the_sum():
    total = MECHANISM.sum_units(torch.full((3, 8), 0.1))
    noise = MECHANISM.release(2, MECHANISM.empty_sum(8))
    torch.testing.assert_close(MECHANISM.release(2, total) - total.value, noise, rtol=1e-5, atol=1e-6)
    assert not torch.equal(noise, MECHANISM.release(3, MECHANISM.empty_sum(8)))
    assert noise.dtype == torch.float32


def test_calibration_leaves_room_for_the_other_events():
    other = GaussianRelease("count", 5.0, 1.0, KEY)
    settings = {"target_epsilon": 2.0, "delta": 1e-5, "sampling_prob": 0.1, "num_steps": 10, "l2_clip_norm": 1.0, "keystream": KEY}
    with_other = DpSgd.calibrate(other_events=[other.event], **settings)
    assert with_other.noise_multiplier > DpSgd.calibrate(other_events=[], **settings).noise_multiplier
    assert (with_other.sampling_prob, with_other.num_steps, with_other.l2_clip_norm) == (0.1, 10, 1.0)


def test_the_arm_without_privacy_draws_the_same_units_and_adds_nothing():
    plain = NonPrivateSum(0.25, 4, KEY)
    np.testing.assert_array_equal(plain.draw_units(1, num_units=200), MECHANISM.draw_units(1, num_units=200))
    assert plain.draw_dropout_seed(1) == MECHANISM.draw_dropout_seed(1)
    total = plain.empty_sum(3).add_disjoint(plain.bound_nothing(torch.full((3,), 100.0), num_units=2))
    assert plain.release(0, total).tolist() == [100.0] * 3
    assert total.l2_sensitivity == float("inf")
    with pytest.raises(PrivacyError, match="l2_clip_norm"):
        MECHANISM.release(0, total)


def test_a_release_is_repeatable_and_named():
    release = GaussianRelease("histogram", 2.0, 4.0, KEY)
    check_event(release.event)
    value = np.array([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(release.release(value), release.release(value))
    other = GaussianRelease("count", 2.0, 4.0, KEY)
    assert not np.any(other.release(value) == release.release(value))


def test_the_stddev_of_a_release_is_that_of_its_event():
    release = GaussianRelease("histogram", 2.0, 4.0, KEY)
    noise = release.release(np.zeros(20_000))
    # Five standard errors of a standard deviation.
    assert abs(noise.std() / 8.0 - 1) < 5 / (2 * 20_000) ** 0.5
