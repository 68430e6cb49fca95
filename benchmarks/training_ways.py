"""The ways to train one step that are compared. Each is built once and then asked for whole steps on the same units.

A step of ours and of Opacus is all of it: gradients, clipping, sum, noise, Adam. That of the roofline is the matrix products alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional
from training_workload import MAX_RECORD_TOKENS, MODEL

from penname.config import ModelConfig, TrainConfig
from penname.model import loss as model_loss
from penname.model.adapter import attach_adapter
from penname.model.base import load_base_model, split_head
from penname.model.tokenize import TokenizedRecord
from penname.privacy.clipping import BoundedSum
from penname.privacy.gradients import trainable_parameters
from penname.privacy.keystream import Keystream
from penname.privacy.ledger import Receipt
from penname.privacy.mechanism import DpSgd, NonPrivateSum
from penname.train.arms import NonPrivateArm, PrivateArm
from penname.train.layout import Layout, Unit, count_tokens, sum_units
from penname.train.prepare import prepare_model

L2_CLIP_NORM = 0.1
_NUM_STEPS = 1_000_000
# Small, so that hundreds of steps of noise leave the weights near where they began.
_LEARNING_RATE = 1e-6
_ORIGINAL_MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj"]
_ORIGINAL_TOKENS = 256
_HEAD_CHUNK = 128


class Way(Protocol):
    """One way to train."""

    def step(self, units: Sequence[Unit]) -> None:
        """One optimizer step on these units."""
        ...


def make_dp_sgd(seed: int, *, noise_multiplier: float = 1.0, l2_clip_norm: float = L2_CLIP_NORM) -> DpSgd:
    """A mechanism that may add noise without a ledger: its key is a seed, so nothing it makes could be released."""
    mechanism = DpSgd(noise_multiplier, 0.01, _NUM_STEPS, l2_clip_norm, Keystream.from_seed(seed))
    return replace(mechanism, receipt=Receipt("benchmark", mechanism.event, mechanism.keystream.commitment))


class PennameWay:
    """Ours: `no_dp` or `lora`, as the stage trains."""

    def __init__(self, arm: str, config: ModelConfig = MODEL, train: TrainConfig | None = None, *, seed: int = 1) -> None:
        model, tokenizer = load_base_model(config)
        pad_id: Any = tokenizer.eos_token_id
        settings = (train or TrainConfig(max_record_tokens=MAX_RECORD_TOKENS)).model_copy(update={"seed": seed})
        prepared, self.layout = prepare_model(model, config, settings, pad_id=pad_id)
        self.model = prepared.train()
        if arm == "no_dp":
            self.arm = NonPrivateArm.build(self.model, NonPrivateSum(0.01, _NUM_STEPS, Keystream.from_seed(seed)))
        else:
            self.arm = PrivateArm.build(self.model, make_dp_sgd(seed), engine_name=arm)
        self._update = Update(self.model, self.arm.mechanism)

    def step(self, units: Sequence[Unit]) -> None:
        total, _ = sum_units(self.model, units, self.arm, self.layout)
        self._update.apply(total, len(units))


class Update:
    """What follows the sum: noise, division, Adam. The same code for every way but the original's."""

    def __init__(self, model: nn.Module, mechanism: DpSgd | NonPrivateSum, *, learning_rate: float = _LEARNING_RATE) -> None:
        self._parameters = [parameter for _, parameter in trainable_parameters(model)]
        self._optimizer = torch.optim.Adam(self._parameters, lr=learning_rate)
        self._mechanism = mechanism
        self._step = 0

    def apply(self, total: BoundedSum, num_units: int) -> None:
        """Releases the sum as this step's and takes the step."""
        flat = self._mechanism.release(self._step, total) / num_units
        self._step += 1
        start = 0
        for parameter in self._parameters:
            parameter.grad = flat[start : start + parameter.numel()].view_as(parameter)
            start += parameter.numel()
        self._optimizer.step()
        self._optimizer.zero_grad()


