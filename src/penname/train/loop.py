"""The loop: draw units, sum their gradients over physical batches, release once, step. The same for both arms."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from penname.config import TrainConfig
from penname.model.frozen_layers import FrozenLayers
from penname.privacy.gradients import trainable_parameters
from penname.progress import show_progress
from penname.run_dir import write_rows
from penname.train.arms import TrainingArm
from penname.train.averaging import IterateAverage
from penname.train.checkpoint import load_checkpoint, read_metric_rows, save_checkpoint
from penname.train.layout import Layout, Units, count_tokens
from penname.train.memory import UnitSummer
from penname.train.ranks import Summer

_WARMUP_FRAC = 0.1


@dataclass(frozen=True)
class ArmFiles:
    """Where an arm keeps its state and its figures."""

    checkpoint: Path
    metrics: Path


def train_arm(
    model: Any,
    units: Units,
    arm: TrainingArm,
    config: TrainConfig,
    files: ArmFiles,
    *,
    layout: Layout,
    frozen: FrozenLayers | None = None,
    keep_tile: Callable[[int], None] = lambda tile_tokens: None,
    share: Callable[[UnitSummer], Summer] = lambda own: own,
    label: str,
    learning_rate: float,
    inputs_sha256: str,
    log: Callable[[dict[str, Any]], None],
) -> None:
    """Trains the adapters of `model`, from the last checkpoint where there is one.

    Args:
      model: With adapters; nothing else trains.
      units: Every unit of the training split. PRIVATE.
      arm: Mechanism and gradient sums.
      config: Batch, steps and physical batch.
      files: Checkpoint and metrics; both PRIVATE.
      layout: Of records in tensors.
      frozen: Keeps what the frozen layers make of a record.
      keep_tile: Gets every smaller tile that memory makes necessary.
      share: Makes of what sums on this rank what sums on all.
      label: For the progress bar.
      learning_rate: Peak.
      inputs_sha256: Of data and settings; a checkpoint of others is not used.
      log: Gets each step's figures. PRIVATE.
    """
    parameters = [parameter for _, parameter in trainable_parameters(model)]
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    average = IterateAverage(num_steps=arm.mechanism.num_steps, last_frac=config.average_last_frac)
    start = load_checkpoint(files.checkpoint, model, optimizer, inputs_sha256=inputs_sha256, average=average)
    write_rows(files.metrics, read_metric_rows(files.metrics, num_steps=start))
    model.train()
    summer = share(UnitSummer(model, arm, layout, frozen, keep_tile=keep_tile))
    num_steps, saved_at = arm.mechanism.num_steps, time.monotonic()
    with open(files.metrics, "a", encoding="utf-8") as metrics, show_progress(label, num_steps, done=start) as progress:
        for step in range(start, num_steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * schedule(step, num_steps, falls=config.learning_rate_schedule == "cosine")
            row = run_step(model, units, arm, config, optimizer, summer, step=step)
            average.add(model, step=step)
            metrics.write(json.dumps(row) + "\n")
            metrics.flush()
            log(row)
            if step + 1 == num_steps or time.monotonic() - saved_at >= config.checkpoint_every_secs:
                save_checkpoint(files.checkpoint, model, optimizer, step=step + 1, inputs_sha256=inputs_sha256, average=average)
                saved_at = time.monotonic()
            progress.advance(1, f"loss {row['loss']:.3f}" if row["loss"] is not None else "")
    average.put_into(model)
    model.eval()


def run_step(model: Any, units: Units, arm: TrainingArm, config: TrainConfig, optimizer: torch.optim.Optimizer, summer: Summer, *, step: int) -> dict[str, Any]:
    """One step: an empty draw is a step of pure noise, like any other. Returns the step's figures. PRIVATE."""
    began = time.monotonic()
    # From the secret key: a known seed would let one unit's presence shift the masks of the others. A step computed again is the same step.
    torch.manual_seed(arm.mechanism.draw_dropout_seed(step))
    drawn = [unit for i in arm.mechanism.draw_units(step, num_units=len(units)) if (unit := units[int(i)])]
    total, losses = summer.sum(drawn)
    # The divisor is the expected batch size, a public constant; the drawn size is private.
    update = arm.mechanism.release(step, total) / config.expected_batch_size
    _set_gradients(model, update)
    optimizer.step()
    optimizer.zero_grad()
    records = [record for unit in drawn for record in unit]
    mean_loss = float(losses.mean()) if len(losses) else math.nan
    return {
        "step": step,
        "loss": mean_loss if math.isfinite(mean_loss) else None,
        "num_units": total.num_units,
        "num_records": len(records),
        "clipped_frac": total.num_clipped / total.num_units if total.num_units and math.isfinite(total.l2_sensitivity) else None,
        "sum_norm": float(total.value.norm()),
        "update_norm": float(update.norm()) * config.expected_batch_size,
        "learning_rate": optimizer.param_groups[0]["lr"],
        "tokens": sum(map(count_tokens, drawn)),
        "tile_tokens": summer.layout.tile_tokens,
        "secs": round(time.monotonic() - began, 3),
    }


def _set_gradients(model: Any, flat: torch.Tensor) -> None:
    start = 0
    for _, parameter in trainable_parameters(model):
        parameter.grad = flat[start : start + parameter.numel()].view_as(parameter).to(parameter.device)
        start += parameter.numel()


def schedule(step: int, num_steps: int, *, falls: bool = True) -> float:
    """Linear warm-up over the first tenth of the steps, then half a cosine to zero, or the same to the end.

    >>> [round(schedule(step, 10), 2) for step in (0, 1, 9)]
    [1.0, 0.98, 0.02]
    """
    warmup = max(1, round(num_steps * _WARMUP_FRAC))
    if step < warmup:
        return (step + 1) / warmup
    if not falls:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup + 1) / (num_steps - warmup + 1)))
