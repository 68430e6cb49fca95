import math
import time

import pytest

from penname.privacy.accounting import (
    MAX_SAMPLED_EVENTS,
    MAX_STEPS,
    accountant_version,
    calibrate_noise,
    check_event,
    compute_epsilon,
    compute_epsilon_in_two_parts,
    compute_epsilon_rdp,
)
from penname.privacy.errors import PrivacyError

GAUSSIAN = {"type": "gaussian", "noise_multiplier": 1.0, "l2_sensitivity": 1.0}
SAMPLED = {"type": "poisson_sampled_gaussian", "noise_multiplier": 1.0, "l2_sensitivity": 1.0, "sampling_prob": 0.1, "num_steps": 5}


@pytest.mark.parametrize("event", [GAUSSIAN, SAMPLED, {**SAMPLED, "sampling_prob": 1}, {**GAUSSIAN, "noise_multiplier": 2}])
def test_the_two_events_are_understood(event):
    check_event(event)


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        "gaussian",
        {},
        {**GAUSSIAN, "type": "laplace"},
        {**GAUSSIAN, "type": ["gaussian"]},
        {**GAUSSIAN, "type": None},
        {"type": "gaussian", "noise_multiplier": 1.0},
        {**GAUSSIAN, "num_steps": 3},
        {**SAMPLED, "sampling_method": "shuffled"},
        {key: value for key, value in SAMPLED.items() if key != "num_steps"},
        *(
            {**SAMPLED, name: value}
            for name in ("noise_multiplier", "l2_sensitivity", "sampling_prob")
            for value in (0, -1, math.nan, math.inf, "1", None, True)
        ),
        {**SAMPLED, "noise_multiplier": 10**400},
        {**SAMPLED, "noise_multiplier": 1e-4},
        {**SAMPLED, "noise_multiplier": 1e10},
        {**SAMPLED, "sampling_prob": 1.0000001},
        *({**SAMPLED, "num_steps": value} for value in (0, -1, 2.0, True, "3", None, MAX_STEPS + 1, 10**15, 10**400)),
        {"type": "non_private", "noise_multiplier": 1.0},
        {"type": "\x1b[2Jlaplace"},
    ],
)
def test_what_is_unknown_raises_everywhere(event):
    with pytest.raises(PrivacyError, match="event") as caught:
        check_event(event)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
    with pytest.raises(PrivacyError, match="event"):
        compute_epsilon([GAUSSIAN, event], delta=1e-5)
    with pytest.raises(PrivacyError, match="event"):
        compute_epsilon_rdp([GAUSSIAN, event], delta=1e-5)


@pytest.mark.parametrize("delta", [0, 1, -0.1, 1.5, math.nan, 1e-13, "1e-5", None, True])
def test_a_delta_that_is_none_raises(delta):
    for compute in (compute_epsilon, compute_epsilon_rdp):
        with pytest.raises(PrivacyError, match="delta"):
            compute([GAUSSIAN], delta=delta)


def test_no_events_spend_nothing():
    assert compute_epsilon([], delta=1e-5) == 0.0
    assert compute_epsilon_rdp([], delta=1e-5) == 0.0


def test_epsilon_grows_with_steps_and_probability_and_falls_with_noise_and_delta():
    def spent(delta=1e-5, **changes):
        return compute_epsilon_rdp([{**SAMPLED, **changes}], delta=delta)

    assert spent(num_steps=4) < spent() < spent(num_steps=6)
    assert spent(sampling_prob=0.09) < spent() < spent(sampling_prob=0.11)
    assert spent(noise_multiplier=1.05) < spent() < spent(noise_multiplier=0.95)
    assert spent(delta=2e-5) < spent() < spent(delta=5e-6)


def test_sensitivity_is_for_the_reader_only():
    assert compute_epsilon([{**GAUSSIAN, "l2_sensitivity": 7.0}], delta=1e-5) == compute_epsilon([GAUSSIAN], delta=1e-5)


def test_little_noise_is_accounted_in_seconds_and_close_to_the_closed_form():
    # The grid is wider there: see _WIDE_GRID_FROM. For large epsilon, epsilon is 1 / (2 s^2) + z_(1-delta) / s, less a little.
    spent = compute_epsilon([{**GAUSSIAN, "noise_multiplier": 0.03}], delta=1e-5)
    assert 0.99 * (0.5 / 0.03**2 + 4.2649 / 0.03) < spent <= 0.5 / 0.03**2 + 4.2649 / 0.03 + 0.1


def test_what_is_not_private_spends_without_end():
    check_event({"type": "non_private"})
    for compute in (compute_epsilon, compute_epsilon_rdp):
        assert compute([GAUSSIAN, {"type": "non_private"}], delta=1e-5) == math.inf


def test_gaussian_releases_merge_into_one_exactly():
    # 1 / s^2 adds up: 3, 4, 12 and 13 as in 1/9 + 1/16 = (5/12)^2.
    merged = compute_epsilon([{**GAUSSIAN, "noise_multiplier": 2.4}], delta=1e-5)
    assert compute_epsilon([{**GAUSSIAN, "noise_multiplier": 3}, {**GAUSSIAN, "noise_multiplier": 4}], delta=1e-5) == pytest.approx(merged, rel=1e-12)
    everyone = {**SAMPLED, "sampling_prob": 1.0, "noise_multiplier": 4.8, "num_steps": 4}
    assert compute_epsilon([everyone], delta=1e-5) == pytest.approx(merged, rel=1e-12)


