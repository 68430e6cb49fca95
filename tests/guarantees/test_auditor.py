"""Does the auditor work? On mechanisms whose epsilon is known it must stay below the truth; on broken ones it must find the break.

The mechanisms are made of the privacy core's own parts: its Poisson sampler, clipping, noise, and accountant.
"""

import functools

import numpy as np
import pytest
import torch

from penname.evaluate.privacy.epsilon_lower_bound import bound_epsilon_classical, bound_epsilon_one_run, check_claim, group_promise
from penname.evaluate.privacy.errors import AuditFailureError
from penname.privacy import mechanism as mechanism_module
from penname.privacy.accounting import compute_epsilon
from penname.privacy.clipping import BoundedSum
from penname.privacy.keystream import Keystream
from penname.privacy.mechanism import DpSgd
from penname.privacy.noise import draw_gaussian
from penname.privacy.sampling import draw_poisson_units
from tests.conftest import charged

DELTA = 1e-5
NUM_CANARIES = 400


def audit_dp_sgd(*, noise_multiplier, sampling_prob=0.5, num_steps=4, seed=0, gradient_norm=1.0):
    """One training run with a gradient direction of its own for every canary; returns the bound and the accounted epsilon."""
    mechanism = charged(DpSgd(noise_multiplier, sampling_prob, num_steps, 1.0, Keystream.from_seed(seed)))
    coins = Keystream.from_seed(1000 + seed).draw_uniforms("coins", 0, NUM_CANARIES) < 0.5
    grads = gradient_norm * torch.eye(NUM_CANARIES)[np.flatnonzero(coins)]
    scores = np.zeros(NUM_CANARIES)
    for step in range(num_steps):
        drawn = mechanism.draw_units(step, num_units=len(grads))
        scores += mechanism.release(step, mechanism.sum_units(grads[drawn])).numpy()
    bound = bound_epsilon_one_run(scores, coins, delta=DELTA, rng=np.random.default_rng(seed))
    return bound, account(**mechanism.event)


@functools.cache
def account(**event):
    return compute_epsilon([event], delta=DELTA)


@pytest.mark.parametrize("noise_multiplier", [0.8, 4.0])
def test_dp_sgd_is_never_accused(noise_multiplier):
    bounds = []
    for seed in range(3):
        bound, epsilon = audit_dp_sgd(noise_multiplier=noise_multiplier, seed=seed)
        check_claim([bound], claimed_epsilon=epsilon, delta=DELTA, what="with_dp")
        bounds.append(bound.epsilon)
    assert noise_multiplier > 1 or min(bounds) > 0.5, "an audit that finds nothing proves nothing"


def test_a_gradient_too_long_for_the_clip_norm_finds_no_more():
    bound, epsilon = audit_dp_sgd(noise_multiplier=4.0, gradient_norm=1000.0)
    check_claim([bound], claimed_epsilon=epsilon, delta=DELTA, what="with_dp")


def test_missing_noise_is_found(monkeypatch):
    monkeypatch.setattr(mechanism_module, "draw_gaussian", lambda *args, size, **kwargs: np.zeros(size))
    bound, epsilon = audit_dp_sgd(noise_multiplier=4.0)
    assert epsilon < 2.5
    with pytest.raises(AuditFailureError, match=r"with_dp leaks at least epsilon 2\.\d\d \(one-run bound"):
        check_claim([bound], claimed_epsilon=epsilon, delta=DELTA, what="with_dp")


def test_missing_clipping_is_found(monkeypatch):
    def only_sum(unit_grads, *, l2_clip_norm):
        return BoundedSum(unit_grads.double().sum(dim=0), l2_clip_norm, len(unit_grads), 0)

    monkeypatch.setattr(mechanism_module, "clip_and_sum", only_sum)
    bound, epsilon = audit_dp_sgd(noise_multiplier=4.0, gradient_norm=1000.0)
    with pytest.raises(AuditFailureError):
        check_claim([bound], claimed_epsilon=epsilon, delta=DELTA, what="with_dp")


@pytest.mark.parametrize(("sensitivity", "is_broken"), [(1.0, False), (2.0, True)])
def test_a_doubled_sensitivity_is_found(sensitivity, is_broken):
    """100,000 runs with and without one unit, each a coordinate with noise of its own."""
    num, noise_multiplier = 100_000, 3.73
    epsilon = account(type="gaussian", noise_multiplier=noise_multiplier, l2_sensitivity=1.0)
    noise = draw_gaussian(Keystream.from_seed(3), purpose="audit", index=0, size=2 * num, stddev=noise_multiplier)
    bound = bound_epsilon_classical(sensitivity + noise[:num], noise[num:], delta=DELTA, rng=np.random.default_rng(0))
    assert bound.epsilon > 0.5
    assert (bound.epsilon > epsilon) is is_broken


