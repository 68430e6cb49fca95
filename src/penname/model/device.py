"""Where the model computes: the processor, or one CUDA device."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from penname.errors import ModelError

if TYPE_CHECKING:
    import torch


def choose_device(name: str) -> torch.device:
    """The device that `model.device` names.

    Args:
      name: auto (the first CUDA device where there is one), cpu, cuda or cuda:N.
    Raises:
      ModelError: it is not there.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ModelError(f"model.device: {name} is asked for, and torch finds no CUDA device here; set model.device=cpu, or auto")
        if (device.index or 0) >= torch.cuda.device_count():
            raise ModelError(f"model.device: there is no {name}; this machine has {torch.cuda.device_count()} CUDA devices, counted from 0")
    return device


def limit_kernel_cache() -> None:
    """Makes a processor keep fewer compiled kernels; without effect once the first product of this process is computed.

    oneDNN compiles a kernel for each new shape and keeps 1,024 of them. Nearly every tile of a batch has a shape of its own, so a training step
    that is made of many tiles would hold more and more kernels that never come again. Fewer than one tile uses must not be kept: each would be compiled again
    and again.
    Source: https://uxlfoundation.github.io/oneDNN/dev_guide_primitive_cache.html
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")


def settle_kernels(device: torch.device) -> None:
    """Makes a CUDA device compute the same numbers every time, so that a step that is computed again is the same step.

    On a processor products of one shape are the same bits anyway (tests hold it), and nothing is set. On CUDA, sums whose order is left to
    chance are exchanged for slower ones in a fixed order, for the rest of the process; an operation that has none raises.
    Source: https://docs.pytorch.org/docs/stable/notes/randomness.html
    """
    import torch

    if device.type != "cuda":
        return
    # Read when the first product is computed.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]  a property of a module
    torch.use_deterministic_algorithms(True)
