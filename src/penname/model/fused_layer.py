"""A transformer layer of Llama's kind with its LoRA adapters, as one function with a backward pass of its own.

Left to autograd such a layer is some eighty small operations forward and twice as many backward, many of them casts, copies and
what keeps them. Here products with one input are one product, adapters are added in place, and little is kept. Whether the
function is what the model's own layer computes is measured before it is used, not looked up.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from penname.model.linear_stack import LinearStack
from penname.model.row_attention import RowAttention
from penname.privacy.gradients import ProductReporter, WeightPart

_PROBE_ROWS = (5, 19)
# Of float32; a layer that computes anything else differs by as much as it adds.
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class _Layer:
    """What the function needs to know of one layer."""

    norms: tuple[tuple[torch.Tensor, float], tuple[torch.Tensor, float]]
    """Weight (D,) and epsilon of the norm before attention and of the one before the MLP."""
    qkv: LinearStack
    out: LinearStack
    gate_up: LinearStack
    down: LinearStack
    num_heads: int
    num_key_heads: int
    scaling: float
    reporter: ProductReporter

    @property
    def num_inner(self) -> int:
        """Width of the gate."""
        return self.gate_up.num_outputs // 2

    def split_heads(self, qkv: torch.Tensor) -> torch.Tensor:
        """(M, N) as (M, heads of query, key and value, d)."""
        return qkv.unflatten(1, (self.num_heads + 2 * self.num_key_heads, -1))

    def rows(self, row_lengths: Sequence[int]) -> RowAttention:
        return RowAttention(self.num_heads, self.num_key_heads, row_lengths, self.scaling)


class _FusedLayer(torch.autograd.Function):
    """hidden (M, D) -> hidden (M, D)."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, row_lengths: Sequence[int], layer: _Layer, *weights: torch.Tensor
    ) -> torch.Tensor:
        num_tokens, width = hidden.shape
        normed_1 = layer.qkv.make_inputs(num_tokens)
        scale_1 = _normalise(hidden, *layer.norms[0], normed_1[:, :width])
        layer.qkv.lower(normed_1)
        heads = _rotate(layer.split_heads(layer.qkv.compute(normed_1)), cos, sin, layer)
        attended = layer.out.make_inputs(num_tokens)
        attention = layer.rows(row_lengths).attend(heads, attended[:, : layer.out.num_inputs].unflatten(1, (layer.num_heads, -1)))
        layer.out.lower(attended)
        middle = layer.out.compute(attended).add_(hidden)
        normed_2 = layer.gate_up.make_inputs(num_tokens)
        scale_2 = _normalise(middle, *layer.norms[1], normed_2[:, :width])
        layer.gate_up.lower(normed_2)
        # Two products, though they have one input: of one what follows would have to step over halves.
        gate, up = (layer.gate_up.compute(normed_2, half) for half in (slice(layer.num_inner), slice(layer.num_inner, None)))
        activated = layer.down.make_inputs(num_tokens)
        _activate(gate, up, activated[:, : layer.num_inner])
        layer.down.lower(activated)
        # What is cheap to compute again is not kept: the activation, the widest of all.
        lowered = activated[:, layer.num_inner :].clone()
        ctx.save_for_backward(hidden, cos, sin, scale_1, normed_1, heads, attended, middle, scale_2, normed_2, gate, up, lowered)
        ctx.attention, ctx.row_lengths, ctx.layer = attention, row_lengths, layer
        return layer.down.compute(activated).add_(middle)

    @staticmethod
    def backward(ctx: Any, *output_grads: torch.Tensor) -> tuple[Any, ...]:
        hidden, cos, sin, scale_1, normed_1, heads, attended, middle, scale_2, normed_2, gate, up, lowered = ctx.saved_tensors
        layer: _Layer = ctx.layer
        (num_tokens, width), num_attended = hidden.shape, layer.out.num_inputs
        summed = _SummedProducts()
        report = layer.reporter.receive or summed.add
        down_grads = layer.down.make_output_grads(num_tokens)
        down_grads[:, :width] = output_grads[0]
        gate_up_grads = layer.gate_up.make_output_grads(num_tokens)
        activated = gate.new_empty(gate.shape)
        silu = _activate(gate, up, activated)
        activated_grads = layer.down.backward(activated, lowered, down_grads, report)
        _activate_backward(gate, up, silu, activated_grads, gate_up_grads[:, : 2 * layer.num_inner])
        normed_grads = layer.gate_up.backward(normed_2[:, :width], normed_2[:, width:], gate_up_grads, report)
        middle_grads = layer.out.make_output_grads(num_tokens)
        _normalise_backward(middle, scale_2, layer.norms[1][0], normed_grads, output_grads[0], middle_grads[:, :width])
        attended_grads = layer.out.backward(attended[:, :num_attended], attended[:, num_attended:], middle_grads, report)
        head_grads = layer.rows(ctx.row_lengths).backward(heads, ctx.attention, attended_grads.unflatten(1, (layer.num_heads, -1)))
        qkv_grads = layer.qkv.make_output_grads(num_tokens)
        _rotate_back(head_grads, cos, sin, layer, layer.split_heads(qkv_grads[:, : layer.qkv.num_outputs]))
        is_first = not ctx.needs_input_grad[0]
        normed_grads = layer.qkv.backward(normed_1[:, :width], normed_1[:, width:], qkv_grads, report, is_first=is_first)
        hidden_grads = None if is_first else torch.empty_like(hidden)
        if hidden_grads is not None:
            _normalise_backward(hidden, scale_1, layer.norms[0][0], normed_grads, middle_grads[:, :width], hidden_grads)
        return hidden_grads, None, None, None, None, *(summed.grads.get(id(weight)) for weight in layer.reporter.weights)


