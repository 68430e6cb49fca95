"""Causal attention of each record to itself, forward and backward, in the precision of what it is given.

Batched products of whole heads instead of torch's own attention, whose backward pass is slow for short records on a CPU. A record's
numbers depend on its own tokens alone: every product has the shape of the record or of a block of it.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import lru_cache

import torch

# Queries are taken this many at a time: a block does not meet the keys after it, and what a long record keeps is bounded.
_BLOCK_TOKENS = 256


class RowAttention:
    """Attention within records that lie end to end: H heads of queries, each group of H / G of them with one key and one value."""

    def __init__(self, num_heads: int, num_key_heads: int, row_lengths: Sequence[int], scaling: float) -> None:
        """Of records of these lengths, (B,); what lies beyond them is filling. `scaling` is of the products of query and key."""
        self._num_heads, self._num_key_heads = num_heads, num_key_heads
        self._row_lengths, self._scaling = tuple(row_lengths), scaling

    def attend(self, heads: torch.Tensor, outputs: torch.Tensor) -> list[torch.Tensor | None]:
        """Writes the outputs, zeros for the filling.

        Args:
          heads: (M, H + 2 G, d): queries, keys, values. PRIVATE.
          outputs: (M, H, d), filled here.
        Returns:
          The attention weights of each record, for `backward`; None where a record is so long that computing them again is better than keeping
          them. PRIVATE.
        """
        kept: list[torch.Tensor | None] = []
        outputs[sum(self._row_lengths) :].zero_()
        for row in self._rows():
            own = heads[row].transpose(0, 1).contiguous()
            kept.append(None)
            for queries, last in _blocks(own.shape[1]):
                weights = self._weigh(own, queries, last)
                outputs[row][queries] = self._ungroup(torch.bmm(weights, self._values(own, last))).transpose(0, 1)
                if own.shape[1] <= _BLOCK_TOKENS:
                    kept[-1] = weights
        return kept

    def backward(self, heads: torch.Tensor, kept: Sequence[torch.Tensor | None], output_grads: torch.Tensor) -> torch.Tensor:
        """Gradients of the heads, (M, H + 2 G, d), those of queries and keys without the factor `scaling`; zeros for the filling. PRIVATE.

        Args:
          heads: As given to `attend`.
          kept: What it returned.
          output_grads: (M, H, d)
        """
        grads = torch.empty_like(heads)
        grads[sum(self._row_lengths) :].zero_()
        for row, weights in zip(self._rows(), kept, strict=True):
            own, own_grads = heads[row].transpose(0, 1).contiguous(), output_grads[row].transpose(0, 1).contiguous()
            grads[row] = self._backward_of_record(own, weights, own_grads).transpose(0, 1)
        return grads

    def _backward_of_record(self, own: torch.Tensor, kept: torch.Tensor | None, output_grads: torch.Tensor) -> torch.Tensor:
        """(H + 2 G, T, d)."""
        grads = torch.empty_like(own)
        key_grads, value_grads = grads[self._num_heads : -self._num_key_heads], grads[-self._num_key_heads :]
        # The last block first: it sees every key.
        for queries, last in reversed(list(_blocks(own.shape[1]))):
            weights = self._weigh(own, queries, last) if kept is None else kept
            wanted = self._group(output_grads, queries)
            weight_grads = torch.bmm(wanted, self._values(own, last).transpose(1, 2))
            score_grads = torch.ops.aten._softmax_backward_data(weight_grads, weights, -1, weights.dtype)
            grads[: self._num_heads, queries] = self._ungroup(torch.bmm(score_grads, self._keys(own, last)))
            products = torch.bmm(score_grads.transpose(1, 2), self._group(own, queries)), torch.bmm(weights.transpose(1, 2), wanted)
            for into, product in zip((key_grads, value_grads), products, strict=True):
                into[:, :last] = product if last == own.shape[1] else into[:, :last] + product
        return grads

    def _weigh(self, own: torch.Tensor, queries: slice, last: int) -> torch.Tensor:
        """Attention weights (G, H / G * queries, last) of a block of queries."""
        scores = torch.bmm(self._group(own, queries), self._keys(own, last).transpose(1, 2))
        by_head = scores.view(self._num_heads, -1, last)
        torch.add(_causal_mask(by_head.shape[1], last, scores.dtype, scores.device), by_head, alpha=self._scaling, out=by_head)
        return torch.softmax(scores, -1)

    def _group(self, own: torch.Tensor, queries: slice) -> torch.Tensor:
        """(H or more, T, d) as (G, H / G * queries, d): the heads that share a key head, one below the other."""
        return own[: self._num_heads, queries].reshape(self._num_key_heads, -1, own.shape[2])

    def _ungroup(self, grouped: torch.Tensor) -> torch.Tensor:
        """(G, H / G * queries, d) as (H, queries, d)."""
        return grouped.view(self._num_heads, -1, grouped.shape[2])

    def _keys(self, own: torch.Tensor, last: int) -> torch.Tensor:
        return own[self._num_heads : -self._num_key_heads, :last]

    def _values(self, own: torch.Tensor, last: int) -> torch.Tensor:
        return own[-self._num_key_heads :, :last]

    def _rows(self) -> Generator[slice]:
        start = 0
        for length in self._row_lengths:
            yield slice(start, start + length)
            start += length


def _blocks(num_tokens: int) -> Generator[tuple[slice, int]]:
    """The queries of each block, and how many keys they may see."""
    for first in range(0, num_tokens, _BLOCK_TOKENS):
        last = min(first + _BLOCK_TOKENS, num_tokens)
        yield slice(first, last), last


@lru_cache(maxsize=512)
def _causal_mask(num_queries: int, num_keys: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """(num_queries, num_keys): minus infinity where a key is later than the query; the last query sees every key."""
    return torch.full((num_queries, num_keys), -torch.inf, dtype=dtype, device=device).triu(num_keys - num_queries + 1)
