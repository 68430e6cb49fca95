"""A transformer layer of Llama's kind with its LoRA adapters, as one function with a backward pass of its own.

Left to autograd such a layer is some eighty small operations forward and twice as many backward, many of them casts, copies and
what keeps them. Here products with one input are one product, adapters are added in place, and little is kept. Whether the
function is what the model's own layer computes is measured before it is used, not looked up.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from penname.model.row_attention import attend_rows, attend_rows_backward
from penname.privacy.gradients import ProductReporter

Report = Callable[[Sequence[nn.Parameter], torch.Tensor, torch.Tensor], None]

_PROBE_ROWS = (5, 19)
# Of float32; a layer that computes anything else differs by as much as it adds.
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class _Adapter:
    """One LoRA adapter inside a stack."""

    lora_a: nn.Parameter
    """(R, K)"""
    lora_b: nn.Parameter
    """(n, R)"""
    scaling: float
    begin: int
    """Its outputs are begin .. begin + n of the stack's."""


@dataclass(frozen=True)
class _Stack:
    """Linear layers with one input: frozen weights one below the other, and their adapters."""

    weight: torch.Tensor
    """(N, K)"""
    adapters: tuple[_Adapter, ...]

    def compute(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Outputs (M, N), and what the adapters' A make of the inputs, (M, sum of R)."""
        outputs = functional.linear(inputs, self.weight)
        if not self.adapters:
            return outputs, None
        lowered = inputs @ self._stack_a().T
        return outputs.addmm_(lowered, self._stack_b().T), lowered

    def backward(
        self,
        inputs: torch.Tensor,
        lowered: torch.Tensor | None,
        output_grads: torch.Tensor,
        report: Report,
        *,
        add_to: torch.Tensor | None = None,
        is_first: bool = False,
    ) -> torch.Tensor:
        """Gradient of the inputs, (M, K), added to one where given; each adapter's inputs and output gradients go to `report`.

        Args:
          inputs: (M, K). PRIVATE.
          lowered: From `compute`.
          output_grads: (M, N). PRIVATE.
          report: See `ProductReporter`.
          add_to: (M, K)
          is_first: Nothing before it trains, so nobody asks for the gradient of the inputs; what is returned is empty.
        """
        if is_first:
            input_grads = inputs.new_empty(0)
        else:
            input_grads = output_grads @ self.weight if add_to is None else add_to.addmm_(output_grads, self.weight)
        if lowered is None:
            return input_grads
        lowered_grads = output_grads @ self._stack_b()
        if not is_first:
            input_grads.addmm_(lowered_grads, self._stack_a())
        if self.adapters[0].lora_a.requires_grad:
            report([adapter.lora_a for adapter in self.adapters], inputs, lowered_grads)
        column = 0
        for adapter in self.adapters:
            num_outputs, rank = adapter.lora_b.shape
            rows = slice(adapter.begin, adapter.begin + num_outputs)
            report([adapter.lora_b], lowered[:, column : column + rank] * adapter.scaling, output_grads[:, rows])
            column += rank
        return input_grads

    def _stack_a(self) -> torch.Tensor:
        return torch.cat([adapter.lora_a.detach() for adapter in self.adapters]).to(self.weight.dtype)

    def _stack_b(self) -> torch.Tensor:
        """(N, sum of R): each adapter's B, scaled, in its own rows and columns."""
        stacked = self.weight.new_zeros(self.weight.shape[0], sum(adapter.lora_a.shape[0] for adapter in self.adapters))
        column = 0
        for adapter in self.adapters:
            num_outputs, rank = adapter.lora_b.shape
            stacked[adapter.begin : adapter.begin + num_outputs, column : column + rank] = adapter.lora_b.detach() * adapter.scaling
            column += rank
        return stacked


@dataclass(frozen=True)
class _Layer:
    """What the function needs to know of one layer."""

    norms: tuple[tuple[torch.Tensor, float], tuple[torch.Tensor, float]]
    """Weight (D,) and epsilon of the norm before attention and of the one before the MLP."""
    qkv: _Stack
    out: _Stack
    gate: _Stack
    up: _Stack
    down: _Stack
    num_heads: int
    num_key_heads: int
    head_size: int
    scaling: float
    reporter: ProductReporter


class _FusedLayer(torch.autograd.Function):
    """hidden (M, D) -> hidden (M, D)."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, row_lengths: Sequence[int], layer: _Layer, *weights: torch.Tensor
    ) -> torch.Tensor:
        normed, scale_1 = _normalise(hidden, *layer.norms[0])
        qkv, qkv_lowered = layer.qkv.compute(normed)
        attended = attend_rows(*_split_heads(qkv, cos, sin, layer), row_lengths, layer.scaling).flatten(1).to(hidden.dtype)
        middle, out_lowered = layer.out.compute(attended)
        middle += hidden
        normed, scale_2 = _normalise(middle, *layer.norms[1])
        # Apart, though they have one input: of one product what follows would have to step over halves.
        gate, gate_lowered = layer.gate.compute(normed)
        up, up_lowered = layer.up.compute(normed)
        outputs, down_lowered = layer.down.compute(_activate(gate, up))
        outputs += middle
        # What is cheap to compute again is not kept: the norms, the rotated heads, the attention weights, the activation.
        ctx.save_for_backward(hidden, cos, sin, scale_1, qkv, attended, middle, scale_2, gate, up)
        ctx.lowered = qkv_lowered, out_lowered, gate_lowered, up_lowered, down_lowered
        ctx.row_lengths, ctx.layer, ctx.num_weights = row_lengths, layer, len(weights)
        return outputs

    @staticmethod
    def backward(ctx: Any, *output_grads: torch.Tensor) -> tuple[Any, ...]:
        hidden, cos, sin, scale_1, qkv, attended, middle, scale_2, gate, up = ctx.saved_tensors
        qkv_lowered, out_lowered, gate_lowered, up_lowered, down_lowered = ctx.lowered
        layer: _Layer = ctx.layer
        (norm_1, _), (norm_2, _) = layer.norms
        summed = _SummedProducts()
        report = layer.reporter.receive or summed.add
        grads = output_grads[0].contiguous()
        activated_grads = layer.down.backward(_activate(gate, up), down_lowered, grads, report)
        gate_grads, up_grads = _activate_backward(gate, up, activated_grads)
        normed = _scale(middle, scale_2, norm_2)
        normed_grads = layer.gate.backward(normed, gate_lowered, gate_grads, report)
        layer.up.backward(normed, up_lowered, up_grads, report, add_to=normed_grads)
        middle_grads = _normalise_backward(middle, scale_2, norm_2, normed_grads).add_(grads)
        attended_grads = layer.out.backward(attended, out_lowered, middle_grads, report)
        qkv_grads = _attend_backward(qkv, cos, sin, attended, attended_grads, ctx.row_lengths, layer)
        normed_grads = layer.qkv.backward(_scale(hidden, scale_1, norm_1), qkv_lowered, qkv_grads, report, is_first=not ctx.needs_input_grad[0])
        hidden_grads = _normalise_backward(hidden, scale_1, norm_1, normed_grads).add_(middle_grads) if ctx.needs_input_grad[0] else None
        return hidden_grads, None, None, None, None, *(summed.grads.get(id(weight)) for weight in layer.reporter.weights)


class _SummedProducts:
    """Plain gradients of the weights, where no engine asks for those of each row."""

    def __init__(self) -> None:
        self.grads: dict[int, torch.Tensor] = {}

    def add(self, weights: Sequence[nn.Parameter], inputs: torch.Tensor, output_grads: torch.Tensor) -> None:
        product = (output_grads.T @ inputs).to(weights[0].dtype)
        parts = product.split([len(weight) for weight in weights])
        self.grads.update({id(weight): part for weight, part in zip(weights, parts, strict=True)})


def _normalise(hidden: torch.Tensor, weight: torch.Tensor, epsilon: float) -> tuple[torch.Tensor, torch.Tensor]:
    """RMS norm (M, D), and what each token was scaled by, (M, 1) float32."""
    norms = torch.linalg.vector_norm(hidden, dim=1, keepdim=True, dtype=torch.float32)
    scale = (norms.square_() / hidden.shape[1] + epsilon).rsqrt_()
    return _scale(hidden, scale, weight), scale


def _scale(hidden: torch.Tensor, scale: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return (hidden * scale).to(hidden.dtype).mul_(weight)


def _normalise_backward(hidden: torch.Tensor, scale: torch.Tensor, weight: torch.Tensor, grads: torch.Tensor) -> torch.Tensor:
    scaled, wide = grads * weight.float(), hidden.float()
    share = (scaled * wide).sum(1, keepdim=True).mul_(scale**3 / hidden.shape[1])
    return scaled.mul_(scale).addcmul_(wide, share, value=-1).to(hidden.dtype)


def _activate(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    return functional.silu(gate).mul_(up)


def _activate_backward(gate: torch.Tensor, up: torch.Tensor, grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of gate and up."""
    up_grads = functional.silu(gate).mul_(grads)
    return torch.ops.aten.silu_backward(grads.mul_(up), gate), up_grads


def _split_heads(qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, layer: _Layer) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rotated query, rotated key, and value, (heads, M, d) float32."""
    heads = qkv.view(len(qkv), -1, layer.head_size).transpose(0, 1).float()
    turned = layer.num_heads + layer.num_key_heads
    rotated = _rotate(heads[:turned], cos, sin)
    return rotated[: layer.num_heads], rotated[layer.num_heads :], heads[turned:]


def _rotate(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding: the halves of a head are the two coordinates. cos, sin (M, d) float32."""
    left, right = heads.chunk(2, dim=2)
    half = left.shape[2]
    rotated = heads * cos
    rotated[..., :half].addcmul_(right, sin[:, :half], value=-1)
    rotated[..., half:].addcmul_(left, sin[:, half:])
    return rotated


def _attend_backward(
    qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, attended: torch.Tensor, grads: torch.Tensor, row_lengths: Sequence[int], layer: _Layer
) -> torch.Tensor:
    wide_attended, wide_grads = (tensor.float().view(len(qkv), -1, layer.head_size) for tensor in (attended, grads))
    parts = attend_rows_backward(*_split_heads(qkv, cos, sin, layer), wide_attended, wide_grads, row_lengths, layer.scaling)
    # A rotation's gradient is the rotation back.
    heads = [_rotate(parts[0], cos, -sin), _rotate(parts[1], cos, -sin), parts[2]]
    return torch.cat([head.to(qkv.dtype).transpose(0, 1) for head in heads], dim=1).flatten(1)


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
    attention = layer.self_attn
    linears = [_frozen(part) for part in (attention.q_proj, attention.k_proj, attention.v_proj)]
    for linear, rows in zip(linears, fused.qkv.weight.split([len(linear.weight) for linear in linears]), strict=True):
        linear.weight.data = rows
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
    cos, sin = (table[0].float() for table in position_embeddings)
    return _FusedLayer.apply(hidden[0], cos, sin, row_lengths, layer, *layer.reporter.weights)[None]


def _read_layer(layer: Any) -> _Layer | None:
    """The parts of a layer of Llama's kind; None where one is missing or is more than it seems."""
    try:
        attention, mlp = layer.self_attn, layer.mlp
        qkv = _read_stack([attention.q_proj, attention.k_proj, attention.v_proj])
        out, gate, up, down = (_read_stack([part]) for part in (attention.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj))
        norm_1, norm_2 = ((norm.weight, float(norm.variance_epsilon)) for norm in (layer.input_layernorm, layer.post_attention_layernorm))
        head_size = int(attention.head_dim)
        num_heads, num_key_heads = (len(_frozen(part).weight) // head_size for part in (attention.q_proj, attention.k_proj))
        scaling = float(attention.scaling)
    except (AttributeError, KeyError, ValueError):
        return None
    adapters = [adapter for stack in (qkv, out, gate, up, down) for adapter in stack.adapters]
    weights = [weight for adapter in adapters for weight in (adapter.lora_a, adapter.lora_b) if weight.requires_grad]
    return _Layer((norm_1, norm_2), qkv, out, gate, up, down, num_heads, num_key_heads, head_size, scaling, ProductReporter(weights))


def _read_stack(linears: Sequence[Any]) -> _Stack:
    """Raises ValueError for a layer that is not linear and frozen, with at most one plain adapter."""
    adapters: list[_Adapter] = []
    begin = 0
    for linear in linears:
        frozen = _frozen(linear)
        # torch declares a bias that may be None as never None.
        if frozen.bias is not None or frozen.weight.requires_grad:  # pyright: ignore[reportUnnecessaryComparison]
            raise ValueError("not a frozen linear layer without bias")
        if linear is not frozen:
            (name,) = linear.lora_A.keys()
            if getattr(linear.lora_dropout[name], "p", 0.0) or linear.lora_A[name].bias is not None or linear.lora_B[name].bias is not None:
                raise ValueError("not a plain adapter")
            adapters.append(_Adapter(linear.lora_A[name].weight, linear.lora_B[name].weight, float(linear.scaling[name]), begin))
        begin += len(frozen.weight)
    return _Stack(torch.cat([_frozen(linear).weight.detach() for linear in linears]) if len(linears) > 1 else _frozen(linears[0]).weight, tuple(adapters))


def _frozen(linear: Any) -> nn.Linear:
    base = getattr(linear, "base_layer", linear)
    if type(base) is not nn.Linear:
        raise ValueError("not a linear layer")
    return base


def _is_same(layer: Any, fused: _Layer, decoder: Any) -> bool:
    """Whether outputs and gradients are those of the layer's own forward and of autograd, in float32 on made-up numbers."""
    generator = torch.Generator().manual_seed(0)
    hidden_size, num_tokens = fused.norms[0][0].shape[0], sum(_PROBE_ROWS)
    hidden = torch.randn(1, num_tokens, hidden_size, generator=generator).requires_grad_()
    away = torch.randn(1, num_tokens, hidden_size, generator=generator)
    for weight in fused.reporter.weights:
        # B starts at zero, where nothing of it would show.
        weight.data = 0.1 * torch.randn(weight.shape, generator=generator)
    positions = torch.cat([torch.arange(length) for length in _PROBE_ROWS])[None]
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
