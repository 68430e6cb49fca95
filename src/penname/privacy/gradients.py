"""Per-unit gradients: two engines with one contract, checked against the slow loop of one record at a time.

Contract. An engine is built on a model whose trainable parameters are the weights of bias-free linear layers. `unit_gradients(passes, U)` runs
each pass once forward and once backward and gives one gradient a unit, (U, P) float32: the mean over the unit's own rows, P in the order of
`trainable_parameters(model)`. A unit's gradient is computed from its own rows alone. What is returned holds until the next call.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from penname.privacy.errors import PrivacyError


@dataclass(frozen=True)
class RowPass:
    """One forward pass over rows that lie end to end along the token axis. PRIVATE."""

    compute_losses: Callable[[], torch.Tensor]
    """One loss a row, (B,), where row b's loss depends on row b alone."""
    row_lengths: Sequence[int]
    """(B,) tokens of each row; what the layers see beyond them belongs to nobody."""
    row_units: Sequence[int]
    """(B,) unit of each row, 0 <= unit < U."""


@dataclass(frozen=True)
class WeightPart:
    """A weight (n, k) that is a block of a larger one (N, K)."""

    weight: torch.Tensor
    outputs: slice
    """Its n of N."""
    inputs: slice
    """Its k of K."""


class ProductReporter:
    """For a layer whose backward pass is its own: it tells an engine what its weights' gradients are sums of products of.

    The layer calls `receive`, where an engine has set it, once in a backward pass for each of its weights; otherwise it returns the gradients.
    """

    def __init__(self, weights: Sequence[nn.Parameter]) -> None:
        self.weights = tuple(weights)
        self.receive: Callable[[Sequence[WeightPart], torch.Tensor, torch.Tensor], None] | None = None
        """Blocks of a weight that turns the inputs (M, K) into outputs with the gradients (M, N)."""