class OpacusWay:
    """Opacus with everything else equal: bf16 base, units sorted by length and right-padded, causal without a mask, loss on completion tokens in chunks.

    `hooks` clips as we do; `ghost` makes two backward passes, as Opacus does, and no per-unit gradients.
    """

    def __init__(self, mode: str, *, physical_tokens: int, config: ModelConfig = MODEL, seed: int = 1) -> None:
        from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping

        model, _ = load_base_model(config)
        self._model = attach_adapter(model, config, seed=seed).train()
        self._mechanism = make_dp_sgd(seed)
        self._parameters = [parameter for _, parameter in trainable_parameters(self._model)]
        self._update = Update(self._model, self._mechanism)
        if mode == "hooks":
            self._module: Any = GradSampleModule(self._model, batch_first=True, loss_reduction="sum")
            self._sum_batch = self._sum_with_hooks
        else:
            bound: Any = L2_CLIP_NORM
            self._module = GradSampleModuleFastGradientClipping(self._model, batch_first=True, loss_reduction="sum", max_grad_norm=bound)
            self._sum_batch = self._sum_with_ghosts
        self.physical_tokens = physical_tokens

    def step(self, units: Sequence[Unit]) -> None:
        total = self._mechanism.empty_sum(sum(parameter.numel() for parameter in self._parameters))
        with warnings.catch_warnings():
            # The first adapter's input comes from the frozen embedding and needs no gradient; its hook fires all the same.
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            for batch in cut_padded([unit[0] for unit in units], self.physical_tokens):
                total = total.add_disjoint(self._sum_batch(batch))
        self._update.apply(total, len(units))

    def _sum_with_hooks(self, batch: list[TokenizedRecord]) -> BoundedSum:
        padded_losses(self._model, batch).sum().backward()
        samples: list[torch.Tensor] = [parameter.grad_sample for parameter in self._parameters]  # pyright: ignore[reportAttributeAccessIssue]
        total = self._mechanism.sum_units(torch.cat([sample.reshape(len(batch), -1) for sample in samples], dim=1))
        self._module.zero_grad()
        return total

    def _sum_with_ghosts(self, batch: list[TokenizedRecord]) -> BoundedSum:
        losses = padded_losses(self._model, batch)
        losses.sum().backward(retain_graph=True)
        scales = self._module.get_clipping_coef()
        self._module.disable_hooks()
        self._module.zero_grad()
        (scales.to(losses) * losses).sum().backward()
        self._module.enable_hooks()
        grads = [parameter.grad.reshape(-1) for parameter in self._parameters if parameter.grad is not None]
        total = BoundedSum(torch.cat(grads).double(), L2_CLIP_NORM, len(batch), 0)
        self._module.zero_grad()
        return total


def cut_padded(records: Sequence[TokenizedRecord], physical_tokens: int) -> list[list[TokenizedRecord]]:
    """Physical batches of records of like length, each at most this many tokens when padded to its longest."""
    batches: list[list[TokenizedRecord]] = []
    for record in sorted(records, key=lambda record: len(record.token_ids), reverse=True):
        if not batches or len(batches[-1][0].token_ids) * (len(batches[-1]) + 1) > physical_tokens:
            batches.append([])
        batches[-1].append(record)
    return batches


def padded_losses(model: Any, records: Sequence[TokenizedRecord]) -> torch.Tensor:
    """The loss of each record, (B,), from one right-padded batch: what `record_losses` computes from packed rows."""
    decoder, head = split_head(model)
    longest = max(len(record.token_ids) for record in records)
    token_ids = torch.tensor([record.token_ids + [0] * (longest - len(record.token_ids)) for record in records])
    # Right-padded and causal: no token sees the filling, so no mask is needed.
    hidden = decoder(input_ids=token_ids, use_cache=False).last_hidden_state.flatten(0, 1)
    places = [row * longest + position for row, record in enumerate(records) for position in range(record.num_prompt_tokens - 1, len(record.token_ids) - 1)]
    index = torch.tensor(places)
    token_losses: Any = model_loss._ChunkedCrossEntropy.apply(hidden[index], head.weight, head.bias, token_ids.flatten()[index + 1])
    return torch.stack([losses.mean() for losses in token_losses.split([record.num_completion_tokens for record in records])])


