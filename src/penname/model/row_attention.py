"""Causal attention of each record to itself, forward and backward, in float32.

Batched products of whole heads instead of torch's own attention, whose backward pass is slow for short records on a CPU. A record's
numbers depend on its own tokens alone: every product has the shape of the record or of a block of it.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import lru_cache

import torch

# Queries are taken this many at a time: a block does not meet the keys after it, and the weights of one block are all that is held.
_BLOCK_TOKENS = 256


def attend_rows(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, row_lengths: Sequence[int], scaling: float) -> torch.Tensor:
    """Attention within records that lie end to end.

    Args:
      query: (H, M, d) float32. PRIVATE.
      key: (G, M, d), each head for H / G heads of the query.
      value: (G, M, d).
      row_lengths: (B,) tokens of each record; what lies beyond them is filling and gets zeros.
      scaling: Of the products of query and key.
    Returns:
      (M, H, d) float32. PRIVATE.
    """
    output = query.new_zeros(query.shape[1], query.shape[0], query.shape[2])
    for keys, queries in _blocks(row_lengths):
        weights = _weigh(_group(query[:, queries], key), key[:, keys], scaling, num_queries=queries.stop - queries.start)
        output[queries] = _ungroup(torch.bmm(weights, value[:, keys]), query)
    return output


def attend_rows_backward(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, output: torch.Tensor, output_grad: torch.Tensor, row_lengths: Sequence[int], scaling: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of query, key and value, in their shapes; the weights are computed again.

    Args:
      query: (H, M, d) float32. PRIVATE.
      key: (G, M, d).
      value: (G, M, d).
      output: (M, H, d), what `attend_rows` returned.
      output_grad: (M, H, d).
      row_lengths: (B,)
      scaling: Of the products of query and key.
    Source: Dao et al. (2022), FlashAttention, appendix B. https://arxiv.org/abs/2205.14135
    """
    query_grad, key_grad, value_grad = torch.zeros_like(query), torch.zeros_like(key), torch.zeros_like(value)
    # (H, M, 1): what the softmax takes off every weight's gradient.
    shift = (output * output_grad).sum(2).T[..., None]
    grads = output_grad.transpose(0, 1)
    for keys, queries in _blocks(row_lengths):
        grouped, grouped_grads = _group(query[:, queries], key), _group(grads[:, queries], key)
        weights = _weigh(grouped, key[:, keys], scaling, num_queries=queries.stop - queries.start)
        value_grad[:, keys] += torch.bmm(weights.transpose(1, 2), grouped_grads)
        weight_grads = torch.bmm(grouped_grads, value[:, keys].transpose(1, 2))
        weight_grads.sub_(_group(shift[:, queries], key)).mul_(weights).mul_(scaling)
        query_grad[:, queries] = torch.bmm(weight_grads, key[:, keys]).view(query.shape[0], -1, query.shape[2])
        key_grad[:, keys] += torch.bmm(weight_grads.transpose(1, 2), grouped)
    return query_grad, key_grad, value_grad


def _blocks(row_lengths: Sequence[int]) -> Generator[tuple[slice, slice]]:
    """Keys and queries of each block: the keys are those of the record up to the block's last query."""
    start = 0
    for length in row_lengths:
        for first in range(0, length, _BLOCK_TOKENS):
            last = min(first + _BLOCK_TOKENS, length)
            yield slice(start, start + last), slice(start + first, start + last)
        start += length


def _group(heads: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """(H, T, d) as (G, H / G * T, d): the heads that share a key head, one below the other."""
    return heads.reshape(key.shape[0], -1, heads.shape[2])


def _ungroup(outputs: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """(G, H / G * T, d) as (T, H, d)."""
    return outputs.view(query.shape[0], -1, query.shape[2]).transpose(0, 1)


def _weigh(grouped: torch.Tensor, keys: torch.Tensor, scaling: float, *, num_queries: int) -> torch.Tensor:
    """Attention weights (G, H / G * T, S) of the last T = num_queries of S tokens."""
    mask = _causal_mask(num_queries, keys.shape[1], grouped.shape[1] // num_queries)
    return torch.baddbmm(mask, grouped, keys.transpose(1, 2), alpha=scaling).softmax(-1)


@lru_cache(maxsize=512)
def _causal_mask(num_queries: int, num_keys: int, repeats: int) -> torch.Tensor:
    """(1, repeats * num_queries, num_keys): minus infinity where a key is later than the query; the last query sees every key."""
    mask = torch.full((num_queries, num_keys), -torch.inf).triu(num_keys - num_queries + 1)
    return mask.repeat(repeats, 1)[None]
