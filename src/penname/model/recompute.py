"""Gradient checkpointing: of each layer only the input is kept, and the rest is computed again when the backward pass comes to it.

Not torch's own: that keeps the graph of the first forward pass, whose hooks hold what an engine saw there, and the memory with it. Here the first
forward pass has no graph. Hooks and layers that report products see one forward pass with gradients and one backward pass a layer, as without it.
Source: Chen et al. (2016), https://arxiv.org/abs/1604.06174
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch

from penname.errors import ModelError


def recompute_layers(model: Any) -> int:
    """Makes every layer of a model keep its input alone.

    Guarantee: losses and gradients are the same bits as without it, dropout included.

    Args:
      model: A causal LM, with or without adapters; layers that are fused must be fused before.
    Returns:
      How many layers there are.
    Raises:
      ModelError: the model has no layers that transformers calls ones to compute again.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise ModelError("train.gradient_checkpointing: this model has no layers that can be computed again; set it to false")
    for layer in layers:
        _wrap(layer)
    return len(layers)


def _wrap(layer: Any) -> None:
    from transformers.cache_utils import Cache

    own_forward = layer.forward

    def forward(hidden_states: torch.Tensor, *args: Any, **more: Any) -> Any:
        # A cache of keys and values would get them twice.
        has_cache = any(isinstance(value, Cache) for value in (*args, *more.values()))
        if has_cache or not torch.is_grad_enabled():
            return own_forward(hidden_states, *args, **more)
        weights = [weight for weight in layer.parameters() if weight.requires_grad]
        return _Recomputed.apply(lambda hidden: own_forward(hidden, *args, **more), hidden_states, *weights)

    layer.forward = forward


class _Recomputed(torch.autograd.Function):
    """What `compute` makes of hidden states, with the layer's trainable weights as inputs so that they get their gradients."""

    @staticmethod
    def forward(ctx: Any, compute: Callable[[torch.Tensor], Any], hidden: torch.Tensor, *weights: torch.Tensor) -> Any:
        ctx.save_for_backward(hidden)
        ctx.compute, ctx.weights, ctx.random = compute, weights, _read_random_states(hidden.device)
        return compute(hidden)

    @staticmethod
    def backward(ctx: Any, *output_grads: torch.Tensor) -> tuple[Any, ...]:
        (kept,) = ctx.saved_tensors
        needs_hidden = ctx.needs_input_grad[1]
        hidden = kept.detach().requires_grad_(needs_hidden)
        with torch.enable_grad(), _random_states(ctx.random, kept.device):
            outputs = ctx.compute(hidden)
        given = outputs if isinstance(outputs, tuple) else (outputs,)
        ends = [(output, grad) for output, grad in zip(given, output_grads, strict=True) if isinstance(output, torch.Tensor) and output.requires_grad]
        sought = [*([hidden] if needs_hidden else []), *ctx.weights]
        found = torch.autograd.grad([output for output, _ in ends], sought, [grad for _, grad in ends], allow_unused=True)
        return None, found[0] if needs_hidden else None, *found[needs_hidden:]


def _read_random_states(device: torch.device) -> list[torch.Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


@contextmanager
def _random_states(states: list[torch.Tensor], device: torch.device) -> Generator[None]:
    """The random numbers of the first forward pass: dropout drops the same again."""
    is_cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if is_cuda else []):
        torch.set_rng_state(states[0])
        if is_cuda:
            torch.cuda.set_rng_state(states[1], device)
        yield
