import pytest

from penname.privacy.accounting import compute_epsilon
from penname.privacy.budget import Budget, check_delta
from penname.privacy.errors import PrivacyError
from penname.privacy.keystream import Keystream
from penname.privacy.ledger import Ledger, Promise

KEY = Keystream.from_seed(51)
PROMISE = Promise(8.0, 1e-5, "user", "ADD_OR_REMOVE_ONE", "seed")


@pytest.fixture(scope="module")
def planned():
    budget = Budget.plan(PROMISE, marginals_frac=0.1, max_records_per_unit=4, keystream=KEY)
    training = budget.plan_training(num_units=1000, expected_batch_size=64, num_steps=12, l2_clip_norm=1.0, keystream=KEY)
    return budget, training


def test_the_shares_use_the_promise_up_and_no_more(planned):
    budget, training = planned
    events = [budget.unit_count.event, training.event, budget.histogram.event]
    assert 0.99 * 8.0 < compute_epsilon(events, delta=1e-5) <= 8.0
    assert compute_epsilon([budget.unit_count.event, budget.histogram.event], delta=1e-5) <= 0.8


def test_the_plan_fits_the_ledger_in_the_order_of_a_run(tmp_path, planned):
    budget, training = planned
    ledger = Ledger.open(tmp_path / "ledger.jsonl", PROMISE)
    for name, event in (("count_units", budget.unit_count.event), ("train/with_dp", training.event), ("histogram", budget.histogram.event)):
        ledger.spend(name, event, keystream=KEY, inputs_sha256="00")
    assert ledger.epsilon_spent() <= 8.0


def test_the_marginals_are_planned_the_same_by_every_stage(planned):
    again = Budget.plan(PROMISE, marginals_frac=0.1, max_records_per_unit=4, keystream=KEY)
    assert again == planned[0]


def test_the_sampling_probability_is_at_most_one(planned):
    training = planned[0].plan_training(num_units=10, expected_batch_size=64, num_steps=1, l2_clip_norm=1.0, keystream=KEY)
    assert training.sampling_prob == 1.0
    assert planned[1].sampling_prob == 0.064


def test_the_count_that_is_released_has_noise(planned):
    assert planned[0].release_unit_count(num_units=1000) == planned[0].release_unit_count(num_units=1000) != 1000


@pytest.mark.parametrize(
    ("delta", "num_units", "is_allowed"), [(1e-5, 1000, True), (1e-5, 35_000, True), (1e-5, 36_000, False), (0.5, 1, True), (1e-3, 1000, False)]
)
def test_delta_is_at_most_n_to_the_minus_1_1(delta, num_units, is_allowed):
    if is_allowed:
        check_delta(delta, num_units=num_units)
    else:
        with pytest.raises(PrivacyError, match=r"privacy\.delta.*at most N\^-1\.1"):
            check_delta(delta, num_units=num_units)
