"""What the accountant says of draws of the exponential mechanism, against divergences that are summed up by hand; it must hold, and half of it must not."""

import itertools
import math

import numpy as np
import pytest

from penname.privacy.accounting import compute_epsilon
from tests.guarantees.test_accounting_oracle import solve_epsilon

ORDERS = (1.5, 2.0, 4.0, 16.0, 64.0)


def probabilities(scores, temperature):
    weights = np.exp((scores - scores.max()) / temperature)
    return weights / weights.sum()


def renyi(p, q, order):
    powers = order * np.log(p) + (1 - order) * np.log(q)
    return float(powers.max() + np.log(np.exp(powers - powers.max()).sum())) / (order - 1)


def list_neighbours(sensitivity, temperature):
    """Pairs of laws over options of which each score moves by the sensitivity, up or down, all ways, or lies between."""
    generator = np.random.default_rng(3)
    bases = [np.zeros(2), np.array([0.0, -4.0]), np.zeros(6), generator.normal(size=6) * 3, np.array([0.0, *[-6.0] * 5])]
    for base in bases:
        moves = [np.array(signs) * sensitivity for signs in itertools.product((-1.0, 0.0, 1.0), repeat=len(base))]
        for move in moves:
            yield probabilities(base, temperature), probabilities(base + move, temperature)


@pytest.mark.parametrize(("temperature", "sensitivity"), [(1.0, 0.1), (0.7, 0.5), (1.3, 2.0)])
def test_no_pair_of_neighbours_is_further_apart_than_is_charged_and_some_are_nearly_so(temperature, sensitivity):
    rho = (sensitivity / temperature) ** 2 / 2
    largest = 0.0
    for p, q in list_neighbours(sensitivity, temperature):
        for order in ORDERS:
            for one, other in ((p, q), (q, p)):
                divergence = renyi(one, other, order)
                assert divergence <= order * rho * (1 + 1e-9)
                largest = max(largest, divergence / (order * rho))
    # Half of the charge would be too little.
    assert largest > 0.5


@pytest.mark.parametrize(("temperature", "sensitivity", "num_draws"), [(1.0, 0.2, 40), (0.9, 0.1, 96)])
def test_epsilon_of_many_draws_covers_the_curve_of_the_worst_pair_and_that_of_half_the_sensitivity_does_not(temperature, sensitivity, num_draws):
    delta = 1e-5
    # Two options, and one unit that always moves one up and the other down.
    gap = 2 * sensitivity / temperature
    p, q = probabilities(np.array([gap / 2, -gap / 2]), 1.0), probabilities(np.zeros(2), 1.0)
    counts = np.arange(num_draws + 1)
    choices = np.array([math.lgamma(num_draws + 1) - math.lgamma(k + 1) - math.lgamma(num_draws - k + 1) for k in counts])
    log_p = choices + counts * math.log(p[0]) + (num_draws - counts) * math.log(p[1])
    losses = counts * math.log(p[0] / q[0]) + (num_draws - counts) * math.log(p[1] / q[1])

    def delta_of(epsilon):
        return float((np.exp(log_p) * np.maximum(0.0, 1 - np.exp(epsilon - losses))).sum())

    exact = solve_epsilon(delta_of, delta)
    event = {"type": "exponential", "temperature": temperature, "linf_sensitivity": sensitivity, "num_draws": num_draws}
    assert exact <= compute_epsilon([event], delta=delta)
    assert exact > compute_epsilon([event | {"linf_sensitivity": sensitivity / 2}], delta=delta)
