"""The loop: physical batches change nothing, an empty draw is pure noise, and a crash at any step leaves no trace."""

import dataclasses
import json

import pytest
import torch

from penname.config import ModelConfig, TrainConfig
from penname.model.adapter import adapter_weights, attach_adapter
from penname.model.packing import enable_packing
from penname.model.tokenize import TokenizedRecord
from penname.privacy.gradients import trainable_parameters
from penname.privacy.keystream import Keystream
from penname.privacy.mechanism import DpSgd, NonPrivateSum
from penname.train.arms import NonPrivateArm, PrivateArm
from penname.train.layout import Layout
from penname.train.loop import ArmFiles, run_step, schedule, train_arm
from penname.train.memory import UnitSummer
from tests.conftest import charged, make_tiny_llama

CONFIG = TrainConfig(expected_batch_size=4, num_steps=6, seed=3)
PACKED, ALONE = Layout(64, 2), Layout(None, 2)


def make_units(num=12, *, max_records=3):
    generator = torch.Generator().manual_seed(0)

    def draw(low, high):
        return int(torch.randint(low, high, (1,), generator=generator))

    units = []
    for _ in range(num):
        lengths = [draw(6, 20) for _ in range(draw(1, max_records + 1))]
        units.append([TokenizedRecord(torch.randint(3, 259, (length,), generator=generator).tolist(), 3) for length in lengths])
    return units


UNITS = make_units()


def make_arm(kind="with_dp", *, sampling_prob=0.4, noise_multiplier=0.7, num_steps=6, dropout=0.0):
    base = make_tiny_llama().requires_grad_(False)
    assert enable_packing(base, max_tokens=64)
    model = attach_adapter(base, ModelConfig(lora_rank=2, lora_dropout=dropout), seed=1)
    keystream = Keystream.from_seed(5)
    if kind == "with_dp":
        return model, PrivateArm.build(model, charged(DpSgd(noise_multiplier, sampling_prob, num_steps, 1.0, keystream)), engine_name="lora")
    return model, NonPrivateArm.build(model, NonPrivateSum(sampling_prob, num_steps, keystream))


def train(model, arm, folder, *, config=CONFIG, units=UNITS, log=lambda row: None, key="k"):
    files = ArmFiles(folder / "checkpoint" / "state.safetensors", folder / "metrics.jsonl")
    folder.mkdir(exist_ok=True)
    train_arm(model, units, arm, config, files, layout=PACKED, label="train", learning_rate=1e-2, inputs_sha256=key, log=log)
    rows = [json.loads(line) for line in files.metrics.read_text().splitlines()]
    return adapter_weights(model), [{name: value for name, value in row.items() if name != "secs"} for row in rows]


