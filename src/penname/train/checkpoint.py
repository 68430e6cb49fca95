"""The state of an arm between two steps, on disk so that a killed run goes on where it was. PRIVATE."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from penname.errors import RunDirError
from penname.privacy.gradients import trainable_parameters
from penname.run_dir import read_rows, write_atomic
from penname.train.averaging import IterateAverage

_AVERAGE = "average"


def save_checkpoint(
    path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, *, step: int, inputs_sha256: str, average: IterateAverage | None = None
) -> None:
    """Writes adapter weights, optimizer state and the average so far, after `step` steps, in one rename."""
    tensors: dict[str, torch.Tensor] = {}
    for name, parameter in trainable_parameters(model):
        tensors[f"weight/{name}"] = parameter.data
        tensors.update({f"{key}/{name}": value for key, value in optimizer.state[parameter].items()})
    tensors.update({f"{_AVERAGE}/{name}": mean for name, mean in (average.mean if average else {}).items()})
    metadata = {"penname": json.dumps({"step": step, "inputs_sha256": inputs_sha256})}
    with write_atomic(path, "wb") as handle:
        handle.write(save(tensors, metadata=metadata))


def load_checkpoint(path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, *, inputs_sha256: str, average: IterateAverage | None = None) -> int:
    """Restores what `save_checkpoint` wrote; returns the number of steps done, 0 when there is nothing to go on from.

    A checkpoint of other data or settings is left alone and training starts anew.

    Raises:
      RunDirError: the file is damaged.
    """
    if not path.is_file():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            state: dict[str, Any] = json.loads(file.metadata()["penname"])
            if state["inputs_sha256"] != inputs_sha256:
                return 0
            for name, parameter in trainable_parameters(model):
                parameter.data.copy_(file.get_tensor(f"weight/{name}"))
                keys = [key.partition("/")[0] for key in file.keys() if key.endswith(f"/{name}")]  # noqa: SIM118  not a dict
                kept = {key: file.get_tensor(f"{key}/{name}") for key in keys if key != "weight"}
                if (mean := kept.pop(_AVERAGE, None)) is not None and average is not None:
                    average.mean[name] = mean.to(parameter.device)
                # The count of steps stays on the processor, as the optimizer has it.
                optimizer.state[parameter] = {key: value.to(parameter.device) if value.ndim else value for key, value in kept.items()}
    except (SafetensorError, KeyError, TypeError, ValueError, OSError):
        raise RunDirError(f"{path}: is damaged; remove it to train this arm from the start") from None
    return int(state["step"])


def read_metric_rows(path: Path, *, num_steps: int) -> list[dict[str, Any]]:
    """The rows of the first `num_steps` steps, as far as they were written whole."""
    rows: list[dict[str, Any]] = []
    if path.is_file():
        # The last line may be the one that was being written when the process was killed.
        with contextlib.suppress(RunDirError):
            rows.extend(row for row in read_rows(path) if row["step"] < num_steps)
    return rows
