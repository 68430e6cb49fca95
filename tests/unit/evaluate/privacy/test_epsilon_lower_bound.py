"""The bounds' formulas by hand and by brute force; their coverage; the verdict. Whether they see through mechanisms: tests/guarantees/test_auditor.py."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from penname.evaluate.privacy.epsilon_lower_bound import (
    EpsilonBound,
    bound_epsilon_classical,
    bound_epsilon_one_run,
    canaries_needed,
    check_claim,
    epsilon_from_rates,
    group_promise,
    one_run_epsilon,
    one_run_p_values,
)
from penname.evaluate.privacy.errors import AuditFailureError, LeftOutError


@pytest.mark.parametrize(("correct", "guesses", "num", "epsilon", "delta"), [(8, 10, 20, 0.5, 0.0), (30, 40, 100, 0.7, 1e-3), (40, 40, 40, 2.0, 1e-4)])
def test_p_value_against_the_loop_of_the_paper(correct, guesses, num, epsilon, delta):
    accuracy = 1 / (1 + math.exp(-epsilon))
    tail = sum(binom.pmf(k, guesses, accuracy) for k in range(correct, guesses + 1))
    alpha = max(sum(binom.pmf(k, guesses, accuracy) for k in range(correct - i, correct) if k >= 0) / i for i in range(1, num + 1))
    expected = min(1.0, tail + 2 * num * delta * alpha)
    assert one_run_p_values(correct, guesses, num, epsilon=np.array([epsilon]), delta=delta)[0] == pytest.approx(expected)


def test_p_values_grow_with_epsilon_where_a_bound_is_sought():
    values = one_run_p_values(170, 200, 500, epsilon=np.linspace(0, 1.7, 60), delta=1e-5)
    assert (np.diff(values) >= 0).all()


def test_all_right_without_delta_has_a_closed_form():
    accuracy = 0.05 ** (1 / 100)
    assert one_run_epsilon(100, 100, 100, delta=0.0) == pytest.approx(math.log(accuracy / (1 - accuracy)), abs=1e-3)
    assert one_run_epsilon(50, 100, 100, delta=0.0) == 0.0
    assert one_run_epsilon(100, 100, 100, delta=0.05) < one_run_epsilon(100, 100, 100, delta=0.0)


@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 0.0), (1.0, 1e-5), (4.0, 1e-5)])
def test_canaries_needed_is_the_edge(epsilon, delta):
    num = canaries_needed(epsilon, delta=delta)
    assert one_run_epsilon(num, num, num, delta=delta) >= epsilon - 2e-4
    assert one_run_p_values(num, num, num, epsilon=np.array([epsilon]), delta=delta)[0] <= 0.05
    assert one_run_p_values(num - 1, num - 1, num - 1, epsilon=np.array([epsilon]), delta=delta)[0] > 0.05


def test_no_number_of_canaries_sees_past_a_large_delta():
    with pytest.raises(LeftOutError, match=r"not even 262,144 canaries can refute epsilon 8 at delta 0\.5"):
        canaries_needed(8.0, delta=0.5)


@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 0.0), (1.0, 0.0), (1.0, 1e-4), (3.0, 1e-5)])
def test_the_one_run_bound_covers_over_1000_simulations(epsilon, delta):
    """Randomised response is the mechanism of which an attacker guesses most: right with probability e^eps / (1 + e^eps), and surely with delta."""
    rng, num = np.random.default_rng(7), 200
    accuracy = delta + (1 - delta) / (1 + math.exp(-epsilon))
    counts, times = np.unique(rng.binomial(num, accuracy, size=1000), return_counts=True)
    bounds = np.array([one_run_epsilon(int(correct), num, num, delta=delta) for correct in counts])
    assert times[bounds > epsilon].sum() <= 65  # 50 are expected at most; 65 are two standard deviations more
    assert times @ bounds / 1000 > 0.6 * epsilon


@pytest.mark.parametrize("epsilon", [0.0, 1.0])
def test_the_bound_with_abstentions_covers_over_300_simulations(epsilon):
    """The whole procedure on a Laplace mechanism, with the choice among shares of guesses that it pays for."""
    rng, num, above, found = np.random.default_rng(8), 128, 0, []
    for _ in range(300):
        coins = rng.random(num) < 0.5
        scores = coins * epsilon + rng.laplace(size=num)
        bound = bound_epsilon_one_run(scores, coins, delta=0.0, rng=rng)
        above += bound.epsilon > epsilon
        found.append(bound.epsilon)
    assert above <= 23  # 15 are expected at most
    assert epsilon == 0 or np.mean(found) > 0.15


@pytest.mark.parametrize("epsilon", [0.0, 1.0])
def test_the_classical_bound_covers_over_1000_simulations(epsilon):
    rng, accuracy = np.random.default_rng(9), 1 / (1 + math.exp(-epsilon))
    hits, alarms = rng.binomial(400, accuracy, size=1000), rng.binomial(400, 1 - accuracy, size=1000)
    bounds = epsilon_from_rates(hits, 400, alarms, 400, delta=0.0)
    assert np.sum(bounds > epsilon) <= 65
    assert bounds.mean() > 0.6 * epsilon


def test_rates_by_hand():
    # Everybody found, nobody wrongly: both rates at their worst of 97.5 %.
    worst = 0.025 ** (1 / 100)
    assert float(epsilon_from_rates(100, 100, 0, 100, delta=0.0)) == pytest.approx(math.log(worst / (1 - worst)))
    assert float(epsilon_from_rates(100, 100, 0, 100, delta=1.0)) == 0.0
    assert float(epsilon_from_rates(0, 100, 100, 100, delta=0.0)) == 0.0
    # An attack that finds nobody for sure but clears some for sure is as telling.
    assert float(epsilon_from_rates(1000, 1000, 700, 1000, delta=0.0)) > 3


def test_the_order_of_canaries_says_nothing():
    coins = np.arange(200) < 100  # as a manifest might list them
    bounds = [bound_epsilon_one_run(np.zeros(200), coins, delta=0.0, rng=np.random.default_rng(seed)).epsilon for seed in range(20)]
    assert np.mean(bounds) < 0.1


def test_bounds_of_a_perfect_attack_and_their_ceilings():
    rng = np.random.default_rng(10)
    coins = rng.random(400) < 0.5
    one_run = bound_epsilon_one_run(coins * 9.0 + rng.random(400), coins, delta=1e-5, rng=rng)
    assert one_run.epsilon > 3
    assert one_run.epsilon <= one_run.max_epsilon
    assert one_run.num_correct >= 0.95 * one_run.num_guesses  # the upper half is guessed in, and the coins do not fall evenly
    classical = bound_epsilon_classical(9 + rng.random(200), rng.random(200), delta=1e-5, rng=rng)
    assert classical.epsilon == pytest.approx(classical.max_epsilon)
    assert classical.epsilon > 3


def test_too_few_canaries_are_told_how_many_are_needed():
    rng = np.random.default_rng(0)
    with pytest.raises(LeftOutError, match="4 canaries; one run needs 6 or more"):
        bound_epsilon_one_run(np.arange(4.0), np.ones(4, dtype=bool), delta=0.0, rng=rng)
    with pytest.raises(LeftOutError, match="3 members and 9 non-members; the classical bound needs four"):
        bound_epsilon_classical(np.arange(3.0), np.arange(9.0), delta=0.0, rng=rng)
    with pytest.raises(LeftOutError, match="not finite"):
        bound_epsilon_one_run(np.full(50, np.nan), np.ones(50, dtype=bool), delta=0.0, rng=rng)


def test_a_group_has_the_promise_of_all_its_units():
    epsilon, delta = group_promise(0.5, 1e-6, num_units=4)
    assert epsilon == 2.0
    assert delta == pytest.approx(1e-6 * sum(math.exp(0.5 * i) for i in range(4)))
    assert group_promise(8.0, 1e-5, num_units=64) == (512.0, 1.0)
    assert group_promise(3.0, 1e-5, num_units=1) == (3.0, 1e-5)


def make_bound(**values):
    fields = {"method": "one_run", "epsilon": 2.0, "delta": 1e-5, "confidence": 0.95, "num_canaries": 512, "num_guesses": 128, "num_correct": 120}
    return EpsilonBound(**{**fields, "max_epsilon": 4.0, **values})


def test_a_bound_above_the_claim_fails_the_audit_loudly():
    check_claim([make_bound()], claimed_epsilon=2.0, delta=1e-5, what="with_dp")
    message = r"with_dp leaks at least epsilon 2\.00 \(one-run bound, 95% confidence, 512 canaries\), more than the 1\.90 .* release nothing"
    with pytest.raises(AuditFailureError, match=message):
        check_claim([make_bound(epsilon=1.0), make_bound()], claimed_epsilon=1.9, delta=1e-5, what="with_dp")


def test_a_bound_at_a_smaller_delta_cannot_be_compared():
    with pytest.raises(ValueError, match="says nothing about a claim at delta 1e-05"):
        check_claim([make_bound(delta=0.0)], claimed_epsilon=1.0, delta=1e-5, what="with_dp")


def test_the_numbers_of_canaries_in_the_docs():
    assert [canaries_needed(epsilon, delta=1e-5) for epsilon in (0.0, 1.0, 4.0, 8.0)] == [5, 10, 166, 12_977]


def test_bounds_that_are_compared_with_a_claim_together_pay_for_each_other():
    """With num_bounds, each of them errs so seldom that all of them together err in 5 of 100 runs."""
    is_in = np.arange(200) % 2 == 0
    scores = is_in + np.random.default_rng(0).normal(0, 0.8, 200)
    alone, of_six = (bound_epsilon_one_run(scores, is_in, delta=1e-5, rng=np.random.default_rng(1), num_bounds=num) for num in (1, 6))
    assert 0 < of_six.epsilon < alone.epsilon
    assert of_six.max_epsilon < alone.max_epsilon
    assert of_six.epsilon == pytest.approx(one_run_epsilon(of_six.num_correct, of_six.num_guesses, 200, delta=1e-5, error_prob=0.05 / 18))
    with pytest.raises(LeftOutError, match="8 canaries; one run needs 9 or more"):
        bound_epsilon_one_run(scores[:8], is_in[:8], delta=1e-5, rng=np.random.default_rng(1), num_bounds=6)
