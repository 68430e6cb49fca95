from dataclasses import replace

import numpy as np
import pytest
import torch

from penname.privacy.accounting import check_event
from penname.privacy.clipping import clip_and_sum
from penname.privacy.errors import BudgetExceededError, PrivacyError
from penname.privacy.keystream import Keystream
from penname.privacy.ledger import Ledger, Promise, Receipt
from penname.privacy.mechanism import DpSgd, GaussianRelease, NonPrivateSum
from tests.conftest import charged

KEY, OTHER_KEY = Keystream.from_seed(31), Keystream.from_seed(32)
UNCHARGED = DpSgd(noise_multiplier=1.5, sampling_prob=0.25, num_steps=4, l2_clip_norm=2.0, keystream=KEY)
MECHANISM = charged(UNCHARGED)
HISTOGRAM = GaussianRelease("histogram", 2.0, 4.0, KEY)


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
    noise = charged(UNCHARGED).release(2, MECHANISM.empty_sum(8))
    torch.testing.assert_close(charged(UNCHARGED).release(2, total) - total.value.float(), noise, rtol=1e-5, atol=1e-6)
    assert not torch.equal(noise, charged(UNCHARGED).release(3, MECHANISM.empty_sum(8)))
    assert noise.dtype == torch.float32


def test_the_noise_of_a_step_is_added_to_one_sum_only():
    mechanism = charged(UNCHARGED)
    first = mechanism.release(1, mechanism.sum_units(torch.ones(2, 3)))
    assert torch.equal(mechanism.release(1, mechanism.sum_units(torch.ones(2, 3))), first)
    with pytest.raises(PrivacyError, match="step 1 was released with another sum"):
        mechanism.release(1, mechanism.sum_units(torch.ones(1, 3)))


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
    release = charged(HISTOGRAM)
    check_event(release.event)
    value = np.array([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(release.release(value), release.release(value))
    other = charged(GaussianRelease("count", 2.0, 4.0, KEY))
    assert not np.any(other.release(value) == release.release(value))


def test_the_noise_of_a_release_is_added_to_one_value_only():
    release = charged(HISTOGRAM)
    release.release(np.array([1.0, 2.0, 3.0]))
    for other in (np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0])):
        with pytest.raises(PrivacyError, match="histogram was released with another value"):
            release.release(other)


def test_the_stddev_of_a_release_is_that_of_its_event():
    noise = charged(HISTOGRAM).release(np.zeros(20_000))
    # Five standard errors of a standard deviation.
    assert abs(noise.std() / 8.0 - 1) < 5 / (2 * 20_000) ** 0.5


# --- no release without a charge ----------------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path):
    return Ledger.open(tmp_path / "ledger.jsonl", Promise(20.0, 1e-5, "user", "ADD_OR_REMOVE_ONE", "seed"))


def uses_of(mechanism):
    """Every way in which a mechanism touches the data or lets something out."""
    if isinstance(mechanism, GaussianRelease):
        return [lambda: mechanism.release(np.ones(3))]
    return [lambda: mechanism.draw_units(0, num_units=10), lambda: mechanism.release(0, mechanism.sum_units(torch.ones(2, 3)))]


@pytest.mark.parametrize("mechanism", [UNCHARGED, HISTOGRAM])
def test_nothing_is_drawn_or_released_without_a_charge(ledger, mechanism):
    for use in uses_of(mechanism):
        with pytest.raises(PrivacyError, match="is not charged"):
            use()
    paid = mechanism.charge(ledger, "it", inputs_sha256="aa")
    assert paid == mechanism
    assert [(entry["event_id"], entry["event"]) for entry in Ledger.read(ledger.path).entries] == [("it", mechanism.event)]
    for use in uses_of(paid):
        use()


@pytest.mark.parametrize("mechanism", [UNCHARGED, HISTOGRAM])
def test_a_refused_charge_gives_no_receipt(tmp_path, mechanism):
    poor = Ledger.open(tmp_path / "poor.jsonl", Promise(0.01, 1e-5, "user", "ADD_OR_REMOVE_ONE", "seed"))
    with pytest.raises(BudgetExceededError):
        mechanism.charge(poor, "it", inputs_sha256="aa")
    assert Ledger.read(poor.path).entries == []


@pytest.mark.parametrize(
    "change",
    [{"noise_multiplier": 1.4}, {"sampling_prob": 0.26}, {"num_steps": 5}, {"l2_clip_norm": 2.1}, {"keystream": OTHER_KEY}],
)
def test_a_receipt_is_good_for_its_own_event_and_key_only(ledger, change):
    other = replace(UNCHARGED.charge(ledger, "it", inputs_sha256="aa"), **change)
    for use in uses_of(other):
        with pytest.raises(PrivacyError, match="another event or another key"):
            use()


@pytest.mark.parametrize("change", [{"noise_multiplier": 1.9}, {"l2_sensitivity": 5.0}, {"keystream": OTHER_KEY}])
def test_a_receipt_of_a_release_is_good_for_it_only(ledger, change):
    with pytest.raises(PrivacyError, match="another event or another key"):
        replace(HISTOGRAM.charge(ledger, "it", inputs_sha256="aa"), **change).release(np.ones(3))


def test_the_receipt_of_a_cheap_event_pays_for_no_dear_one(ledger):
    cheap = replace(UNCHARGED, noise_multiplier=50.0).charge(ledger, "it", inputs_sha256="aa")
    with pytest.raises(PrivacyError, match="another event"):
        replace(UNCHARGED, receipt=cheap.receipt).draw_units(0, num_units=10)


def test_a_probe_draws_under_a_key_of_its_own_and_charges_nothing():
    probe, other = UNCHARGED.with_probe_key(), UNCHARGED.with_probe_key()
    assert (probe.event, probe.keystream.source) == (UNCHARGED.event, "self-check")
    assert probe.receipt == Receipt("self-check", UNCHARGED.event, probe.keystream.commitment)
    assert len({KEY.commitment, probe.keystream.commitment, other.keystream.commitment}) == 3
    noise = probe.release(0, probe.empty_sum(2000)).double()
    assert abs(float(noise.std()) / 3.0 - 1) < 0.1
    probe.draw_units(0, num_units=10)


@pytest.mark.parametrize("total", [MECHANISM.sum_units(torch.ones(2, 3)), MECHANISM.sum_units(torch.zeros(1, 3))])
def test_a_probe_lets_nothing_of_the_data_out(total):
    probe = UNCHARGED.with_probe_key()
    for given in (total, replace(total, num_units=0)):
        if given.num_units or given.value.any():
            with pytest.raises(PrivacyError, match="may not be given a sum over units"):
                probe.release(0, given)


def test_the_event_of_the_arm_without_privacy_is_infinite_and_no_ledger_takes_it(ledger):
    event = NonPrivateSum(0.25, 4, KEY).event
    before = ledger.path.read_bytes()
    with pytest.raises(BudgetExceededError, match="epsilon would be inf"):
        ledger.spend("train/no_dp", event, keystream=KEY, inputs_sha256="aa")
    assert ledger.path.read_bytes() == before