def assert_equal(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


# --- physical batches -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["with_dp", "no_dp"])
def test_the_cut_into_physical_batches_changes_nothing_but_rounding(tmp_path, kind):
    results = []
    for layout in (Layout(8, 2), Layout(2000, 2), ALONE):
        model, arm = make_arm(kind)
        optimizer = torch.optim.SGD([parameter for _, parameter in trainable_parameters(model)], lr=1.0)
        row = run_step(model, UNITS, arm, CONFIG, optimizer, UnitSummer(model, arm, layout), step=0)
        assert row["num_units"] > 1
        results.append(adapter_weights(model))
    for name in results[0]:
        torch.testing.assert_close(results[0][name], results[1][name], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(results[0][name], results[2][name], rtol=1e-4, atol=1e-6)


# --- a step -----------------------------------------------------------------------------------------------------------


def test_an_empty_draw_takes_a_step_of_pure_noise():
    model, arm = make_arm(sampling_prob=1e-9)
    before = adapter_weights(model)
    optimizer = torch.optim.SGD([parameter for _, parameter in trainable_parameters(model)], lr=1.0)
    row = run_step(model, UNITS, arm, CONFIG, optimizer, UnitSummer(model, arm, PACKED), step=2)
    assert (row["num_units"], row["num_records"], row["loss"], row["clipped_frac"], row["sum_norm"]) == (0, 0, None, None, 0.0)
    noise = arm.mechanism.release(2, arm.mechanism.empty_sum(arm.num_params))
    after = adapter_weights(model)
    moved = torch.cat([(before[name] - after[name]).reshape(-1) for name in before])
    torch.testing.assert_close(moved, noise / CONFIG.expected_batch_size, rtol=1e-4, atol=1e-6)
    assert json.loads(json.dumps(row, allow_nan=False)) == row


def test_the_divisor_is_the_expected_size_and_not_the_drawn_one():
    moved = []
    for size in (4, 8):
        model, arm = make_arm("no_dp")
        before = adapter_weights(model)
        optimizer = torch.optim.SGD([parameter for _, parameter in trainable_parameters(model)], lr=1.0)
        run_step(model, UNITS, arm, CONFIG.model_copy(update={"expected_batch_size": size}), optimizer, UnitSummer(model, arm, PACKED), step=0)
        after = adapter_weights(model)
        moved.append(torch.cat([(before[name] - after[name]).reshape(-1) for name in before]))
    torch.testing.assert_close(moved[0], 2 * moved[1], rtol=1e-3, atol=1e-6)
    assert float(moved[0].norm()) > 0


def test_a_unit_without_a_record_that_fits_stays_in_the_draw_and_adds_nothing():
    model, arm = make_arm(sampling_prob=1.0)
    optimizer = torch.optim.SGD([parameter for _, parameter in trainable_parameters(model)], lr=1.0)
    row = run_step(model, [[], *UNITS[:3], []], arm, CONFIG, optimizer, UnitSummer(model, arm, PACKED), step=0)
    assert row["num_units"] == 3


def test_the_sum_of_a_private_step_is_bounded_by_its_units():
    model, arm = make_arm(sampling_prob=1.0)
    optimizer = torch.optim.SGD([parameter for _, parameter in trainable_parameters(model)], lr=1.0)
    row = run_step(model, UNITS, arm, CONFIG, optimizer, UnitSummer(model, arm, PACKED), step=0)
    assert row["num_units"] == len(UNITS)
    assert row["sum_norm"] <= len(UNITS)
    assert 0 <= row["clipped_frac"] <= 1


# --- a crash ----------------------------------------------------------------------------------------------------------


class Killed(Exception):
    pass


@pytest.mark.parametrize("kind", ["with_dp", "no_dp"])
@pytest.mark.parametrize("every_secs", [0.0, 1e9], ids=["checkpoint each step", "no checkpoint"])
def test_a_run_that_is_killed_twice_ends_with_the_same_bits(tmp_path, kind, every_secs):
    config = CONFIG.model_copy(update={"checkpoint_every_secs": every_secs})
    model, arm = make_arm(kind, dropout=0.1)
    expected, expected_rows = train(model, arm, tmp_path / "whole")
    assert [row["step"] for row in expected_rows] == list(range(6))
    for crash_step in (1, 4):

        def crash(row, crash_step=crash_step):
            if row["step"] == crash_step:
                raise Killed

        model, arm = make_arm(kind, dropout=0.1)
        with pytest.raises(Killed):
            train(model, arm, tmp_path / "cut", config=config, log=crash)
    seen = []
    model, arm = make_arm(kind, dropout=0.1)
    weights, rows = train(model, arm, tmp_path / "cut", config=config, log=lambda row: seen.append(row["step"]))
    assert_equal(weights, expected)
    assert rows == expected_rows
    assert seen == ([4, 5] if every_secs == 0.0 else list(range(6)))


def test_a_finished_arm_is_not_trained_again(tmp_path):
    model, arm = make_arm()
    expected, rows = train(model, arm, tmp_path / "a")
    model, arm = make_arm()
    weights, again = train(model, arm, tmp_path / "a", log=lambda row: pytest.fail("a step was taken"))
    assert_equal(weights, expected)
    assert rows == again


def test_other_inputs_start_from_the_beginning(tmp_path):
    model, arm = make_arm()
    train(model, arm, tmp_path / "a")
    seen = []
    model, arm = make_arm()
    train(model, arm, tmp_path / "a", log=lambda row: seen.append(row["step"]), key="other")
    assert seen == list(range(6))


def test_the_private_arm_sees_no_step_beyond_its_event(tmp_path):
    model, arm = make_arm(num_steps=2)
    _, rows = train(model, dataclasses.replace(arm), tmp_path / "a")
    assert [row["step"] for row in rows] == [0, 1]


# --- the learning rate ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_steps", [1, 2, 9, 10, 100, 1000])
def test_the_schedule_warms_up_then_falls_and_never_stops(num_steps):
    values = [schedule(step, num_steps) for step in range(num_steps)]
    warmup = max(1, round(num_steps / 10))
    assert all(0 < value <= 1 for value in values)
    assert max(values) == values[warmup - 1] == 1.0
    assert values[:warmup] == sorted(values[:warmup])
    assert values[warmup - 1 :] == sorted(values[warmup - 1 :], reverse=True)
    constant = [schedule(step, num_steps, falls=False) for step in range(num_steps)]
    assert constant[:warmup] == values[:warmup]
    assert set(constant[warmup:]) <= {1.0}


# --- the average ------------------------------------------------------------------------------------------------------


def test_the_adapter_is_the_mean_of_the_last_weights(tmp_path):
    config = CONFIG.model_copy(update={"average_last_frac": 0.5})
    model, arm = make_arm()
    after: list[dict[str, torch.Tensor]] = []
    averaged, rows = train(model, arm, tmp_path / "a", config=config, log=lambda row: after.append(adapter_weights(model)))
    assert len(rows) == len(after) == 6
    for name, mean in averaged.items():
        torch.testing.assert_close(mean, torch.stack([weights[name] for weights in after[3:]]).mean(0))
    last, _ = train(*make_arm(), tmp_path / "b")
    assert_equal(last, after[-1])


def test_a_killed_run_has_the_same_average(tmp_path):
    config = CONFIG.model_copy(update={"average_last_frac": 0.7, "checkpoint_every_secs": 0.0})
    whole, _ = train(*make_arm(), tmp_path / "whole", config=config)

    class Killed(Exception):
        pass

    def kill(step):
        def log(row):
            if row["step"] == step:
                raise Killed

        return log

    for step in (2, 4):
        with pytest.raises(Killed):
            train(*make_arm(), tmp_path / "cut", config=config, log=kill(step))
    again, _ = train(*make_arm(), tmp_path / "cut", config=config)
    assert_equal(again, whole)
    # A run that was killed between its last step and its adapter.
    assert_equal(train(*make_arm(), tmp_path / "cut", config=config)[0], whole)
