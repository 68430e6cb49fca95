import math
from dataclasses import replace

import pytest

from penname.privacy.accounting import compute_epsilon_in_two_parts
from penname.privacy.book import Book, DataSetLedger
from penname.privacy.budget import Budget, check_delta
from penname.privacy.errors import BudgetExceededError, PrivacyError
from penname.privacy.keystream import Keystream
from penname.privacy.ledger import Ledger, Promise, Scope
from penname.privacy.marginals import release_unit_count
from tests.conftest import charged

KEY, OTHER_KEY = Keystream.from_seed(51), Keystream.from_seed(52)
# Small, so that the noise is much and the accountant's grid small.
TARGET_EPSILON = 0.5
PROMISE = Promise(TARGET_EPSILON, 1e-5, "user", "ADD_OR_REMOVE_ONE", "seed")


@pytest.fixture(scope="module")
def planned():
    budget = Budget.plan(PROMISE, marginals_frac=0.1, max_records_per_unit=4, keystream=KEY)
    training = budget.plan_training(num_units=1000, expected_batch_size=64, num_steps=12, l2_clip_norm=1.0, keystream=KEY)
    return budget, training


def test_the_shares_use_the_promise_up_and_no_more(planned):
    budget, training = planned
    marginals = [budget.histogram.event]
    assert 0.98 * TARGET_EPSILON < compute_epsilon_in_two_parts([budget.unit_count.event], [training.event, *marginals], delta=1e-5) <= TARGET_EPSILON
    assert compute_epsilon_in_two_parts([budget.unit_count.event], marginals, delta=1e-5) <= 0.1 * TARGET_EPSILON


def test_the_plan_fits_the_ledger_in_the_order_of_a_run(tmp_path, planned):
    budget, training = planned
    ledger = Ledger.open(tmp_path / "ledger.jsonl", PROMISE)
    for name, mechanism in (("count_units", budget.unit_count), ("train/with_dp", training), ("histogram", budget.histogram)):
        mechanism.charge(ledger, name, inputs_sha256="00")
    assert ledger.epsilon_spent() <= TARGET_EPSILON


def test_the_marginals_are_planned_the_same_by_every_stage(planned):
    again = Budget.plan(PROMISE, marginals_frac=0.1, max_records_per_unit=4, keystream=KEY)
    assert again == planned[0]


def test_the_sampling_probability_is_at_most_one(planned):
    training = planned[0].plan_training(num_units=10, expected_batch_size=64, num_steps=1, l2_clip_norm=1.0, keystream=KEY)
    assert training.sampling_prob == 1.0
    assert planned[1].sampling_prob == 0.064


def test_the_count_that_is_released_has_noise(planned):
    release = charged(planned[0].unit_count)
    assert release_unit_count(release, num_units=1000) == release_unit_count(release, num_units=1000) != 1000


@pytest.mark.parametrize(
    ("delta", "num_units", "is_allowed"),
    [(1e-5, 1000, True), (1e-5, 35_000, True), (1e-5, 36_000, False), (0.5, 1, True), (1e-3, 1000, False), (math.nan, 1000, False)],
)
def test_delta_is_at_most_n_to_the_minus_1_1(delta, num_units, is_allowed):
    if is_allowed:
        check_delta(delta, num_units=num_units)
    else:
        with pytest.raises(PrivacyError, match=r"privacy\.delta.*at most N\^-1\.1"):
            check_delta(delta, num_units=num_units)


def test_without_a_unit_nothing_is_promised():
    with pytest.raises(PrivacyError, match=r"privacy\.delta: there is no unit"):
        check_delta(1e-5, num_units=0)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        *(({"target_epsilon": value}, "target_epsilon") for value in (0, -1.0, math.nan, math.inf)),
        *(({"delta": value}, "delta") for value in (0, -1e-5, 1, 2.0, math.nan, 1e-300)),
    ],
)
def test_a_promise_that_is_none_is_named(change, name):
    with pytest.raises(PrivacyError, match=f"^{name}: must be"):
        Budget.plan(replace(PROMISE, **change), marginals_frac=0.1, max_records_per_unit=4, keystream=KEY)


def test_a_budget_that_no_noise_can_keep_is_named():
    with pytest.raises(PrivacyError, match=r"^target_epsilon: .* too small to reach with any noise"):
        Budget.plan(replace(PROMISE, target_epsilon=1e-6), marginals_frac=0.01, max_records_per_unit=4, keystream=KEY)


def open_book(folder, *, run="own", ledger_epsilon=TARGET_EPSILON):
    shared = DataSetLedger.open(folder / "shared.jsonl", PROMISE, target_epsilon=ledger_epsilon, data_sha256="d")
    return Book(Ledger.open(folder / f"{run}.jsonl", PROMISE, Scope(data_set_ledger=shared.heading_sha256)), shared)


