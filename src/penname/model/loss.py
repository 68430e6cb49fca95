"""The loss of one record: the mean over its own completion tokens, and of nothing else.

The loss that transformers returns divides by the tokens of the whole batch, so that one record rescales the others before they are
clipped. Here row b's loss depends on row b alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from penname.model.base import split_head
from penname.model.packing import PackedRows, decode_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Every chunk has this many tokens, the last one filled up with zeros: the rounding of a product depends on its shape.
_CHUNK_TOKENS = 128
_SMALLEST_PROB = 1e-30


def record_losses(model: PreTrainedModel, rows: PackedRows, upper: Any = None) -> torch.Tensor:
    """The loss of each record.

    Guarantee: a record's loss and gradient do not depend on the other records that it is packed with, bit for bit, as long as all are packed
    to the same number of tokens and the machine computes a product of one shape in one way.

    Args:
      model: A causal LM, with or without adapters; packed rows need `enable_packing` on its base.
      rows: B records in M tokens. PRIVATE.
      upper: For rows with states: the part of the decoder that they have not gone through.
    Returns:
      (B,) float32, nats per completion token. PRIVATE.
    """
    of_tokens, counts = token_losses(model, rows, upper)
    return torch.stack([losses.mean() for losses in of_tokens.split(counts)])


def token_losses(model: PreTrainedModel, rows: PackedRows, upper: Any = None) -> tuple[torch.Tensor, list[int]]:
    """The loss of each completion token, minus the logarithm of its probability given what is before it.

    Args:
      model, rows, upper: As in `record_losses`, with its guarantee.
    Returns:
      (sum of counts,) float32, nats, record after record, and how many completion tokens each of B records has. PRIVATE.
    """
    decoder, head = split_head(model)
    positions, targets, counts = rows.predicting()
    hidden = decode_rows(decoder if upper is None else upper, rows)[positions]
    return _ChunkedCrossEntropy.apply(hidden, head.weight, head.bias, targets), counts


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Cross-entropy of each token through a frozen vocabulary projection, without keeping the (tokens, V) logits."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor) -> torch.Tensor:
        losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        hidden_grads = torch.empty_like(hidden)
        # One chunk's buffers for all chunks: at a vocabulary's width new memory costs as much as what is computed in it.
        logits = hidden.new_empty(_CHUNK_TOKENS, len(weight))
        probs = torch.empty(logits.shape, dtype=torch.float32, device=hidden.device)
        for start in range(0, len(hidden), _CHUNK_TOKENS):
            chunk = slice(start, start + _CHUNK_TOKENS)
            num_tokens = len(targets[chunk])
            inputs = functional.pad(hidden[chunk], (0, 0, 0, _CHUNK_TOKENS - num_tokens))
            torch.mm(inputs, weight.T, out=logits)
            if bias is not None:
                logits += bias
            probs.copy_(logits)
            torch.softmax(probs, dim=1, out=probs)
            losses[chunk] = _negative_logs(probs[:num_tokens], logits[:num_tokens], targets[chunk])
            if hidden.requires_grad:
                probs[torch.arange(num_tokens, device=targets.device), targets[chunk]] -= 1.0
                logits.copy_(probs)
                hidden_grads[chunk] = (logits @ weight)[:num_tokens]
        ctx.save_for_backward(hidden_grads)
        return losses

    @staticmethod
    def backward(ctx: Any, *loss_grads: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (hidden_grads,) = ctx.saved_tensors
        return hidden_grads * loss_grads[0][:, None].to(hidden_grads.dtype), None, None, None


def _negative_logs(probs: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Minus the logarithm of each target's probability, (tokens,) float32."""
    of_targets = probs.gather(1, targets[:, None])[:, 0]
    losses = -of_targets.log()
    # So unlikely that the probability is no longer a normal number.
    lost = (of_targets < _SMALLEST_PROB).nonzero()[:, 0]
    if len(lost):
        wide = logits[lost].float()
        losses[lost] = wide.logsumexp(1) - wide.gather(1, targets[lost, None])[:, 0]
    return losses
