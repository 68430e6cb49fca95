"""Where the model computes: the processor, or one CUDA device."""

from __future__ import annotations

import contextlib
import ctypes
import gc
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


def settle_products() -> None:
    """Makes a processor round alike whatever lies where, and keep fewer compiled kernels; without effect once the first product of this process is computed.

    Left to itself MKL, which computes products in float32, may choose on a processor of another maker how a row is summed by where it begins in
    memory; then a record's gradient depends on the records before it in its tile. Its strict mode does not, and is not slower.

    oneDNN compiles a kernel for each new shape and keeps 1,024 of them. Nearly every tile of a batch has a shape of its own, so a training step
    that is made of many tiles would hold more and more kernels that never come again. Fewer than one tile uses must not be kept: each would be compiled again
    and again.
    Source: oneMKL's reference, conditional numerical reproducibility; https://uxlfoundation.github.io/oneDNN/dev_guide_primitive_cache.html
    """
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")


# mallopt's numbers for M_MMAP_THRESHOLD, at the most that is allowed, and M_TRIM_THRESHOLD.
_MALLOC_OPTIONS = ((-3, 32 * 2**20), (-1, 2**30))


def keep_freed_memory() -> None:
    """Makes the C library keep the memory that tensors gave back for the next ones; without effect on one that is not glibc.

    Left to itself glibc returns what a backward pass frees to the system, and the next forward pass gets it back page by page, each filled with zeros
    first. Does nothing where the environment already says how memory is to be kept.
    Source: mallopt(3).
    """
    if any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for option, value in _MALLOC_OPTIONS:
        mallopt(option, value)


def return_freed_memory() -> None:
    """Gives the system what this process has freed and still holds; without effect on a C library that is not glibc.

    What one model's work left behind, in holes of a size that the next one's does not ask for, would otherwise be beside it until the process ends.
    Source: malloc_trim(3).
    """
    # A model refers to itself in places, and goes when circles are looked for.
    gc.collect()
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


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
