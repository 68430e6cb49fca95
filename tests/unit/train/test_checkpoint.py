"""The state between two steps: what is read back is bit for bit what was written."""

import json

import pytest
import torch

from penname.config import ModelConfig
from penname.errors import RunDirError
from penname.model.adapter import adapter_weights, attach_adapter
from penname.privacy.gradients import trainable_parameters
from penname.train.checkpoint import load_checkpoint, read_metric_rows, save_checkpoint
from tests.conftest import make_tiny_llama


def make(*, steps=0, seed=0):
    model = attach_adapter(make_tiny_llama().requires_grad_(False), ModelConfig(lora_rank=2), seed=seed)
    parameters = [parameter for _, parameter in trainable_parameters(model)]
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    for step in range(steps):
        move(optimizer, step)
    return model, optimizer


def move(optimizer, step):
    generator = torch.Generator().manual_seed(step)
    for parameter in optimizer.param_groups[0]["params"]:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()


def equal(first, second):
    first, second = adapter_weights(first), adapter_weights(second)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_going_on_from_a_checkpoint_equals_never_having_stopped(tmp_path):
    path = tmp_path / "deep" / "state.safetensors"
    model, optimizer = make(steps=3)
    save_checkpoint(path, model, optimizer, step=3, inputs_sha256="a")
    resumed, resumed_optimizer = make(seed=5)
    assert not equal(model, resumed)
    assert load_checkpoint(path, resumed, resumed_optimizer, inputs_sha256="a") == 3
    assert equal(model, resumed)
    for step in (3, 4):
        move(optimizer, step)
        move(resumed_optimizer, step)
    assert equal(model, resumed)
    save_checkpoint(tmp_path / "b", model, optimizer, step=5, inputs_sha256="a")
    save_checkpoint(tmp_path / "c", resumed, resumed_optimizer, step=5, inputs_sha256="a")
    assert (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


def test_nothing_there_or_other_inputs_starts_anew_and_touches_nothing(tmp_path):
    model, optimizer = make(steps=2)
    save_checkpoint(tmp_path / "s", model, optimizer, step=2, inputs_sha256="a")
    for path, key in ((tmp_path / "gone", "a"), (tmp_path / "s", "b")):
        fresh, fresh_optimizer = make()
        assert load_checkpoint(path, fresh, fresh_optimizer, inputs_sha256=key) == 0
        assert equal(fresh, make()[0])
        assert not fresh_optimizer.state


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "no_metadata", "other_model"])
def test_a_damaged_file_is_one_line(tmp_path, damage):
    path = tmp_path / "state.safetensors"
    model, optimizer = make(steps=1)
    save_checkpoint(path, model, optimizer, step=1, inputs_sha256="a")
    if damage == "no_metadata":
        from safetensors.torch import save_file

        save_file({"x": torch.zeros(1)}, path)
    elif damage == "other_model":
        from safetensors.torch import save_file

        save_file({"x": torch.zeros(1)}, path, metadata={"penname": json.dumps({"step": 1, "inputs_sha256": "a"})})
    else:
        whole = path.read_bytes()
        path.write_bytes({"cut": whole[:-50], "noise": b"\xff" * len(whole), "empty": b""}[damage])
    with pytest.raises(RunDirError, match=r"state\.safetensors: is damaged; remove it") as caught:
        load_checkpoint(path, model, optimizer, inputs_sha256="a")
    assert "\n" not in str(caught.value)


def test_metric_rows_stop_at_the_checkpoint_and_before_a_cut_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_metric_rows(path, num_steps=3) == []
    path.write_text("".join(json.dumps({"step": step}) + "\n" for step in range(4)) + '{"ste')
    assert [row["step"] for row in read_metric_rows(path, num_steps=3)] == [0, 1, 2]
    assert [row["step"] for row in read_metric_rows(path, num_steps=9)] == [0, 1, 2, 3]