def draw_noise(seed, shape, stddev):
    return draw_gaussian(Keystream.from_seed(seed), purpose="audit", index=0, size=int(np.prod(shape)), stddev=stddev).reshape(shape)


STEPS, STDDEV, RUNS = 50, 0.8, 20_000
POISSON = {"type": "poisson_sampled_gaussian", "noise_multiplier": STDDEV, "l2_sensitivity": 1.0, "sampling_prob": 1 / STEPS, "num_steps": STEPS}


def test_poisson_sampling_keeps_its_promise_against_whoever_knows_all_others():
    """One unit alone in each run; all runs of a step are drawn by the sampler at once."""
    seen = draw_noise(4, (RUNS, STEPS), STDDEV)
    for step in range(STEPS):
        seen[draw_poisson_units(Keystream.from_seed(5), step=step, num_units=RUNS, sampling_prob=1 / STEPS), step] += 1.0
    unseen = draw_noise(6, (RUNS, STEPS), STDDEV)
    scores = [np.log1p((np.exp((2 * own - 1) / (2 * STDDEV**2)) - 1) / STEPS).sum(axis=1) for own in (seen, unseen)]
    bound = bound_epsilon_classical(*scores, delta=DELTA, rng=np.random.default_rng(0))
    assert 0.3 < bound.epsilon < account(**POISSON)


def test_shuffled_batches_accounted_as_poisson_are_found():
    """One epoch of shuffled batches. All other units pull down by one, so that a batch that the unit is in, or that lacks a unit, stands out.

    Source: Chua et al. (2024), https://arxiv.org/abs/2403.17673: the pair of data sets behind their lower bound.
    """
    places = [(Keystream.from_seed(7).draw_uniforms("batch", world, RUNS) * STEPS).astype(int) for world in (0, 1)]
    with_unit, without = draw_noise(8, (RUNS, STEPS), STDDEV), draw_noise(9, (RUNS, STEPS), STDDEV)
    # Sums less those of a batch full of others: the unit adds 1 where another took away 1; where a unit is missing, only the latter.
    with_unit[np.arange(RUNS), places[0]] += 2.0
    without[np.arange(RUNS), places[1]] += 1.0

    def score(sums):
        likelihoods = [np.exp((shift * sums - shift**2 / 2) / STDDEV**2).sum(axis=1) for shift in (2.0, 1.0)]
        return np.log(likelihoods[0] / likelihoods[1])

    bound = bound_epsilon_classical(score(with_unit), score(without), delta=DELTA, rng=np.random.default_rng(0))
    with pytest.raises(AuditFailureError, match="classical bound"):
        check_claim([bound], claimed_epsilon=account(**POISSON), delta=DELTA, what="with_dp")


@pytest.mark.parametrize("draw", ["laplace", "randomised_response"])
def test_pure_mechanisms_with_an_honest_and_with_twice_the_epsilon(draw):
    def audit(epsilon):
        rng = np.random.default_rng(11)
        coins = rng.random(3000) < 0.5
        truthful = rng.random(3000) < 1 / (1 + np.exp(-epsilon))
        scores = coins * epsilon + rng.laplace(size=3000) if draw == "laplace" else np.where(truthful, coins, ~coins)
        return bound_epsilon_one_run(scores, coins, delta=0.0, rng=rng)

    check_claim([audit(1.0)], claimed_epsilon=1.0, delta=0.0, what="with_dp")
    with pytest.raises(AuditFailureError):
        check_claim([audit(2.0)], claimed_epsilon=1.0, delta=0.0, what="with_dp")


def test_a_secret_of_many_units_has_the_promise_of_the_group_and_no_more():
    rng = np.random.default_rng(12)
    coins = rng.random(3000) < 0.5
    bound = bound_epsilon_one_run(coins * 4 * 0.5 + rng.laplace(size=3000), coins, delta=0.0, rng=rng)
    assert bound.epsilon > 0.5
    epsilon, delta = group_promise(0.5, 0.0, num_units=4)
    check_claim([bound], claimed_epsilon=epsilon, delta=delta, what="with_dp, canaries in four units")
