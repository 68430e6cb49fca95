"""Per-unit gradients: two engines with one contract, checked against the slow loop of one row at a time.

Contract. An engine is built on a model whose trainable parameters are the weights of bias-free linear layers, and then
`row_gradients(compute_losses)` runs `compute_losses`, which returns one loss a row, (B,), where row b's loss depends on row b alone, and
gives each row's own gradient, (B, P) float32, P in the order of `trainable_parameters(model)`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import nn

from penname.privacy.errors import PrivacyError

ComputeLosses = Callable[[], torch.Tensor]


class GradientEngine(Protocol):
    """What the training loop needs of an engine."""

    def row_gradients(self, compute_losses: ComputeLosses) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients (B, P) and losses (B,), one a row. PRIVATE."""
        ...


def trainable_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Names and parameters that training may change, in the model's own order: P is the sum of their sizes."""
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def average_rows_of_units(row_grads: torch.Tensor, row_units: Sequence[int], num_units: int) -> torch.Tensor:
    """One gradient a unit: the mean over the unit's own rows, before any clipping.

    Args:
      row_grads: (B, P). PRIVATE.
      row_units: Unit of each row, 0 <= unit < num_units. Every unit's rows must all be here. PRIVATE.
      num_units: U.
    Returns:
      (U, P). PRIVATE.
    Source: Charles et al. (2024), user-level sampling. https://arxiv.org/abs/2407.07737
    """
    index = torch.as_tensor(row_units, dtype=torch.long)
    counts = torch.bincount(index, minlength=num_units).clamp(min=1)
    if len(row_grads) == num_units and bool((index == torch.arange(num_units)).all()):
        return row_grads
    sums = torch.zeros(num_units, row_grads.shape[1], dtype=row_grads.dtype).index_add_(0, index, row_grads)
    return sums / counts[:, None]


class LoraEngine:
    """One forward and one backward pass; a row's gradient is the product of a layer's input and its output gradient.

    Source: Goodfellow (2015), https://arxiv.org/abs/1510.01799, for sequences: the sum over tokens of outer products.
    """

    def __init__(self, model: nn.Module) -> None:
        self._offsets: dict[nn.Linear, int] = {}
        self.num_params = 0
        owners = {id(m.weight): m for m in model.modules() if isinstance(m, nn.Linear) and m.weight.requires_grad}
        for name, parameter in trainable_parameters(model):
            layer = owners.get(id(parameter))
            # torch declares a bias that may be None as never None.
            if layer is None or layer.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
                raise PrivacyError(f"gradients: {name} is not the weight of a bias-free linear layer; the lora engine cannot bound its gradient")
            self._offsets[layer] = self.num_params
            self.num_params += parameter.numel()
        self._grads: torch.Tensor | None = None

    def row_gradients(self, compute_losses: ComputeLosses) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients (B, P) and losses (B,), one a row. PRIVATE."""
        self._grads = None
        hooks = [layer.register_forward_hook(self._watch) for layer in self._offsets]
        try:
            losses = compute_losses()
            if losses.ndim != 1:
                raise PrivacyError(f"gradients: compute_losses must return one loss a row, got the shape {tuple(losses.shape)}")
            weights = [layer.weight for layer in self._offsets]
            # Only the hooks' products are used; the summed gradients that come back cost little at LoRA's rank.
            torch.autograd.grad(losses.sum(), weights, allow_unused=True)
        finally:
            for hook in hooks:
                hook.remove()
        grads, self._grads = self._grads, None
        if grads is None or len(grads) != len(losses):
            raise PrivacyError("gradients: the backward pass did not reach the adapters with one row a loss")
        return grads, losses.detach()

    def _watch(self, layer: nn.Linear, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        row_inputs = inputs[0].detach()

        def add_product(output_grad: torch.Tensor) -> None:
            self._add(layer, row_inputs, output_grad)

        output.register_hook(add_product)  # pyright: ignore[reportUnknownMemberType]

    def _add(self, layer: nn.Linear, row_inputs: torch.Tensor, output_grad: torch.Tensor) -> None:
        rows = output_grad.shape[0]
        if self._grads is None:
            self._grads = torch.zeros(rows, self.num_params)
        # (B, out, T) @ (B, T, in): the sum over tokens of outer products.
        product = output_grad.reshape(rows, -1, output_grad.shape[-1]).transpose(1, 2) @ row_inputs.reshape(rows, -1, row_inputs.shape[-1])
        start = self._offsets[layer]
        self._grads[:, start : start + product[0].numel()] += product.reshape(rows, -1).float()


class OpacusEngine:
    """Opacus' `GradSampleModule` with hooks; its samplers, noise and accountants are not used.

    Source: Yousefpour et al. (2021), https://arxiv.org/abs/2109.12298
    """

    def __init__(self, model: nn.Module) -> None:
        try:
            from opacus import GradSampleModule  # pyright: ignore[reportMissingTypeStubs]
        except ImportError:
            raise PrivacyError("gradients: the engine opacus is not installed; install penname[opacus] or use the engine lora") from None
        self._parameters = [parameter for _, parameter in trainable_parameters(model)]
        self._module = GradSampleModule(model, batch_first=True, loss_reduction="sum")
        self._module.disable_hooks()
        self.num_params = sum(parameter.numel() for parameter in self._parameters)

    def row_gradients(self, compute_losses: ComputeLosses) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients (B, P) and losses (B,), one a row. PRIVATE."""
        self._module.enable_hooks()
        try:
            losses = compute_losses()
            if losses.ndim != 1:
                raise PrivacyError(f"gradients: compute_losses must return one loss a row, got the shape {tuple(losses.shape)}")
            with warnings.catch_warnings():
                # The first adapter's input comes from the frozen embedding and needs no gradient; its hook fires all the same.
                warnings.filterwarnings("ignore", message="Full backward hook is firing")
                losses.sum().backward()  # pyright: ignore[reportUnknownMemberType]
            found: list[torch.Tensor | None] = [getattr(parameter, "grad_sample", None) for parameter in self._parameters]
            samples = [sample for sample in found if sample is not None and len(sample) == len(losses)]
            if len(samples) != len(found):
                raise PrivacyError("gradients: the backward pass did not reach the adapters with one row a loss")
            grads = torch.cat([sample.reshape(len(losses), -1).float() for sample in samples], dim=1)
        finally:
            self._module.disable_hooks()
            for parameter in self._parameters:
                parameter.grad = None
                parameter.grad_sample = None  # pyright: ignore[reportAttributeAccessIssue]
        return grads, losses.detach()


class SummedEngine:
    """The gradient of the plain sum, for the arm without DP, where nobody's own gradient is needed: one row, (1, P)."""

    def __init__(self, model: nn.Module) -> None:
        self._parameters = [parameter for _, parameter in trainable_parameters(model)]
        self.num_params = sum(parameter.numel() for parameter in self._parameters)

    def summed_gradient(self, compute_losses: ComputeLosses, row_weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The gradient of the weighted sum of the rows' losses, (P,), and the losses, (B,). PRIVATE."""
        losses = compute_losses()
        grads = torch.autograd.grad((losses * row_weights).sum(), self._parameters)
        return torch.cat([grad.reshape(-1).float() for grad in grads]), losses.detach()


GRADIENT_ENGINES: dict[str, type[LoraEngine] | type[OpacusEngine]] = {"lora": LoraEngine, "opacus": OpacusEngine}