class GradientEngine(Protocol):
    """What the training loop needs of an engine."""

    @property
    def num_params(self) -> int: ...
    def unit_gradients(self, passes: Sequence[RowPass], num_units: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients (U, P), one a unit, and losses, one a row in the order of the passes. All rows of a unit must be in `passes`. PRIVATE."""
        ...


def trainable_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Names and parameters that training may change, in the model's own order: P is the sum of their sizes."""
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def count_rows_of_units(passes: Sequence[RowPass], num_units: int) -> list[int]:
    """How many rows each unit has: what its gradient is divided by.

    Raises:
      PrivacyError: a row belongs to no unit.
    """
    counts = [0] * num_units
    for row_pass in passes:
        if len(row_pass.row_lengths) != len(row_pass.row_units):
            raise PrivacyError("gradients: a pass must name one unit a row")
        for unit in row_pass.row_units:
            if not 0 <= unit < num_units:
                raise PrivacyError(f"gradients: a row belongs to unit {unit}, there are {num_units}")
            counts[unit] += 1
    return counts


def _check_losses(losses: torch.Tensor, row_pass: RowPass) -> None:
    if losses.shape != (len(row_pass.row_units),):
        raise PrivacyError(f"gradients: compute_losses must return one loss a row, got the shape {tuple(losses.shape)}")


_NOT_REACHED = "gradients: the backward pass did not reach {} as it must, once with every row; the engine cannot bound its gradient"


# Inputs and output gradients that wait for those of like layers, of one pass.
_MAX_PENDING_BYTES = 64 * 2**20


class LoraEngine:
    """One forward and one backward pass; a row's gradient is the product of a layer's input and its output gradient.

    What is held until the clip is (U, P) for the units of the passes. The inputs and output gradients themselves would take more: at LoRA's
    rank a row's products are smaller than its activations from about twenty tokens on; only those of a few layers wait, to be multiplied
    together. And clipping after the fact, by scaled activations in one product over all rows, would round the units together.
    Source: Goodfellow (2015), https://arxiv.org/abs/1510.01799, for sequences: the sum over tokens of outer products.
    """

    def __init__(self, model: nn.Module) -> None:
        self._offsets: dict[int, int] = {}
        self.num_params, self._device = 0, next(model.parameters()).device
        self._kept = torch.empty(0, 0)
        modules = list(model.modules())
        reporters = [getattr(module, "product_reporter", None) for module in modules]
        self._reporters = [reporter for reporter in reporters if isinstance(reporter, ProductReporter)]
        reported = {id(weight) for reporter in self._reporters for weight in reporter.weights}
        owners = {id(m.weight): m for m in modules if isinstance(m, nn.Linear) and m.weight.requires_grad}
        for name, parameter in trainable_parameters(model):
            layer = owners.get(id(parameter))
            # torch declares a bias that may be None as never None.
            if layer is None or layer.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
                raise PrivacyError(f"gradients: {name} is not the weight of a bias-free linear layer; the lora engine cannot bound its gradient")
            self._offsets[id(parameter)] = self.num_params
            self.num_params += parameter.numel()
        self._hooked = [layer for key, layer in owners.items() if key in self._offsets and key not in reported]

    def unit_gradients(self, passes: Sequence[RowPass], num_units: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients (U, P), one a unit, in memory that the next call uses again, and losses, one a row in the order of the passes. PRIVATE."""
        counts = count_rows_of_units(passes, num_units)
        grads = self._make_room(num_units)
        for unit, count in enumerate(counts):
            if not count:
                grads[unit].zero_()
        begun: set[int] = set()
        try:
            losses = [self._run(row_pass, grads, begun) for row_pass in passes]
        except RuntimeError:
            # Perhaps there was no memory: the next try, with fewer units, must not find this much of it taken.
            self._kept = torch.empty(0, 0)
            raise
        for unit, count in enumerate(counts):
            if count > 1:
                grads[unit] /= count
        return grads, torch.cat(losses) if losses else torch.zeros(0)

    def _make_room(self, num_units: int) -> torch.Tensor:
        """(U, P), not filled. New memory of this size costs as much as the products that are written to it."""
        if len(self._kept) < num_units:
            # Let go before more is taken.
            self._kept = torch.empty(0, 0)
            self._kept = torch.empty(num_units, self.num_params, device=self._device)
        return self._kept[:num_units]

    def _run(self, row_pass: RowPass, grads: torch.Tensor, begun: set[int]) -> torch.Tensor:
        products = _RowProducts(row_pass, self._offsets, grads, begun)

        def watch(layer: nn.Linear, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            if not output.requires_grad:
                # A forward pass without a graph, which comes again with one (see `recompute_layers`).
                return
            row_inputs, whole = inputs[0].detach(), [WeightPart(layer.weight, slice(None), slice(None))]
            output.register_hook(lambda output_grad: products.receive(whole, row_inputs, output_grad))  # pyright: ignore

        hooks = [layer.register_forward_hook(watch) for layer in self._hooked]
        for reporter in self._reporters:
            reporter.receive = products.receive
        try:
            losses = row_pass.compute_losses()
            _check_losses(losses, row_pass)
            # Only the products are used. The gradients of hooked layers that come back cost little at LoRA's rank; the others return none.
            weights = [layer.weight for layer in self._hooked] + [weight for reporter in self._reporters for weight in reporter.weights]
            torch.autograd.grad(losses.sum(), weights, allow_unused=True)
        finally:
            for hook in hooks:
                hook.remove()
            for reporter in self._reporters:
                reporter.receive = None
        products.add_pending()
        if sorted(products.reached) != sorted(self._offsets):
            raise PrivacyError(_NOT_REACHED.format("every adapted layer"))
        return losses.detach()


class _RowProducts:
    """Adds each row's products to the gradient of its unit, those of like layers together: one alone is mostly overhead."""

    def __init__(self, row_pass: RowPass, offsets: dict[int, int], grads: torch.Tensor, begun: set[int]) -> None:
        """begun: units whose gradients hold rows of passes before this one, to which its own units are added; the others' hold anything yet."""
        self.reached: list[int] = []
        """Identities of the weights that products came for."""
        self._is_first: list[bool] = []
        for unit in row_pass.row_units:
            self._is_first.append(unit not in begun)
            begun.add(unit)
        self._row_pass, self._offsets, self._grads = row_pass, offsets, grads
        self._num_tokens = sum(row_pass.row_lengths)
        self._pending: dict[Any, list[tuple[Sequence[WeightPart], torch.Tensor, torch.Tensor]]] = {}
        self._pending_bytes = 0

    def receive(self, parts: Sequence[WeightPart], inputs: torch.Tensor, output_grads: torch.Tensor) -> None:
        """See `ProductReporter`."""
        if output_grads.shape[:-1] != inputs.shape[:-1] or output_grads[..., 0].numel() < self._num_tokens:
            raise PrivacyError(_NOT_REACHED.format("an adapted layer"))
        self.reached.extend(id(part.weight) for part in parts)
        tokens_in, tokens_out = inputs.flatten(0, -2), output_grads.flatten(0, -2).to(inputs.dtype)
        kind = tokens_in.shape[1], tokens_out.shape[1], tokens_in.dtype, str([(part.outputs, part.inputs) for part in parts])
        self._pending.setdefault(kind, []).append((parts, tokens_in, tokens_out))
        self._pending_bytes += tokens_in.nbytes + tokens_out.nbytes
        if self._pending_bytes > _MAX_PENDING_BYTES:
            self.add_pending()

    def add_pending(self) -> None:
        """Adds what has come since the last time. How many layers that is depends on the size of the pass, not on what is in it."""
        for layers in self._pending.values():
            # Backward passes come from the last layer to the first.
            self._add(layers[::-1])
        self._pending, self._pending_bytes = {}, 0

    def _add(self, layers: list[tuple[Sequence[WeightPart], torch.Tensor, torch.Tensor]]) -> None:
        start = 0
        for length, unit, is_first in zip(self._row_pass.row_lengths, self._row_pass.row_units, self._is_first, strict=True):
            row = slice(start, start + length)
            products = _multiply(torch.stack([inputs[row] for _, inputs, _ in layers]), torch.stack([grads[row] for _, _, grads in layers]))
            for index, part in enumerate(layers[0][0]):
                weights, own = [parts[index].weight for parts, _, _ in layers], products[:, part.outputs, part.inputs]
                for place, product in self._find_places(unit, weights, own):
                    # The first row is written, not added to zeros: that is twice as much memory to go through.
                    place.copy_(product) if is_first else place.add_(product)
            start += length

    def _find_places(self, unit: int, weights: Sequence[torch.Tensor], products: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The places of L weights in the gradient of a unit, each with its part of the products (L, n, k)."""
        offsets = [self._offsets[id(weight)] for weight in weights]
        stride = offsets[1] - offsets[0] if len(offsets) > 1 else self._grads.shape[1]
        if offsets == list(range(offsets[0], offsets[0] + stride * len(offsets), stride) if stride > 0 else []):
            # Layers of one build follow each other at one distance: all their places are one view.
            steps = (stride, products.shape[2], 1)
            return [(torch.as_strided(self._grads, products.shape, steps, self._grads.stride(0) * unit + offsets[0]), products)]
        return [(self._grads[unit, offset:][: product.numel()].view_as(product), product) for offset, product in zip(offsets, products, strict=True)]


def _multiply(inputs: torch.Tensor, output_grads: torch.Tensor) -> torch.Tensor:
    """A row's gradients of the weights of L layers, (L, N, K): the sums over its tokens of outer products.

    The narrow side is copied, so that every row's product has the same layout in memory wherever the row lies, and stands on the left.

    Args:
      inputs: (L, T, K)
      output_grads: (L, T, N)
    """
    if inputs.shape[2] < output_grads.shape[2]:
        return torch.bmm(inputs.transpose(1, 2).contiguous(), output_grads).transpose(1, 2)
    return torch.bmm(output_grads.transpose(1, 2).contiguous(), inputs)


class OpacusEngine:
    """Opacus' `GradSampleModule` with hooks, one row a pass; its samplers, noise and accountants are not used.

    Source: Yousefpour et al. (2021), https://arxiv.org/abs/2109.12298
    """

    def __init__(self, model: nn.Module) -> None:
        try:
            from opacus import GradSampleModule  # pyright: ignore[reportMissingTypeStubs]
        except ImportError:
            raise PrivacyError("gradients: the engine opacus is not installed; install penname[opacus] or use the engine lora") from None
        self._parameters = [parameter for _, parameter in trainable_parameters(model)]
        self._device = next(model.parameters()).device
        self._module = GradSampleModule(model, batch_first=True, loss_reduction="sum")
        self._module.disable_hooks()
        self.num_params = sum(parameter.numel() for parameter in self._parameters)

    def unit_gradients(self, passes: Sequence[RowPass], num_units: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients (U, P), one a unit, and losses, one a row in the order of the passes. PRIVATE."""
        counts = count_rows_of_units(passes, num_units)
        grads = torch.zeros(num_units, self.num_params, device=self._device)
        losses: list[torch.Tensor] = []
        self._module.enable_hooks()
        try:
            for row_pass in passes:
                losses.append(self._run(row_pass, grads))
        finally:
            self._module.disable_hooks()
            self._forget()
        for unit, count in enumerate(counts):
            if count > 1:
                grads[unit] /= count
        return grads, torch.cat(losses) if losses else torch.zeros(0)

    def _run(self, row_pass: RowPass, grads: torch.Tensor) -> torch.Tensor:
        if len(row_pass.row_units) != 1:
            raise PrivacyError("gradients: the engine opacus takes one row a pass; its hooks know rows by the batch axis, not by their place in it")
        losses = row_pass.compute_losses()
        _check_losses(losses, row_pass)
        with warnings.catch_warnings():
            # The first adapter's input comes from the frozen embedding and needs no gradient; its hook fires all the same.
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            losses.sum().backward()  # pyright: ignore[reportUnknownMemberType]
        found: list[torch.Tensor | None] = [getattr(parameter, "grad_sample", None) for parameter in self._parameters]
        samples = [sample for sample in found if sample is not None and len(sample) == 1]
        if len(samples) != len(found):
            raise PrivacyError(_NOT_REACHED.format("every adapted layer"))
        grads[row_pass.row_units[0]] += torch.cat([sample.reshape(-1).float() for sample in samples])
        self._forget()
        return losses.detach()

    def _forget(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None
            parameter.grad_sample = None  # pyright: ignore[reportAttributeAccessIssue]


class SummedEngine:
    """The gradient of the plain sum over units, for the arm without DP, where nobody's own gradient is needed."""

    def __init__(self, model: nn.Module) -> None:
        self._parameters = [parameter for _, parameter in trainable_parameters(model)]
        self._device = next(model.parameters()).device
        self.num_params = sum(parameter.numel() for parameter in self._parameters)

    def summed_gradient(self, passes: Sequence[RowPass], num_units: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The sum over units of the mean over their rows, (P,), and losses, one a row in the order of the passes. PRIVATE."""
        counts = count_rows_of_units(passes, num_units)
        total = torch.zeros(self.num_params, device=self._device)
        losses: list[torch.Tensor] = []
        for row_pass in passes:
            row_losses = row_pass.compute_losses()
            _check_losses(row_losses, row_pass)
            weights = torch.tensor([1.0 / counts[unit] for unit in row_pass.row_units], device=row_losses.device)
            grads = torch.autograd.grad((row_losses * weights).sum(), self._parameters)
            total += torch.cat([grad.reshape(-1).float() for grad in grads])
            losses.append(row_losses.detach())
        return total, torch.cat(losses) if losses else torch.zeros(0)


GRADIENT_ENGINES: dict[str, type[LoraEngine] | type[OpacusEngine]] = {"lora": LoraEngine, "opacus": OpacusEngine}
