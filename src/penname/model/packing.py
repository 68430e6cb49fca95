"""Records laid end to end in one tensor of a fixed size, so that a record's numbers are the same bits whatever lies beside it.

The rounding of a matrix product depends on the shape of its operands: in half precision a record's gradient moves by percents with the number and
the length of the records that it is padded and computed with, and the sensitivity that the noise is made for is no longer the clip norm. Here
every matrix product over tokens has one shape, and attention is computed record by record, so nothing that one record does reaches another.
Source: He et al. (2025), "Defeating nondeterminism in LLM inference", on batch-invariant computation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from penname.model.tokenize import TokenizedRecord

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ATTENTION = "penname_packed_rows"
# What attention functions are given by models whose attention is not the plain one.
_UNKNOWN_TO_US = ("softcap", "s_aux", "position_bias", "sliding_window")
_PROBE_ROW_TOKENS = 9


@dataclass(frozen=True)
class PackedRows:
    """Records laid end to end, and filled up on the right to a fixed number of tokens. PRIVATE."""

    token_ids: torch.Tensor
    """(1, M) int64."""
    position_ids: torch.Tensor
    """(1, M) int64: the place of each token in its own record."""
    row_lengths: tuple[int, ...]
    """(B,) tokens of each record; the rest of M is filling."""
    prompt_lengths: tuple[int, ...]
    """(B,)"""
    is_alone: bool
    """One record and no filling: the model's own attention is right, and no other is needed."""
    states: torch.Tensor | None = None
    """(1, M, D): what the frozen lower layers made of the tokens; none: the rows go through the whole decoder."""

    @classmethod
    def pack(cls, records: Sequence[TokenizedRecord], *, num_tokens: int, pad_id: int, device: torch.device | None = None) -> PackedRows:
        """Lays B >= 1 records end to end.

        Args:
          records: At most `num_tokens` tokens together. PRIVATE.
          num_tokens: M, the same for all that is to be computed with the same bits.
          pad_id: Token of the filling; no real position sees it.
          device: Where the model computes; none: the processor.
        Raises:
          ValueError: the records are longer than M.
        """
        lengths = tuple(len(record.token_ids) for record in records)
        filling = num_tokens - sum(lengths)
        if filling < 0:
            raise ValueError(f"{sum(lengths)} tokens do not fit into {num_tokens}")
        token_ids = [token for record in records for token in record.token_ids] + [pad_id] * filling
        positions = [position for length in lengths for position in range(length)] + [0] * filling
        prompts = tuple(record.num_prompt_tokens for record in records)
        return cls(torch.tensor([token_ids], device=device), torch.tensor([positions], device=device), lengths, prompts, is_alone=False)

    @classmethod
    def alone(cls, record: TokenizedRecord, *, device: torch.device | None = None) -> PackedRows:
        """One record by itself, for any causal LM. Its numbers depend on nothing else by construction."""
        length = len(record.token_ids)
        tokens, positions = torch.tensor([record.token_ids], device=device), torch.arange(length, device=device)[None]
        return cls(tokens, positions, (length,), (record.num_prompt_tokens,), is_alone=True)

    def with_states(self, states: torch.Tensor) -> PackedRows:
        """The same rows with the states of their records, (sum of T, D); the filling gets zeros."""
        filling = self.token_ids.shape[1] - len(states)
        return replace(self, states=functional.pad(states.to(self.token_ids.device), (0, 0, 0, filling))[None])

    def predicting(self) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
        """Positions in M whose next token is a completion token of their record, those tokens, and how many each record has."""
        positions: list[int] = []
        counts: list[int] = []
        start = 0
        for length, prompt_length in zip(self.row_lengths, self.prompt_lengths, strict=True):
            positions.extend(range(start + prompt_length - 1, start + length - 1))
            counts.append(length - prompt_length)
            start += length
        index = torch.tensor(positions, dtype=torch.long, device=self.token_ids.device)
        return index, self.token_ids[0, index + 1], counts