class _SummedProducts:
    """Plain gradients of the weights, where no engine asks for those of each row."""

    def __init__(self) -> None:
        self.grads: dict[int, torch.Tensor] = {}

    def add(self, parts: Sequence[WeightPart], inputs: torch.Tensor, output_grads: torch.Tensor) -> None:
        product = output_grads.T @ inputs
        self.grads.update({id(part.weight): product[part.outputs, part.inputs].to(part.weight.dtype) for part in parts})


def _normalise(hidden: torch.Tensor, weight: torch.Tensor, epsilon: float, normed: torch.Tensor) -> torch.Tensor:
    """Writes the RMS norm (M, D); returns what each token was scaled by, (M, 1) float32."""
    norms = torch.linalg.vector_norm(hidden, dim=1, keepdim=True, dtype=torch.float32)
    scale = (norms.square_() / hidden.shape[1] + epsilon).rsqrt_()
    normed.copy_(hidden * scale).mul_(weight)
    return scale


def _normalise_backward(
    hidden: torch.Tensor, scale: torch.Tensor, weight: torch.Tensor, grads: torch.Tensor, more_grads: torch.Tensor, hidden_grads: torch.Tensor
) -> None:
    """Writes the gradients that come to `hidden` through the norm and, past it, `more_grads`; all (M, D)."""
    scaled, wide = grads * weight.float(), hidden.float()
    share = (scaled * wide).sum(1, keepdim=True).mul_(scale**3 / hidden.shape[1])
    hidden_grads.copy_(scaled.mul_(scale).addcmul_(wide, share, value=-1)).add_(more_grads)


def _activate(gate: torch.Tensor, up: torch.Tensor, activated: torch.Tensor) -> torch.Tensor:
    """Writes silu(gate) * up and returns silu(gate)."""
    silu = functional.silu(gate)
    torch.mul(silu, up, out=activated)
    return silu


def _activate_backward(gate: torch.Tensor, up: torch.Tensor, silu: torch.Tensor, grads: torch.Tensor, gate_up_grads: torch.Tensor) -> None:
    """Writes the gradients of gate and up, (M, 2 I); `silu` and `grads` are used up."""
    gate_grads, up_grads = gate_up_grads.chunk(2, dim=1)
    torch.mul(silu, grads, out=up_grads)
    torch.ops.aten.silu_backward.grad_input(grads.mul_(up), gate, grad_input=gate_grads)


def _rotate(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, layer: _Layer) -> torch.Tensor:
    """Rotary position embedding of query and key in (M, heads, d): the halves of a head are the two coordinates. cos, sin (M, 1, d)."""
    rotated = torch.empty_like(heads)
    _turn(heads, cos, sin, layer, rotated)
    return rotated


def _rotate_back(grads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, layer: _Layer, unrotated: torch.Tensor) -> None:
    """A rotation's gradient is the rotation back; that of the scaled product of query and key comes with it."""
    _turn(grads, cos * layer.scaling, sin * -layer.scaling, layer, unrotated)


def _turn(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, layer: _Layer, turned: torch.Tensor) -> None:
    num_values = layer.num_key_heads
    source, target, half = heads[:, :-num_values], turned[:, :-num_values], heads.shape[2] // 2
    torch.mul(source, cos, out=target)
    target[..., :half].addcmul_(source[..., half:], sin[..., :half], value=-1)
    target[..., half:].addcmul_(source[..., :half], sin[..., half:])
    turned[:, -num_values:] = heads[:, -num_values:]


