"""Units are drawn each on its own with the probability that is accounted for."""

import numpy as np
import pytest
import torch
from scipy import stats

from penname.config import ModelConfig, TrainConfig
from penname.model.adapter import attach_adapter
from penname.privacy.keystream import Keystream
from penname.privacy.mechanism import DpSgd
from penname.privacy.sampling import draw_poisson_units
from penname.train.arms import PrivateArm
from penname.train.layout import Layout
from penname.train.loop import run_step
from penname.train.memory import UnitSummer
from tests.conftest import charged, make_tiny_llama

# A right sampler is rejected once in a million keys; the keys here are fixed, so the outcome is too.
FALSE_ALARM = 1e-6
NUM_UNITS, NUM_STEPS = 300, 200


def draw_matrix(sampling_prob, *, seed=0):
    """(steps, units) of 0 and 1."""
    matrix = np.zeros((NUM_STEPS, NUM_UNITS), dtype=np.int64)
    for step in range(NUM_STEPS):
        matrix[step, draw_poisson_units(Keystream.from_seed(seed), step=step, num_units=NUM_UNITS, sampling_prob=sampling_prob)] = 1
    return matrix


@pytest.mark.parametrize("sampling_prob", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_the_right_probability_is_accepted_and_others_are_rejected(sampling_prob, seed):
    num_drawn = int(draw_matrix(sampling_prob, seed=seed).sum())
    assert stats.binomtest(num_drawn, NUM_STEPS * NUM_UNITS, sampling_prob).pvalue > FALSE_ALARM
    for factor in (2 / 3, 3 / 2):
        assert stats.binomtest(num_drawn, NUM_STEPS * NUM_UNITS, factor * sampling_prob).pvalue < FALSE_ALARM


@pytest.mark.parametrize("axis", [0, 1])
def test_every_unit_and_every_step_has_the_same_probability(axis):
    prob = 0.1
    matrix = draw_matrix(prob)
    num_trials = matrix.shape[axis]
    scores = (matrix.sum(axis) - num_trials * prob) / (num_trials * prob * (1 - prob)) ** 0.5
    law = stats.chi2(len(scores))
    # Both tails: sizes that vary too little are those of batches of a fixed size.
    assert 2 * min(law.cdf(np.sum(scores**2)), law.sf(np.sum(scores**2))) > FALSE_ALARM


@pytest.mark.parametrize("lag", [1, 2, 17])
@pytest.mark.parametrize("axis", [0, 1])
def test_neighbours_are_independent(axis, lag):
    matrix = draw_matrix(0.3) if axis == 0 else draw_matrix(0.3).T
    one, other = matrix[:-lag].ravel(), matrix[lag:].ravel()
    table = np.array([[np.sum((one == i) & (other == j)) for j in (0, 1)] for i in (0, 1)])
    assert stats.chi2_contingency(table).pvalue > FALSE_ALARM


def test_the_test_rejects_a_shuffled_pass_over_the_data():
    generator = np.random.default_rng(0)
    matrix = np.zeros((10, 1000), dtype=np.int64)
    for step, units in enumerate(np.array_split(generator.permutation(1000), 10)):
        matrix[step, units] = 1
    one, other = matrix[:-1].ravel(), matrix[1:].ravel()
    table = np.array([[np.sum((one == i) & (other == j)) for j in (0, 1)] for i in (0, 1)])
    assert stats.chi2_contingency(table).pvalue < FALSE_ALARM


def test_empty_draws_occur_as_often_as_they_must():
    sizes = [len(draw_poisson_units(Keystream.from_seed(9), step=step, num_units=20, sampling_prob=0.1)) for step in range(2000)]
    assert stats.binomtest(sizes.count(0), 2000, 0.9**20).pvalue > FALSE_ALARM


def test_an_empty_draw_takes_a_step_of_pure_noise():
    model = attach_adapter(make_tiny_llama().requires_grad_(False), ModelConfig(lora_rank=2), seed=1)
    mechanism = charged(DpSgd(1.0, 1e-9, 5, 1.0, Keystream.from_seed(1)))
    arm = PrivateArm.build(model, mechanism, engine_name="lora")
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    before = torch.cat([parameter.detach().reshape(-1).clone() for parameter in parameters])
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    row = run_step(model, [[], []], arm, TrainConfig(expected_batch_size=4), optimizer, UnitSummer(model, arm, Layout(None, 2)), step=2)
    after = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    torch.testing.assert_close(before - after, mechanism.release(2, mechanism.empty_sum(arm.num_params)) / 4, rtol=1e-4, atol=1e-6)
    assert (row["num_units"], row["loss"]) == (0, None)
