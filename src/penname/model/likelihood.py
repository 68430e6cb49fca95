"""How likely a model finds texts, token by token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from penname.model.tokenize import TokenizedRecord, encode_record

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

TILE_TOKENS = 512
"""Tokens of a forward pass: every one has this many, but for longer records, so that a record's figures do not depend on the others."""


@dataclass(frozen=True, slots=True)
class TokenLikelihoods:
    """What a model thinks of the completions of n records, token by token. PRIVATE when the records are."""

    log_likelihoods: np.ndarray
    """(T,) natural logarithm of each token's probability given those before it, record after record."""
    num_tokens: np.ndarray
    """(n,) tokens of each record; they sum to T. 0: no token of its completion fits."""

    def __post_init__(self) -> None:
        if int(np.sum(self.num_tokens)) != len(self.log_likelihoods):
            raise ValueError(f"num_tokens sum to {int(np.sum(self.num_tokens))}, there are {len(self.log_likelihoods)} log-likelihoods")

    @property
    def starts(self) -> np.ndarray:
        """(n,) place of each record's first token."""
        return np.concatenate([[0], np.cumsum(self.num_tokens)[:-1]]).astype(np.int64)

    def take(self, places: Sequence[int]) -> TokenLikelihoods:
        """Those of some of the records, in the order given."""
        starts, chosen = self.starts, np.asarray(places, dtype=np.int64)
        parts = [self.log_likelihoods[starts[place] : starts[place] + self.num_tokens[place]] for place in chosen]
        return TokenLikelihoods(np.concatenate([np.empty(0, dtype=np.float32), *parts]), self.num_tokens[chosen])


def token_log_likelihoods(
    model: PreTrainedModel,
    tokenizer: Any,
    texts: Sequence[tuple[str, str]],
    *,
    max_tokens: int,
    on_progress: Callable[[int], None] = lambda num_records: None,
) -> TokenLikelihoods:
    """The log-likelihood of every token of some completions, and of the end of text after them.

    Guarantee: a record's figures do not depend on the other records, bit for bit on one machine, where the model can be given packed rows.

    Args:
      model: A causal LM in evaluation mode, without adapters (`merge_adapter`). Its attention is exchanged where it can be.
      tokenizer: Of the model.
      texts: n pairs of prompt and completion; of a text without a prompt the first token is given and not scored. PRIVATE when real.
      max_tokens: Longer records are cut, as in training.
      on_progress: Gets the number of records after each pass.
    Returns:
      TokenLikelihoods: of the records in their order. As private as they are.
    """
    import torch

    from penname.model.loss import token_losses
    from penname.model.packing import enable_packing

    records = [encode_record(tokenizer, prompt, completion, max_tokens=max_tokens) for prompt, completion in texts]
    found: list[np.ndarray] = [np.empty(0, dtype=np.float32)] * len(records)
    tile_tokens = TILE_TOKENS if enable_packing(model, max_tokens=max_tokens) else None
    with torch.inference_mode():
        for places in _cut(records, tile_tokens):
            batch = [record for place in places if (record := records[place]) is not None]
            rows = _lay_out(batch, tile_tokens, pad_id=tokenizer.eos_token_id, device=model.device)
            of_tokens, counts = token_losses(model, rows)
            for place, losses in zip(places, of_tokens.cpu().split(counts), strict=True):
                found[place] = -losses.numpy()
            on_progress(len(places))
    num_tokens = np.array([len(own) for own in found], dtype=np.int64)
    return TokenLikelihoods(np.concatenate([np.empty(0, dtype=np.float32), *found]), num_tokens)


def _cut(records: Sequence[TokenizedRecord | None], tile_tokens: int | None) -> Iterator[list[int]]:
    """Places of the records pass by pass, the longest first: as many as fit into a tile, or each by itself."""
    lengths = {place: len(record.token_ids) for place, record in enumerate(records) if record is not None}
    batch: list[int] = []
    room = 0
    for place in sorted(lengths, key=lambda place: -lengths[place]):
        if batch and (tile_tokens is None or lengths[place] > room):
            yield batch
            batch = []
        if not batch:
            room = tile_tokens or 0
        batch.append(place)
        room -= lengths[place]
    if batch:
        yield batch


def _lay_out(batch: Sequence[TokenizedRecord], tile_tokens: int | None, *, pad_id: int, device: torch.device) -> Any:
    from penname.model.packing import PackedRows

    if tile_tokens is None:
        return PackedRows.alone(batch[0], device=device)
    num_tokens = sum(len(record.token_ids) for record in batch)
    return PackedRows.pack(batch, num_tokens=tile_tokens * -(-num_tokens // tile_tokens), pad_id=pad_id, device=device)