class OriginalWay:
    """The recipe of the system we set out from: float32, padded to 256, full logits, loss on all tokens, Opacus' own engine and optimizer."""

    def __init__(self, *, seed: int = 1) -> None:
        from opacus import PrivacyEngine

        config = MODEL.model_copy(update={"dtype": "float32", "target_modules": _ORIGINAL_MODULES, "lora_dropout": 0.05})
        model, tokenizer = load_base_model(config)
        self._pad_id: Any = tokenizer.eos_token_id
        adapted = attach_adapter(model, config, seed=seed).train()
        optimizer = torch.optim.AdamW([parameter for _, parameter in trainable_parameters(adapted)], lr=_LEARNING_RATE)
        # Its loader is fed by hand below; the engine wants one to know the size of the data.
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(64)), batch_size=2)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Secure RNG turned off")
            made: Any = PrivacyEngine().make_private(
                module=adapted, optimizer=optimizer, data_loader=loader, noise_multiplier=0.3, max_grad_norm=5.0, poisson_sampling=False
            )
        self._module, self._optimizer, _ = made
        self._optimizer.step_hook = None
        self.batch_size = 2

    def step(self, units: Sequence[Unit]) -> None:
        records = [record for unit in units for record in unit]
        for start in range(0, len(records), self.batch_size):
            batch = records[start : start + self.batch_size]
            token_ids = torch.tensor([record.token_ids + [self._pad_id] * (_ORIGINAL_TOKENS - len(record.token_ids)) for record in batch])
            mask = torch.tensor([[1] * len(record.token_ids) + [0] * (_ORIGINAL_TOKENS - len(record.token_ids)) for record in batch])
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Full backward hook is firing")
                self._module(input_ids=token_ids, attention_mask=mask, labels=token_ids.masked_fill(mask == 0, -100)).loss.backward()
            self._optimizer.step()
            self._optimizer.zero_grad()


class Roofline:
    """The matrix products of our step alone, for the same tiles: frozen layers forward, gradients of their inputs backward, the vocabulary both ways.

    Left out are the adapters, attention, norms, and everything that is not a product with a frozen weight.
    """

    def __init__(self, layout: Layout, config: ModelConfig = MODEL) -> None:
        model: Any = load_base_model(config)[0]
        if layout.tile_tokens is None:
            raise ValueError("the roofline is of packed rows")
        self._layout, self._tile_tokens = layout, layout.tile_tokens
        self._forward = [m.weight for name, m in model.named_modules() if isinstance(m, nn.Linear) and not name.endswith("lm_head")]
        num_layers = model.config.num_hidden_layers
        first = num_layers - (config.top_layers or num_layers)
        # The first adapted layer's attention reads what no adapter has touched: no gradient is wanted there.
        unwanted = tuple(f".layers.{first}.self_attn.{name}_proj" for name in "qkv")
        adapted = tuple(f".layers.{layer}." for layer in range(first, num_layers))
        named = [(f".{name}", m) for name, m in model.named_modules() if isinstance(m, nn.Linear)]
        self._backward = [m.weight for name, m in named if any(part in name for part in adapted) and not name.endswith(unwanted)]
        self._head: torch.Tensor = model.get_output_embeddings().weight
        self._inputs: dict[tuple[int, int], torch.Tensor] = {}

    @torch.no_grad()
    def step(self, units: Sequence[Unit]) -> None:
        for batch in self._layout.cut(units):
            num_tokens = self._tile_tokens * -(-sum(map(count_tokens, batch)) // self._tile_tokens)
            for weight in self._forward:
                functional.linear(self._input(num_tokens, weight.shape[1]), weight)
            left = sum(record.num_completion_tokens for unit in batch for record in unit)
            hidden, grad = self._input(_HEAD_CHUNK, self._head.shape[1]), self._input(_HEAD_CHUNK, self._head.shape[0])
            while left > 0:
                rows = min(left, _HEAD_CHUNK)
                functional.linear(hidden[:rows], self._head)
                torch.matmul(grad[:rows], self._head)
                left -= rows
            for weight in self._backward:
                torch.matmul(self._input(num_tokens, weight.shape[0]), weight)

    def _input(self, rows: int, width: int) -> torch.Tensor:
        if (rows, width) not in self._inputs:
            self._inputs[rows, width] = torch.randn(rows, width).to(self._head.dtype)
        return self._inputs[rows, width]


def count_padding(layout: Layout, draws: Sequence[Sequence[Unit]]) -> float:
    """Filled positions / all, over these draws."""
    if layout.tile_tokens is None:
        return 0.0
    tokens = positions = 0
    for units in draws:
        for batch in layout.cut(units):
            size = sum(map(count_tokens, batch))
            tokens += size
            positions += layout.tile_tokens * -(-size // layout.tile_tokens)
    return 1 - tokens / positions
