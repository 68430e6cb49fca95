"""The noise beside a gradient, and what a plan says where it is too much."""

import json
import math
from pathlib import Path

import pytest

from penname.plan.signal import HALF_LOST, describe_signal, noise_length
from penname.privacy.keystream import Keystream
from penname.privacy.mechanism import DpSgd

TRIALS = Path(__file__).resolve().parents[3] / "benchmarks" / "results" / "tuning.json"


def make_mechanism(noise_multiplier: float, *, num_steps: int = 25) -> DpSgd:
    return DpSgd(noise_multiplier, 0.1, num_steps, 0.1, Keystream.from_seed(0))


def test_the_length_is_that_of_the_noise_in_the_mean_of_all_steps():
    import torch

    mechanism, num_weights, batch = make_mechanism(3.0), 40_000, 20
    noise = torch.randn(mechanism.num_steps, num_weights, generator=torch.Generator().manual_seed(1)) * mechanism.noise_multiplier * mechanism.l2_clip_norm
    length = float((noise / batch).mean(0).norm()) / mechanism.l2_clip_norm
    assert noise_length(mechanism, num_weights=num_weights, expected_batch_size=batch) == pytest.approx(length, rel=0.02)


def plan_like_gaussians(batch: int) -> DpSgd:
    """As where nothing is gained by drawing: the same noise for every batch."""
    return make_mechanism(1.0, num_steps=1)


# At batch 100 twice the length at which half is lost.
NUM_WEIGHTS = round((2 * HALF_LOST * 100) ** 2)


def test_a_batch_that_is_too_small_gets_one_that_is_enough():
    lines = describe_signal(plan_like_gaussians, num_weights=NUM_WEIGHTS, expected_batch_size=60, num_units=1_000)
    assert lines[1].startswith("SMALL BATCH")
    assert "train.expected_batch_size=240 " in lines[1]
    assert len(describe_signal(plan_like_gaussians, num_weights=NUM_WEIGHTS, expected_batch_size=240, num_units=1_000)) == 1


def test_too_few_units_are_called_too_few_and_enough_are_not():
    lines = describe_signal(plan_like_gaussians, num_weights=NUM_WEIGHTS, expected_batch_size=40, num_units=100)
    assert lines[1].startswith("TOO SMALL")
    assert "about 200 units" in lines[1] or "about 210 units" in lines[1]
    assert "TOO SMALL" not in "".join(describe_signal(plan_like_gaussians, num_weights=NUM_WEIGHTS, expected_batch_size=40, num_units=210))


def test_a_batch_beyond_the_data_set_hides_no_noise():
    beyond, all_units = (describe_signal(plan_like_gaussians, num_weights=NUM_WEIGHTS, expected_batch_size=batch, num_units=100) for batch in (9_000, 100))
    assert beyond == all_units
    assert beyond[1].startswith("TOO SMALL")


def test_half_is_lost_where_the_trials_lose_it():
    results = json.loads(TRIALS.read_text(encoding="utf-8"))["results"]
    rows = [entry["result"] for name, entry in results.items() if name.startswith(("base/", "units/"))]
    learned = sorted((row["noise_over_clip_norm"], row["nats_before"] - row["nats"]) for row in rows)
    most = max(gain for _, gain in learned)
    below = max((length, gain) for length, gain in learned if gain >= most / 2)
    above = min((length, gain) for length, gain in learned if length > below[0])
    # Between the two trials, by the logarithm of the length.
    part = (below[1] - most / 2) / (below[1] - above[1])
    crossing = math.exp(math.log(below[0]) + part * (math.log(above[0]) - math.log(below[0])))
    assert pytest.approx(crossing, rel=0.1) == HALF_LOST