def decode_rows(decoder: Any, rows: PackedRows) -> torch.Tensor:
    """The last hidden states of all tokens, (M, D). PRIVATE."""
    more: dict[str, Any] = {} if rows.is_alone else {"row_lengths": rows.row_lengths}
    given = {"input_ids": rows.token_ids} if rows.states is None else {"inputs_embeds": rows.states}
    return decoder(**given, position_ids=rows.position_ids, use_cache=False, **more).last_hidden_state[0]


def attend_within_rows(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    row_lengths: Sequence[int] | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of each record to itself, in the form that transformers asks of an attention function.

    Args:
      module: The attention layer; not used.
      query: (1, heads, M, head size).
      key: (1, key-value heads, M, head size).
      value: Like key.
      attention_mask: Must be None.
      row_lengths: Tokens of each record; none: M is one record.
      scaling: Of the products of query and key.
      dropout: Of the attention weights; must be 0, as its masks would follow the place in the batch.
      more: What other models give; anything that changes attention is refused.
    Returns:
      (1, M, heads, head size); the filling gets zeros.
    Raises:
      ValueError: the model's attention is not plain causal attention.
    """
    if attention_mask is not None or dropout or any(more.get(name) is not None for name in _UNKNOWN_TO_US):
        raise ValueError("this model's attention is not plain causal attention")
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    num_tokens = query.shape[2]
    outputs: list[torch.Tensor] = []
    start = 0
    for length in row_lengths or (num_tokens,):
        row = slice(start, start + length)
        outputs.append(functional.scaled_dot_product_attention(query[:, :, row], key[:, :, row], value[:, :, row], is_causal=True, scale=scaling))
        start += length
    if start < num_tokens:
        outputs.append(query.new_zeros(*query.shape[:2], num_tokens - start, value.shape[3]))
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def enable_packing(model: PreTrainedModel, *, max_tokens: int) -> bool:
    """Makes a causal LM attend within packed rows, if it can: whether it does is measured, not looked up.

    Args:
      model: The base model, without an adapter; its attention is left as it was when it cannot.
      max_tokens: Longest record, so that an attention window shorter than that is noticed.
    Returns:
      Whether packed rows give what each row gives alone.
    """
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(_ATTENTION, attend_within_rows)
    ALL_MASK_ATTENTION_FUNCTIONS.register(_ATTENTION, _no_mask)
    decoder = getattr(model, model.base_model_prefix)
    lengths = (_PROBE_ROW_TOKENS, max_tokens)
    # Public tokens: the first of the vocabulary.
    probes = [TokenizedRecord([(7 * i + length) % min(1000, model.config.vocab_size) for i in range(length)], 1) for length in lengths]
    before = model.config._attn_implementation  # pyright: ignore[reportPrivateUsage]  there is a setter and no getter
    with torch.no_grad():
        alone = torch.cat([decode_rows(decoder, PackedRows.alone(probe, device=model.device)) for probe in probes])
        try:
            model.set_attn_implementation(_ATTENTION)
            packed = decode_rows(decoder, PackedRows.pack(probes, num_tokens=sum(lengths) + 1, pad_id=0, device=model.device))[:-1]
            is_same = _is_close(packed, alone)
        except (ValueError, TypeError, KeyError, RuntimeError):
            is_same = False
    if not is_same:
        model.set_attn_implementation(before or "sdpa")
    return is_same


def _is_close(packed: torch.Tensor, alone: torch.Tensor) -> bool:
    """Equal up to rounding, token by token; a token that sees a wrong neighbour differs by as much as it is large."""
    tolerance = 0.2 if alone.dtype == torch.bfloat16 else 1e-3
    errors = (packed.float() - alone.float()).norm(dim=1)  # pyright: ignore[reportUnknownMemberType]
    return bool((errors <= tolerance * alone.float().norm(dim=1)).all())  # pyright: ignore[reportUnknownMemberType]


def _no_mask(*args: Any, **more: Any) -> None:
    """No mask: rows are taken apart instead."""
