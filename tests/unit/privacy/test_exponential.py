from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from penname.privacy.accounting import METHOD, METHOD_WITH_DRAWS, check_event, compute_epsilon, compute_epsilon_rdp, describe_method
from penname.privacy.errors import PrivacyError
from penname.privacy.exponential import BoundedScores, ExponentialDraws, NonPrivateDraws
from penname.privacy.keystream import Keystream
from tests.conftest import charged

KEY = Keystream.from_seed(41)
UNCHARGED = ExponentialDraws(temperature=0.8, linf_sensitivity=0.2, num_draws=5, keystream=KEY)
DRAWS = charged(UNCHARGED)
PUBLIC = np.log(np.array([0.5, 0.3, 0.15, 0.05]))


def shown(*scores):
    return BoundedScores(np.array(scores, dtype=np.float64), 0.2, 1)


def test_the_event_states_the_fields_that_draw():
    check_event(DRAWS.event)
    assert DRAWS.event == {"type": "exponential", "temperature": 0.8, "linf_sensitivity": 0.2, "num_draws": 5}


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", 0), ("temperature", float("inf")), ("linf_sensitivity", -1.0), ("linf_sensitivity", True), ("num_draws", 0), ("num_draws", 2.0),
     ("num_draws", 10**9), ("temperature", 1e12)],
)  # fmt: skip
def test_an_event_that_cannot_be_accounted_for_is_refused(field, value):
    with pytest.raises(PrivacyError, match="exponential"):
        check_event(DRAWS.event | {field: value})


def test_a_draw_counts_as_a_gaussian_release_does_in_renyi_divergences_and_never_by_privacy_losses():
    gaussian = {"type": "gaussian", "noise_multiplier": 4.0, "l2_sensitivity": 1.0}
    training = {"type": "poisson_sampled_gaussian", "noise_multiplier": 1.0, "l2_sensitivity": 1.0, "sampling_prob": 0.1, "num_steps": 9}
    for others in ([], [gaussian], [training]):
        epsilon = compute_epsilon([DRAWS.event, *others], delta=1e-5)
        assert epsilon == compute_epsilon_rdp([*[gaussian] * 5, *others], delta=1e-5)
        # The curve of the Gaussian itself is no bound for them.
        assert epsilon > compute_epsilon([*[gaussian] * 5, *others], delta=1e-5)
    assert (describe_method([gaussian]), describe_method([gaussian, DRAWS.event])) == (METHOD, METHOD_WITH_DRAWS)


def test_calibration_covers_all_events_and_wastes_little():
    other = {"type": "gaussian", "noise_multiplier": 10.0, "l2_sensitivity": 1.0}
    found = ExponentialDraws.calibrate(target_epsilon=4.0, delta=1e-5, other_events=[other], temperature=0.9, num_draws=64, keystream=KEY)
    assert 3.95 < compute_epsilon([other, found.event], delta=1e-5) <= 4.0
    assert (found.temperature, found.num_draws) == (0.9, 64)


@given(
    said=st.lists(st.lists(st.floats(width=32), min_size=4, max_size=4), min_size=1, max_size=6),
    expected_units=st.floats(min_value=0.1, max_value=50),
)
def test_removing_a_unit_moves_no_score_by_more_than_the_sensitivity(said, expected_units):
    rows = torch.tensor(said, dtype=torch.float64)
    whole, less = (DRAWS.bound_scores(PUBLIC, part, expected_units=expected_units) for part in (rows, rows[1:]))
    assert np.abs(whole.value - less.value).max() <= 0.2
    assert whole.linf_sensitivity == 0.2
    # In any order, the same bits.
    np.testing.assert_array_equal(whole.value, DRAWS.bound_scores(PUBLIC, rows.flip(0), expected_units=expected_units).value)


def test_units_that_agree_move_the_scores_together_and_nobody_moves_nothing():
    towards = torch.full((10, 4), 0.0, dtype=torch.float64) + torch.from_numpy(PUBLIC)
    towards[:, 3] += 0.1
    scores = DRAWS.bound_scores(PUBLIC, towards, expected_units=10.0)
    np.testing.assert_allclose(scores.value - PUBLIC, [0, 0, 0, 0.1], atol=1e-9)
    np.testing.assert_array_equal(DRAWS.bound_scores(PUBLIC, torch.zeros(0, 4), expected_units=10.0).value, PUBLIC)
    # One of ten can say a tenth of what it likes, up to the bound.
    far = torch.full((1, 4), 50.0)
    np.testing.assert_allclose(DRAWS.bound_scores(PUBLIC, far, expected_units=10.0).value - PUBLIC, 0.2, rtol=2e-5)