def charge_all(book, planned, keystream):
    budget, training = planned
    for name, mechanism in (("count_units", budget.unit_count), ("train/with_dp", training), ("histogram/rating_category", budget.histogram)):
        replace(mechanism, keystream=keystream).charge(book, name, inputs_sha256="00")


@pytest.mark.parametrize(("ledger_epsilon", "has_room"), [(0.49, False), (0.5, True)])
def test_a_run_that_its_data_set_has_no_room_for_charges_nothing(tmp_path, planned, ledger_epsilon, has_room):
    book = open_book(tmp_path, ledger_epsilon=ledger_epsilon)
    before = book.data_set.path.read_bytes()
    if has_room:
        planned[0].check_room(book, num_steps=12)
    else:
        with pytest.raises(BudgetExceededError, match=r"privacy\.ledger: .* no room for this run"):
            planned[0].check_room(book, num_steps=12)
    assert book.data_set.path.read_bytes() == before


def test_a_second_run_like_the_first_is_asked_for_what_it_really_spends(tmp_path, planned):
    # Two runs spend 0.679; a stand-in that is not sampled would ask for 0.705.
    for ledger_epsilon, has_room in ((0.675, False), (0.685, True)):
        folder = tmp_path / str(ledger_epsilon)
        charge_all(open_book(folder, ledger_epsilon=ledger_epsilon), planned, OTHER_KEY)
        second = open_book(folder, run="second", ledger_epsilon=ledger_epsilon)
        if has_room:
            planned[0].check_room(second, num_steps=12)
            charge_all(second, planned, KEY)
        else:
            with pytest.raises(BudgetExceededError):
                planned[0].check_room(second, num_steps=12)


def test_a_run_that_has_begun_is_not_asked_for_room_again(tmp_path, planned):
    book = open_book(tmp_path)
    planned[0].unit_count.charge(book, "count_units", inputs_sha256="00")
    planned[0].check_room(book, num_steps=12)
    charge_all(book, planned, KEY)


def test_what_follows_the_count_is_asked_for_together_and_once(tmp_path, planned):
    # Count and training alone spend 0.4975 of 0.5: there is no room for the histogram, so the training is not charged for nothing.
    budget, training = planned
    book = open_book(tmp_path, ledger_epsilon=0.498)
    budget.unit_count.charge(book, "count_units", inputs_sha256="00")
    before = book.data_set.path.read_bytes()
    with pytest.raises(BudgetExceededError, match=r"privacy\.ledger"):
        budget.check_room_for_rest(book, training)
    assert book.data_set.path.read_bytes() == before
    training.charge(book, "train/with_dp", inputs_sha256="00")
    budget.check_room_for_rest(book, training)


def test_draws_use_the_promise_up_and_no_more_and_depend_on_no_count(planned, tmp_path):
    budget = planned[0]
    draws = budget.plan_draws(temperature=0.9, num_draws=48, keystream=KEY)
    spent = compute_epsilon_in_two_parts([budget.unit_count.event], [draws.event, budget.histogram.event], delta=1e-5)
    assert 0.98 * TARGET_EPSILON < spent <= TARGET_EPSILON
    ledger = Ledger.open(tmp_path / "ledger.jsonl", PROMISE)
    for name, mechanism in (("count_units", budget.unit_count), ("train/with_dp", draws), ("histogram", budget.histogram)):
        mechanism.charge(ledger, name, inputs_sha256="00")
    assert ledger.epsilon_spent() <= TARGET_EPSILON


def test_a_data_set_without_room_for_draws_refuses_before_the_count(planned, tmp_path):
    budget = planned[0]
    shared = DataSetLedger.open(tmp_path / "shared.jsonl", PROMISE, target_epsilon=0.6, data_sha256="aa")
    draws = budget.plan_draws(temperature=0.9, num_draws=48, keystream=KEY)
    first = Book(Ledger.open(tmp_path / "first.jsonl", PROMISE, Scope(data_set_ledger=shared.heading_sha256)), shared)
    budget.check_room_for(first, draws)
    for name, mechanism in (("count_units", budget.unit_count), ("train/with_dp", draws), ("histogram/rating_category", budget.histogram)):
        mechanism.charge(first, name, inputs_sha256="00")
    # Its own room is not asked for twice.
    budget.check_room_for(first, draws)
    other = Budget.plan(PROMISE, marginals_frac=0.1, max_records_per_unit=4, keystream=OTHER_KEY)
    second = Book(Ledger.open(tmp_path / "second.jsonl", PROMISE, Scope(data_set_ledger=shared.heading_sha256)), shared)
    with pytest.raises(BudgetExceededError, match="no room"):
        other.check_room_for(second, other.plan_draws(temperature=0.9, num_draws=48, keystream=OTHER_KEY))
    # A run that trains looks for the sampling probability of runs before it, and draws have none.
    with pytest.raises(BudgetExceededError, match="no room"):
        other.check_room(second, num_steps=4)
