"""Frozen linear layers with one input and their LoRA adapters, as few matrix products as there can be.

The frozen weights lie one below the other in a block with room beside and below them for the adapters' B and A. Inputs and output gradients come
with as many columns to spare, so that what an adapter adds is part of the product with the frozen weight, not another pass over its result:
at LoRA's rank such a pass costs memory traffic, not arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from penname.privacy.gradients import WeightPart

Report = Callable[[Sequence[WeightPart], torch.Tensor, torch.Tensor], None]


@dataclass(frozen=True)
class _Adapter:
    """One LoRA adapter inside a stack."""

    lora_a: nn.Parameter
    """(r, K)"""
    lora_b: nn.Parameter
    """(n, r)"""
    scaling: float
    outputs: slice
    """Which of the stack's N its outputs are."""
    lowered: slice
    """Which of the stack's R its inner values are."""


class LinearStack:
    """Linear layers K -> N together, of them adapters with ranks R together."""

    def __init__(self, linears: Sequence[Any]) -> None:
        """Copies the weights of linear layers, each frozen, without a bias, and with at most one plain adapter.

        Raises:
          ValueError: a layer is anything else.
        """
        self._linears = [_frozen(linear) for linear in linears]
        self.adapters = tuple(_read_adapters(linears))
        self.num_inputs, self.num_outputs = self._linears[0].weight.shape[1], sum(len(linear.weight) for linear in self._linears)
        self.rank = sum(adapter.lora_a.shape[0] for adapter in self.adapters)
        # (N + R, K + R): the weights, B beside them, A below.
        self._block = self._linears[0].weight.new_zeros(self.num_outputs + self.rank, self.num_inputs + self.rank)
        torch.cat([linear.weight.detach() for linear in self._linears], out=self._block[: self.num_outputs, : self.num_inputs])

    def take_over(self) -> None:
        """Makes the layers' own weights views of the block, so that they are in memory once."""
        rows = self._block[: self.num_outputs, : self.num_inputs].split([len(linear.weight) for linear in self._linears])
        for linear, weight in zip(self._linears, rows, strict=True):
            linear.weight.data = weight

    def parameters(self) -> list[nn.Parameter]:
        """What of the adapters trains."""
        return [weight for adapter in self.adapters for weight in (adapter.lora_a, adapter.lora_b) if weight.requires_grad]

    def make_inputs(self, num_tokens: int) -> torch.Tensor:
        """(M, K + R), not filled: the inputs go into the first K columns."""
        return self._block.new_empty(num_tokens, self.num_inputs + self.rank)

    def make_output_grads(self, num_tokens: int) -> torch.Tensor:
        """(M, N + R), not filled: the gradients of the outputs go into the first N columns."""
        return self._block.new_empty(num_tokens, self.num_outputs + self.rank)

    def lower(self, inputs: torch.Tensor) -> None:
        """Fills the last R columns of the inputs (M, K + R) with what the adapters' present A make of the first K."""
        if self.rank:
            self._read_adapters()
            torch.mm(inputs[:, : self.num_inputs], self._block[self.num_outputs :, : self.num_inputs].T, out=inputs[:, self.num_inputs :])

    def compute(self, inputs: torch.Tensor, outputs: slice = slice(None)) -> torch.Tensor:
        """Outputs (M, N), or those of them, of inputs (M, K + R) that `lower` has filled."""
        return inputs @ self._block[: self.num_outputs][outputs].T

    def backward(self, inputs: torch.Tensor, lowered: torch.Tensor, output_grads: torch.Tensor, report: Report, *, is_first: bool = False) -> torch.Tensor:
        """Gradient of the inputs, (M, K); each adapter's inputs and output gradients go to `report`.

        Args:
          inputs: (M, K). PRIVATE.
          lowered: (M, R), from `lower`.
          output_grads: (M, N + R), the first N columns filled. PRIVATE.
          report: See `ProductReporter`.
          is_first: Nothing before it trains, so nobody asks for the gradient of the inputs; what is returned is empty.
        """
        if self.adapters:
            grads, lowered_grads = output_grads[:, : self.num_outputs], output_grads[:, self.num_outputs :]
            torch.mm(grads, self._block[: self.num_outputs, self.num_inputs :], out=lowered_grads)
            if self.adapters[0].lora_a.requires_grad:
                scaled = torch.cat([lowered_grads[:, adapter.lowered] * adapter.scaling for adapter in self.adapters], dim=1)
                report([WeightPart(adapter.lora_a, adapter.lowered, slice(None)) for adapter in self.adapters], inputs, scaled)
            report([WeightPart(adapter.lora_b, adapter.outputs, adapter.lowered) for adapter in self.adapters], lowered, grads)
        return output_grads.new_empty(0) if is_first else output_grads @ self._block[:, : self.num_inputs]

    @torch.no_grad()
    def _read_adapters(self) -> None:
        for adapter in self.adapters:
            # Scaled here and not with B: then what `lower` gives is what B's gradient is a product of.
            torch.mul(adapter.lora_a, adapter.scaling, out=self._block[self.num_outputs :, : self.num_inputs][adapter.lowered])
            self._block[adapter.outputs, self.num_inputs :][:, adapter.lowered] = adapter.lora_b


def _read_adapters(linears: Sequence[Any]) -> list[_Adapter]:
    adapters: list[_Adapter] = []
    first_output = first_lowered = 0
    for linear in linears:
        frozen = _frozen(linear)
        # torch declares a bias that may be None as never None.
        if frozen.bias is not None or frozen.weight.requires_grad:  # pyright: ignore[reportUnnecessaryComparison]
            raise ValueError("not a frozen linear layer without bias")
        outputs = slice(first_output, first_output + len(frozen.weight))
        first_output = outputs.stop
        if linear is frozen:
            continue
        (name,) = linear.lora_A.keys()
        lora_a, lora_b = linear.lora_A[name], linear.lora_B[name]
        if getattr(linear.lora_dropout[name], "p", 0.0) or lora_a.bias is not None or lora_b.bias is not None:
            raise ValueError("not a plain adapter")
        lowered = slice(first_lowered, first_lowered + len(lora_a.weight))
        first_lowered = lowered.stop
        adapters.append(_Adapter(lora_a.weight, lora_b.weight, float(linear.scaling[name]), outputs, lowered))
    return adapters


def _frozen(linear: Any) -> nn.Linear:
    base = getattr(linear, "base_layer", linear)
    if type(base) is not nn.Linear:
        raise ValueError("not a linear layer")
    return base