def test_a_unit_that_is_not_finite_adds_nothing():
    rows = torch.tensor([[float("nan"), 0, 0, 0], [float("-inf"), 0, 0, 0]])
    np.testing.assert_array_equal(DRAWS.bound_scores(PUBLIC, rows, expected_units=2.0).value, PUBLIC)


def test_draws_follow_the_scores_at_the_temperature():
    scores = shown(0.0, -0.4, -0.8, -1.6)
    wide = replace(DRAWS, num_draws=1)
    wide = charged(wide)
    found = np.bincount([wide.draw(group, 0, scores) for group in range(20_000)], minlength=4) / 20_000
    weights = np.exp(scores.value / 0.8)
    np.testing.assert_allclose(found, weights / weights.sum(), atol=0.015)


def test_a_draw_is_a_function_of_key_group_and_place_and_is_made_once():
    texts = [[charged(UNCHARGED).draw(group, place, shown(0, 0, 0, 0)) for place in range(5)] for group in range(6)]
    assert texts == [[charged(UNCHARGED).draw(group, place, shown(0, 0, 0, 0)) for place in range(5)] for group in range(6)]
    assert len({tuple(text) for text in texts}) > 3
    mechanism = charged(UNCHARGED)
    mechanism.draw(2, 1, shown(0, 1))
    mechanism.draw(2, 1, shown(0, 1))
    with pytest.raises(PrivacyError, match="group 2 has made draw 1 from other scores"):
        mechanism.draw(2, 1, shown(0, 2))


@pytest.mark.parametrize("place", [-1, 5])
def test_no_draw_beyond_the_event_is_made(place):
    with pytest.raises(PrivacyError, match="not covered by an event of 5 draws"):
        DRAWS.draw(0, place, shown(0, 0))


def test_nothing_is_done_that_is_not_charged():
    other = replace(DRAWS, temperature=0.9)
    ones = np.ones(3, dtype=np.int64)
    for mechanism in (UNCHARGED, other):
        for do in (lambda m: m.draw(0, 0, shown(0, 0)), lambda m: m.assign_groups(ones), lambda m: m.choose_records(ones)):
            with pytest.raises(PrivacyError, match="ledger"):
                do(mechanism)


def test_scores_that_a_unit_moves_further_are_refused():
    with pytest.raises(PrivacyError, match="linf_sensitivity"):
        DRAWS.draw(0, 0, BoundedScores(np.zeros(2), 0.3, 1))


def test_a_probe_draws_from_nobodys_scores():
    probe = DRAWS.with_probe_key()
    assert probe.draw(0, 0, BoundedScores(np.zeros(3), 0.2, 0)) in (0, 1, 2)
    with pytest.raises(PrivacyError, match="nothing was charged"):
        probe.draw(0, 1, BoundedScores(np.zeros(3), 0.2, 1))


def test_a_unit_more_changes_nobodys_group():
    open_to = np.array([3, 0, 2, 1, 5] * 40)
    groups = DRAWS.assign_groups(open_to)
    assert ((groups >= 0) == (open_to > 0)).all()
    assert (groups < np.maximum(open_to, 1)).all()
    np.testing.assert_array_equal(DRAWS.assign_groups(np.append(open_to, 4))[:-1], groups)
    records = DRAWS.choose_records(np.full(200, 5))
    assert set(records.tolist()) == {0, 1, 2, 3, 4}
    assert not np.array_equal(records, DRAWS.assign_groups(np.full(200, 5)))


def test_scores_of_a_wrong_shape_are_refused():
    for said, expected in ((torch.zeros(2, 3), 1.0), (torch.zeros(2, 4), 0.0), (torch.zeros(2, 4), float("inf"))):
        with pytest.raises(PrivacyError, match="scores"):
            DRAWS.bound_scores(PUBLIC, said, expected_units=expected)


def test_the_arm_to_compare_with_takes_the_mean_and_no_ledger_takes_it():
    free = NonPrivateDraws(0.8, 5, KEY)
    said = torch.tensor([[0.0, -9.0], [0.0, -3.0]])
    np.testing.assert_array_equal(free.bound_scores(np.zeros(2), said, expected_units=9.0).value, [0.0, -6.0])
    np.testing.assert_array_equal(free.bound_scores(np.array([1.0, 2.0]), said[:0], expected_units=9.0).value, [1.0, 2.0])
    assert free.event == {"type": "non_private"}
    # Its random numbers are not those of the arm with DP: what the one shows says nothing of the other.
    even = BoundedScores(np.zeros(50), 0.2, 1)
    assert [free.draw(i, 0, even) for i in range(9)] != [charged(UNCHARGED).draw(i, 0, even) for i in range(9)]
