"""The loss of one record: the mean over its own completion tokens, and of nothing else.

The loss that transformers returns divides by the tokens of the whole batch, so that one record rescales the others before they are
clipped. Here row b's loss depends on row b alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from penname.model.base import split_head
from penname.model.tokenize import TokenizedRecord

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_CHUNK_TOKENS = 512


@dataclass(frozen=True)
class PaddedBatch:
    """Records padded on the right to one length. PRIVATE."""

    token_ids: torch.Tensor
    """(B, T) int64."""
    predicts: torch.Tensor
    """(B, T) bool: the positions whose next token is a completion token of the row."""

    @classmethod
    def from_records(cls, records: Sequence[TokenizedRecord], *, pad_id: int) -> PaddedBatch:
        """Pads B records to the longest."""
        length = max(len(record.token_ids) for record in records)
        token_ids = torch.full((len(records), length), pad_id, dtype=torch.long)
        predicts = torch.zeros((len(records), length), dtype=torch.bool)
        for row, record in enumerate(records):
            token_ids[row, : len(record.token_ids)] = torch.tensor(record.token_ids)
            predicts[row, record.num_prompt_tokens - 1 : len(record.token_ids) - 1] = True
        return cls(token_ids, predicts)


def record_losses(model: PreTrainedModel, batch: PaddedBatch) -> torch.Tensor:
    """The loss of each record.

    Guarantee: a record's loss and gradient do not depend on the other records of the batch. Padding stands on the right of a causal model,
    so no real position sees it, and no attention mask is needed.

    Args:
      model: A causal LM, with or without adapters.
      batch: B records of T tokens. PRIVATE.
    Returns:
      (B,) float32, nats per completion token. PRIVATE.
    """
    decoder, head = split_head(model)
    hidden = decoder(input_ids=batch.token_ids, use_cache=False).last_hidden_state
    rows, positions = batch.predicts.nonzero(as_tuple=True)
    targets = batch.token_ids[rows, positions + 1]
    token_losses = _ChunkedCrossEntropy.apply(hidden[rows, positions], head.weight, head.bias, targets)
    counts = batch.predicts.sum(1)
    sums = torch.zeros(len(counts), dtype=torch.float32).index_add(0, rows, token_losses)
    return sums / counts


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Cross-entropy of each token through a frozen vocabulary projection, without keeping the (tokens, V) logits."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor) -> torch.Tensor:
        losses = torch.empty(len(hidden), dtype=torch.float32)
        hidden_grads = torch.empty_like(hidden)
        for start in range(0, len(hidden), _CHUNK_TOKENS):
            chunk = slice(start, start + _CHUNK_TOKENS)
            logits = functional.linear(hidden[chunk], weight, bias).float()
            log_norms = logits.logsumexp(1)
            losses[chunk] = log_norms - logits.gather(1, targets[chunk, None])[:, 0]
            if hidden.requires_grad:
                probs = (logits - log_norms[:, None]).exp_()
                probs[torch.arange(len(probs)), targets[chunk]] -= 1.0
                hidden_grads[chunk] = probs.to(weight.dtype) @ weight
        ctx.save_for_backward(hidden_grads)
        return losses

    @staticmethod
    def backward(ctx: Any, *loss_grads: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (hidden_grads,) = ctx.saved_tensors
        return hidden_grads * loss_grads[0][:, None].to(hidden_grads.dtype), None, None, None