def test_two_parts_are_added_each_at_its_share_of_delta():
    count, rest = {**GAUSSIAN, "noise_multiplier": 10.0}, [SAMPLED, {**GAUSSIAN, "noise_multiplier": 5.0}]
    for by in (compute_epsilon, compute_epsilon_rdp):
        spent = compute_epsilon_in_two_parts([count], rest, delta=1e-5, by=by)
        assert spent == by([count], delta=1e-7) + by(rest, delta=0.99e-5)
        # Whatever the second part depends on costs more than what is fixed in advance.
        assert spent > by([count, *rest], delta=1e-5)
        for one, other in (([], rest), (rest, [])):
            assert compute_epsilon_in_two_parts(one, other, delta=1e-5, by=by) == by(rest, delta=1e-5)
    assert compute_epsilon_in_two_parts([count], [{"type": "non_private"}], delta=1e-5) == math.inf


def test_equal_sampled_events_are_more_steps_of_one():
    apart = [{**SAMPLED, "num_steps": 2}, {**SAMPLED, "num_steps": 3}]
    assert compute_epsilon(apart, delta=1e-5) == compute_epsilon([SAMPLED], delta=1e-5) < compute_epsilon([SAMPLED, SAMPLED], delta=1e-5)


@pytest.mark.parametrize(
    "events",
    [
        [{**SAMPLED, "num_steps": MAX_STEPS}, {**SAMPLED, "num_steps": 1}],
        [{**SAMPLED, "noise_multiplier": 1 + i / 1000} for i in range(MAX_SAMPLED_EVENTS + 1)],
    ],
)
def test_more_than_can_be_accounted_in_reasonable_time_raises(events):
    with pytest.raises(PrivacyError, match="events: more than"):
        compute_epsilon(events, delta=1e-5)


@pytest.mark.parametrize(
    "event",
    [
        {**SAMPLED, "num_steps": MAX_STEPS, "sampling_prob": 0.5},
        {**SAMPLED, "num_steps": MAX_STEPS, "sampling_prob": 0.5, "noise_multiplier": 100.0},
        {**SAMPLED, "num_steps": MAX_STEPS, "sampling_prob": 0.01, "noise_multiplier": 0.3},
        {**SAMPLED, "num_steps": MAX_STEPS, "sampling_prob": 1e-3, "noise_multiplier": 10.0},
        {**SAMPLED, "num_steps": MAX_STEPS, "sampling_prob": 1e-3, "noise_multiplier": 1e-3},
        {**SAMPLED, "num_steps": MAX_STEPS, "sampling_prob": 1e-9, "noise_multiplier": 1e9},
    ],
)
def test_the_largest_events_are_accounted_in_seconds(event):
    began = time.process_time()
    assert 0 <= compute_epsilon([event], delta=1e-5) < math.inf
    assert time.process_time() - began < 60


@pytest.mark.parametrize("event", [{**SAMPLED, "num_steps": MAX_STEPS, "sampling_prob": 0.9, "noise_multiplier": 1e-2}, {**GAUSSIAN, "noise_multiplier": 1e-3}])
def test_so_little_noise_that_the_arithmetic_overflows_raises(event):
    with pytest.raises(PrivacyError, match="so little noise"):
        compute_epsilon([event] * 100 if event["type"] == "gaussian" else [event], delta=1e-5)


@pytest.mark.parametrize(
    ("promise", "name"),
    [
        *(({"target_epsilon": value, "delta": 1e-5}, "target_epsilon") for value in (0, -1, math.nan, math.inf, "8", None, True)),
        *(({"target_epsilon": 1.0, "delta": value}, "delta") for value in (0, -1, 1, math.nan)),
    ],
)
def test_no_noise_is_calibrated_to_a_promise_that_is_none(promise, name):
    with pytest.raises(PrivacyError, match=f"^{name}: must be"):
        calibrate_noise(lambda noise: [{**GAUSSIAN, "noise_multiplier": noise}], **promise)


def test_a_promise_that_other_events_have_eaten_is_refused():
    with pytest.raises(PrivacyError, match="too small to reach with any noise"):
        calibrate_noise(lambda noise: [{**GAUSSIAN, "noise_multiplier": spent} for spent in (10.0, noise)], target_epsilon=0.2, delta=1e-5)


def test_calibration_covers_all_events():
    def make_events(noise):
        return [{**GAUSSIAN, "noise_multiplier": 20.0}, {**SAMPLED, "noise_multiplier": noise}]

    noise = calibrate_noise(make_events, target_epsilon=0.5, delta=1e-5)
    assert compute_epsilon(make_events(noise), delta=1e-5) <= 0.5 < compute_epsilon(make_events(0.98 * noise), delta=1e-5)
    alone = calibrate_noise(lambda noise: make_events(noise)[1:], target_epsilon=0.5, delta=1e-5)
    assert alone < noise


def test_the_version_is_that_of_the_library():
    assert accountant_version().split(".")[0].isdigit()
