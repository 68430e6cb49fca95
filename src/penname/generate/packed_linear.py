"""Linear layers with their weights laid out once as the processor multiplies them, instead of anew for every product."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

_MIN_WEIGHTS = 4096


class PackedLinear(nn.Module):
    """A linear layer in bfloat16 on a processor, for inputs of about `num_rows` rows, whose weights need not be laid out again for each."""

    def __init__(self, linear: nn.Linear, *, num_rows: int) -> None:
        super().__init__()
        self.bias = linear.bias
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), num_rows)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out)."""
        return torch.ops.mkldnn._linear_pointwise(rows, self._packed, self.bias, "none", [], "")


@dataclass
class Packing:
    """Whether what was done stays."""

    keep: bool = False


@contextlib.contextmanager
def pack_linears(model: Any, *, num_rows: int) -> Generator[Packing]:
    """Exchanges the linear layers of a model, and brings them back unless `keep` is set on what this yields.

    Where torch has no such product, or not for this model's weights, nothing is exchanged.
    """
    packing, replaced = Packing(), []
    try:
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if _can_pack(child):
                    replaced.append((parent, name, child))
                    setattr(parent, name, PackedLinear(child, num_rows=num_rows))
        yield packing
    finally:
        if not packing.keep:
            for parent, name, child in replaced:
                setattr(parent, name, child)


def _can_pack(module: nn.Module) -> bool:
    if type(module) is not nn.Linear or module.weight.numel() < _MIN_WEIGHTS:
        return False
    weight = module.weight
    return weight.dtype == torch.bfloat16 and weight.device.type == "cpu" and torch.backends.mkldnn.is_available() and _has_packed_product()


def _has_packed_product() -> bool:
    return hasattr(torch.ops.mkldnn, "_reorder_linear_weight") and hasattr(torch.ops.mkldnn, "_linear_pointwise")
