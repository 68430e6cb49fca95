"""A few seconds of the training pass, as `penname train` runs it, on made-up records of the run's lengths."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from penname.config import Config
from penname.model.adapter import save_adapter
from penname.model.base import load_base_model
from penname.model.device import settle_kernels
from penname.model.free_memory import ModelShape
from penname.model.frozen_layers import FrozenLayers, keep_frozen_layers
from penname.plan.work import count_computed, draw_units
from penname.privacy.gradients import trainable_parameters
from penname.privacy.keystream import Keystream
from penname.privacy.mechanism import DpSgd, NonPrivateSum
from penname.privacy.selfcheck import check_noise, check_sampler
from penname.train.arms import NonPrivateArm, PrivateArm, TrainingArm
from penname.train.layout import Layout, Unit
from penname.train.memory import UnitSummer
from penname.train.prepare import prepare_model

_MIN_ROUNDS = 2


@dataclass
class TrainingSpeed:
    """Seconds of the parts of a training, by measurement."""

    layout: Layout
    shape: ModelShape
    weight_bytes: int
    num_params: int
    num_frozen_layers: int
    load_secs: float
    """Of the base model, once."""
    prepare_secs: float
    """Of adapter, fused layers and kept states, once."""
    step_secs: float
    """Of a step's noise and optimizer."""
    check_secs: float
    """Of the self-check of noise and sampler."""
    token_secs: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """Seconds a computed token, filling included, of each arm (and `frozen`: the layers below the adapters), one a round."""


def measure_training(config: Config, units: Sequence[Unit], *, num_units: int, folder: Path, budget_secs: float) -> TrainingSpeed:
    """Prepares the model as a run does, and sums the gradients of a few physical batches in each arm, in turn.

    Args:
      config: Of the run.
      units: Made-up units of the run's lengths.
      num_units: In the training split.
      folder: For the kept states, and for the untrained adapter, which generation will merge.
      budget_secs: Rounds begin until then, but at least two.
    Raises:
      ModelError: the model cannot be loaded or adapted.
    """
    began = time.monotonic()
    model, tokenizer = load_base_model(config.model, trains=True)
    load_secs, began = time.monotonic() - began, time.monotonic()
    settle_kernels(model.device)
    pad_id: Any = tokenizer.eos_token_id
    adapted, layout = prepare_model(model, config.model, config.train, pad_id=pad_id)
    frozen = None
    if config.train.keep_frozen_states and layout.tile_tokens is not None:
        frozen = keep_frozen_layers(adapted, folder / "states", tile_tokens=layout.tile_tokens, pad_id=pad_id)
    prepare_secs = time.monotonic() - began
    arms = _build_arms(config, adapted, sampling_prob=min(1.0, config.train.expected_batch_size / num_units))
    step_secs, check_secs = _time_step(config, adapted, arms)
    num_params, num_frozen = next(iter(arms.values())).num_params, frozen.num_layers if frozen else 0
    UnitSummer(adapted, next(iter(arms.values())), layout, frozen).try_out()
    speed = TrainingSpeed(layout, ModelShape.read(model.config), model.dtype.itemsize, num_params, num_frozen, load_secs, prepare_secs, step_secs, check_secs)
    adapted.train()
    batches = layout.cut(draw_units(units, config.train.expected_batch_size, seed=0))
    _run_rounds(speed, arms, adapted, batches, frozen, budget_secs=budget_secs)
    save_adapter(adapted.eval(), folder / "adapter", base_model_name=config.model.name)
    return speed


def _build_arms(config: Config, adapted: Any, *, sampling_prob: float) -> dict[str, TrainingArm]:
    """Under a key for probes, which charges nothing and is given no sum of data."""
    # The time depends on neither noise multiplier nor key.
    keystream = Keystream.from_seed(0)
    mechanism = DpSgd(1.0, sampling_prob, config.train.num_steps, config.privacy.l2_clip_norm, keystream).with_probe_key()
    arms: dict[str, TrainingArm] = {}
    for name in config.train.arms:
        if name == "with_dp":
            arms[name] = PrivateArm.build(adapted, mechanism, engine_name=config.train.gradients)
        else:
            arms[name] = NonPrivateArm.build(adapted, NonPrivateSum(sampling_prob, config.train.num_steps, keystream))
    return arms


def _time_step(config: Config, adapted: Any, arms: dict[str, TrainingArm]) -> tuple[float, float]:
    """Seconds of what a step does beside gradients, with DP where there is that arm, and of the checks of noise and sampler."""
    arm = arms.get("with_dp") or next(iter(arms.values()))
    optimizer = torch.optim.Adam([parameter for _, parameter in trainable_parameters(adapted)], lr=0.0)
    began = time.monotonic()
    update = arm.mechanism.release(0, arm.mechanism.empty_sum(arm.num_params))
    for _, parameter in trainable_parameters(adapted):
        parameter.grad = update[: parameter.numel()].view_as(parameter).to(parameter.device)
    optimizer.step()
    optimizer.zero_grad()
    step_secs, began = time.monotonic() - began, time.monotonic()
    if isinstance(arm, PrivateArm):
        check_noise(arm.mechanism)
        check_sampler(arm.mechanism)
    return step_secs, time.monotonic() - began


def _run_rounds(
    speed: TrainingSpeed, arms: dict[str, TrainingArm], adapted: Any, batches: list[list[Unit]], frozen: FrozenLayers | None, *, budget_secs: float
) -> None:
    layout = speed.layout
    count = 0
    ends = float("inf")
    while count <= _MIN_ROUNDS or time.monotonic() < ends:
        batch = batches[count % len(batches)]
        num_tokens = count_computed(layout, batch)
        if frozen is not None:
            frozen.forget()
            records = [record for unit in batch for record in unit]
            took = _time(lambda records=records: frozen.compute(records))
            _note(speed, "frozen", took / num_tokens, count)
        for name, arm in arms.items():
            took = _time(lambda arm=arm, batch=batch: arm.sum_batch(layout.lay_out(adapted, batch, frozen), len(batch)))
            _note(speed, name, took / num_tokens, count)
        if count == 0:
            # The first round settles what is only done once.
            ends = time.monotonic() + budget_secs
        count += 1


def _note(speed: TrainingSpeed, name: str, token_secs: float, count: int) -> None:
    if count:
        speed.token_secs.setdefault(name, []).append(token_secs)


def _time(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began