def fuse_layers(model: Any) -> int:
    """Makes the layers of an adapted model, where they are of Llama's kind, compute with one function each.

    Args:
      model: A causal LM with adapters, on packed rows (see `enable_packing`). Its parameters keep their names and values; frozen weights of
        layers with one input become views of one tensor.
    Returns:
      How many layers were fused; the others stay as they are.
    """
    causal_lm = model.get_base_model()
    decoder = getattr(causal_lm, causal_lm.base_model_prefix)
    return sum(_fuse(layer, decoder) for layer in getattr(decoder, "layers", ()))


def _fuse(layer: Any, decoder: Any) -> bool:
    twin = copy.deepcopy(layer).float()
    read = _read_layer(twin)
    if read is None or not _is_same(twin, read, decoder):
        return False
    fused = _read_layer(layer)
    assert fused is not None
    for stack in (fused.qkv, fused.out, fused.gate_up, fused.down):
        stack.take_over()
    layer.product_reporter = fused.reporter
    own_forward = layer.forward

    def forward(hidden_states: torch.Tensor, attention_mask: Any = None, **more: Any) -> torch.Tensor:
        row_lengths, cache = more.get("row_lengths"), more.get("past_key_values")
        if len(hidden_states) != 1 or attention_mask is not None or cache is not None or row_lengths is None:
            return own_forward(hidden_states, attention_mask=attention_mask, **more)
        return _run(fused, hidden_states, row_lengths, more["position_embeddings"])

    layer.forward = forward
    return True


def _run(layer: _Layer, hidden: torch.Tensor, row_lengths: Sequence[int], position_embeddings: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    cos, sin = (table[0][:, None] for table in position_embeddings)
    return _FusedLayer.apply(hidden[0], cos, sin, row_lengths, layer, *layer.reporter.weights)[None]


def _read_layer(layer: Any) -> _Layer | None:
    """The parts of a layer of Llama's kind; None where one is missing or is more than it seems."""
    try:
        attention, mlp = layer.self_attn, layer.mlp
        qkv, out = LinearStack([attention.q_proj, attention.k_proj, attention.v_proj]), LinearStack([attention.o_proj])
        gate_up, down = LinearStack([mlp.gate_proj, mlp.up_proj]), LinearStack([mlp.down_proj])
        norms = [(norm.weight, float(norm.variance_epsilon)) for norm in (layer.input_layernorm, layer.post_attention_layernorm)]
        num_heads = out.num_inputs // int(attention.head_dim)
        num_key_heads = (qkv.num_outputs - out.num_inputs) // (2 * int(attention.head_dim))
        scaling = float(attention.scaling)
    except (AttributeError, KeyError, ValueError):
        return None
    weights = [weight for stack in (qkv, out, gate_up, down) for weight in stack.parameters()]
    return _Layer((norms[0], norms[1]), qkv, out, gate_up, down, num_heads, num_key_heads, scaling, ProductReporter(weights))


def _is_same(layer: Any, fused: _Layer, decoder: Any) -> bool:
    """Whether outputs and gradients are those of the layer's own forward and of autograd, in float32 on made-up numbers."""
    generator = torch.Generator("cpu").manual_seed(0)
    hidden_size, num_tokens = fused.norms[0][0].shape[0], sum(_PROBE_ROWS)
    device = fused.norms[0][0].device

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator, device="cpu").to(device)

    hidden, away = draw(1, num_tokens, hidden_size).requires_grad_(), draw(1, num_tokens, hidden_size)
    for weight in fused.reporter.weights:
        # B starts at zero, where nothing of it would show.
        weight.data = 0.1 * draw(*weight.shape)
    positions = torch.cat([torch.arange(length, device=device) for length in _PROBE_ROWS])[None]
    sought = [hidden, *fused.reporter.weights]
    try:
        turns = decoder.rotary_emb(hidden, position_ids=positions)
        own = layer(hidden, attention_mask=None, position_embeddings=turns, position_ids=positions, row_lengths=_PROBE_ROWS)
        ours = _run(fused, hidden, _PROBE_ROWS, turns)
        grads = [torch.autograd.grad(outputs, sought, away) for outputs in (own, ours)]
    except (AttributeError, TypeError, ValueError, RuntimeError, KeyError):
        return False
    pairs = [(own - hidden, ours - hidden), *zip(*grads, strict=True)]
    return all(float((a - b).detach().norm()) <= _TOLERANCE * float(a.detach().norm()) for a, b in pairs)
