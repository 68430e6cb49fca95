import math

import pytest

from penname.privacy.accounting import accountant_version, calibrate_noise, check_event, compute_epsilon, compute_epsilon_rdp
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
        *({**SAMPLED, "num_steps": value} for value in (0, -1, 2.0, True, "3", None)),
    ],
)
def test_what_is_unknown_raises_everywhere(event):
    with pytest.raises(PrivacyError, match="event"):
        check_event(event)
    with pytest.raises(PrivacyError, match="event"):
        compute_epsilon([GAUSSIAN, event], delta=1e-5)
    with pytest.raises(PrivacyError, match="event"):
        compute_epsilon_rdp([GAUSSIAN, event], delta=1e-5)


@pytest.mark.parametrize("delta", [0, 1, -0.1, 1.5, math.nan])
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


def test_a_promise_that_other_events_have_eaten_is_refused():
    with pytest.raises(PrivacyError, match="too small to reach with any noise"):
        calibrate_noise(lambda noise: [GAUSSIAN, {**GAUSSIAN, "noise_multiplier": noise}], target_epsilon=1.0, delta=1e-5)


def test_calibration_covers_all_events():
    def make_events(noise):
        return [{**GAUSSIAN, "noise_multiplier": 4.0}, {**SAMPLED, "noise_multiplier": noise}]

    noise = calibrate_noise(make_events, target_epsilon=3.0, delta=1e-5)
    assert compute_epsilon(make_events(noise), delta=1e-5) <= 3.0 < compute_epsilon(make_events(0.98 * noise), delta=1e-5)
    alone = calibrate_noise(lambda noise: make_events(noise)[1:], target_epsilon=3.0, delta=1e-5)
    assert alone < noise


def test_the_version_is_that_of_the_library():
    assert accountant_version().split(".")[0].isdigit()
