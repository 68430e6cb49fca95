"""Keys and values of the texts that are being written, in pages of one size, and attention over them.

A text owns a slot, and a slot as many pages as it needs; nothing is ever concatenated, moved or read beyond the last page. Every product has the
shape of one page, or of one block of rows, so neither the length nor the number of the other texts moves the rounding of one. The beginning that all
prompts share is kept once, and read once for each block. Source: Kwon et al. (2023), "Efficient memory management for LLM serving with PagedAttention".
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

PAGE_TOKENS = 32
ROW_BLOCK = 16
"""Rows that look at the shared beginning in one product."""
# The first page stays empty: what is not there is read from it.
_EMPTY = 0
_LEAST = -1e30
_SMALLEST_EXPONENT = -87.0


@dataclass(frozen=True)
class LayerShape:
    """What one attention layer keeps for a token."""

    num_heads: int
    """Key-value heads."""
    key_size: int
    value_size: int
    dtype: torch.dtype


class SlotCache:
    """The keys and values of at most `num_slots` texts, and of the beginning that they share."""

    def __init__(self, shapes: Sequence[LayerShape], *, prefix_length: int, num_slots: int, tokens_per_slot: int, device: torch.device) -> None:
        """Reserves everything that will ever be needed.

        Raises:
          RuntimeError or MemoryError: there is not so much memory.
        """
        self.pages_per_slot = -(-tokens_per_slot // PAGE_TOKENS)
        num_pages = 1 + num_slots * self.pages_per_slot
        # Zeros, not garbage: a masked position has the weight 0, and 0 times a number that is none is none.
        self.keys = [torch.zeros(num_pages, s.num_heads, PAGE_TOKENS, s.key_size, dtype=s.dtype, device=device) for s in shapes]
        self.values = [torch.zeros(num_pages, s.num_heads, PAGE_TOKENS, s.value_size, dtype=s.dtype, device=device) for s in shapes]
        self.prefix_keys = [torch.zeros(s.num_heads, prefix_length, s.key_size, dtype=s.dtype, device=device) for s in shapes]
        self.prefix_values = [torch.zeros(s.num_heads, prefix_length, s.value_size, dtype=s.dtype, device=device) for s in shapes]
        self.device, self.prefix_length = device, prefix_length
        self.pages: list[list[int]] = [[] for _ in range(num_slots)]
        self._free = list(range(1, num_pages))

    @property
    def num_slots(self) -> int:
        """Texts at once."""
        return len(self.pages)

    def reserve(self, slot: int, num_tokens: int) -> None:
        """Gives a slot the pages for its first `num_tokens` tokens after the shared beginning; the lowest free ones, so that few are read."""
        while len(self.pages[slot]) * PAGE_TOKENS < num_tokens:
            self.pages[slot].append(heapq.heappop(self._free))

    def release(self, slot: int, *, keep_tokens: int = 0) -> None:
        """Takes back the pages of a slot that its first `keep_tokens` tokens do not need."""
        kept = -(-keep_tokens // PAGE_TOKENS)
        for page in self.pages[slot][kept:]:
            heapq.heappush(self._free, page)
        del self.pages[slot][kept:]

    def copy_slot(self, source: int, target: int, num_tokens: int) -> None:
        """Gives `target` the first tokens of `source`: two texts with one prompt."""
        self.reserve(target, num_tokens)
        count = -(-num_tokens // PAGE_TOKENS)
        taken, given = self.pages[source][:count], self.pages[target][:count]
        for stored in (*self.keys, *self.values):
            stored[given] = stored[taken]

    def read_slot(self, layer: int, slot: int, num_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of the shared beginning and the first `num_tokens` tokens of a slot: (heads, T, size) both."""
        pages = self.pages[slot][: -(-num_tokens // PAGE_TOKENS)]
        keys, values = (stored[layer][pages].transpose(0, 1).flatten(1, 2)[:, :num_tokens] for stored in (self.keys, self.values))
        return torch.cat([self.prefix_keys[layer], keys], dim=1), torch.cat([self.prefix_values[layer], values], dim=1)


@dataclass(frozen=True)
class StepAttention:
    """Attention of one step of writing: row r holds the newest token of the r-th slot that has a text; rows beyond them hold nothing."""

    cache: SlotCache
    longest: int
    """Tokens that a text may have."""
    new_pages: torch.Tensor
    """(R, 1) page that each row's token goes to; rows without a text write into the empty page, which nobody sees."""
    new_offsets: torch.Tensor
    """(R, 1) its place there."""
    owners: torch.Tensor
    """(N,) row that owns each of the first N pages."""
    bias: torch.Tensor
    """(N, 1, page) 0 where the owner may look, -inf elsewhere."""
    table: torch.Tensor
    """(R, K) the pages of each row in the order of its text, then the empty page."""

    @classmethod
    def plan(cls, cache: SlotCache, lengths: Mapping[int, int], *, num_rows: int, longest: int) -> StepAttention:
        """Lays out one step.

        Args:
          cache: Has pages reserved for the new tokens.
          lengths: By slot, in the order of the rows: tokens after the shared beginning with the new one.
          num_rows: R, at least the number of these slots, a multiple of `ROW_BLOCK`.
          longest: Tokens that a text may have.
        """
        most = max(len(cache.pages[slot]) for slot in lengths)
        num_pages = 1 + max(max(cache.pages[slot]) for slot in lengths)
        owners, limits = [0] * num_pages, [0] * num_pages
        table = [[_EMPTY] * most for _ in range(num_rows)]
        new_pages, new_offsets = [_EMPTY] * num_rows, [0] * num_rows
        for row, (slot, length) in enumerate(lengths.items()):
            last, pages = length - 1, cache.pages[slot]
            new_pages[row], new_offsets[row] = pages[last // PAGE_TOKENS], last % PAGE_TOKENS
            table[row][: len(pages)] = pages
            for place, page in enumerate(pages):
                owners[page], limits[page] = row, length - place * PAGE_TOKENS
        seen = torch.arange(PAGE_TOKENS) < torch.tensor(limits)[:, None]
        bias = torch.zeros(num_pages, 1, PAGE_TOKENS).masked_fill_(~seen[:, None], -torch.inf)
        plans = (torch.tensor(new_pages)[:, None], torch.tensor(new_offsets)[:, None], torch.tensor(owners), bias, torch.tensor(table))
        return cls(cache, longest, *(part.to(cache.device) for part in plans))

    def attend(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, scaling: float) -> torch.Tensor:
        """Writes the new keys and values and lets every row look at its own text.

        Args:
          layer: Which.
          query: (R, heads, key size).
          key: (R, key-value heads, key size).
          value: (R, key-value heads, value size).
          scaling: Of the products.
        Returns:
          (R, heads, value size).
        """
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        _store(keys, self.new_pages, self.new_offsets, key)
        _store(values, self.new_pages, self.new_offsets, value)
        query = query * scaling
        num_rows, num_heads = query.shape[:2]
        num_pages, kv_heads = len(self.owners), keys.shape[1]
        # (N·kv heads, group, size) times the page: the query heads that share a key-value head read it together.
        asked = query.index_select(0, self.owners).view(num_pages * kv_heads, num_heads // kv_heads, -1)
        scores = torch.bmm(asked, keys[:num_pages].flatten(0, 1).transpose(1, 2)).view(num_pages, num_heads, PAGE_TOKENS) + self.bias
        tops = scores.amax(2)[self.table].amax(1)
        shared = self._score_prefix(layer, query) if self.cache.prefix_length else None
        if shared is not None:
            tops = torch.maximum(tops, shared.amax(2))
        weights = _exponentiate(scores, tops.index_select(0, self.owners))
        found = torch.bmm(weights.to(values.dtype).view(*asked.shape[:2], PAGE_TOKENS), values[:num_pages].flatten(0, 1))
        # A bag is summed in order, page after page; the empty pages at its end add zeros.
        sums = functional.embedding_bag(self.table, weights.sum(2), mode="sum")
        result = functional.embedding_bag(self.table, found.view(num_pages, -1), mode="sum").float().view(num_rows, num_heads, -1)
        if shared is not None:
            weights = _exponentiate(shared, tops)
            sums += weights.sum(2)
            result += self._weigh_prefix(layer, weights)
        return result.div_(sums[:, :, None]).to(query.dtype)

    def _score_prefix(self, layer: int, query: torch.Tensor) -> torch.Tensor:
        """(R, heads, T) products with the shared beginning."""
        return _multiply_by_blocks(query, self.cache.prefix_keys[layer].transpose(1, 2)).float()

    def _weigh_prefix(self, layer: int, weights: torch.Tensor) -> torch.Tensor:
        """(R, heads, value size) the weighted sum of the shared beginning's values."""
        values = self.cache.prefix_values[layer]
        return _multiply_by_blocks(weights.to(values.dtype), values)


def _multiply_by_blocks(rows: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    """(R, heads, K) times (key-value heads, K, N), in products of one shape however many rows there are: (R, heads, N)."""
    num_rows, num_heads, width = rows.shape
    num_blocks, kv_heads = num_rows // ROW_BLOCK, len(matrices)
    # (blocks, kv heads, rows of a block and query heads that share a key-value head, K)
    blocks = rows.view(num_blocks, ROW_BLOCK, kv_heads, -1, width).transpose(1, 2).flatten(2, 3)
    # Laid out in one way too: for several blocks torch would copy them, for one it would not.
    found = torch.matmul(blocks, matrices.clone(memory_format=torch.contiguous_format))
    return found.view(num_blocks, kv_heads, ROW_BLOCK, num_heads // kv_heads, -1).transpose(1, 2).reshape(num_rows, num_heads, -1)


def _store(pages: torch.Tensor, numbers: torch.Tensor, offsets: torch.Tensor, new: torch.Tensor) -> None:
    """Writes (count, heads, size) into (pages, heads, page, size); numbers and offsets (count, 1)."""
    heads = torch.arange(pages.shape[1], device=pages.device)
    places = ((numbers * pages.shape[1] + heads) * PAGE_TOKENS + offsets).flatten()
    pages.view(-1, pages.shape[3]).index_copy_(0, places, new.flatten(0, 1))


def _exponentiate(scores: torch.Tensor, tops: torch.Tensor) -> torch.Tensor:
    """exp(scores - tops), in place; what is masked becomes so small that adding it to a sum of at least 1 changes no bit."""
    # Infinities and underflow take a path through the exponential that is a hundred times as slow. A row without a text has no top.
    return scores.sub_(tops.clamp(min=_LEAST)[:, :, None]).clamp_(min=_SMALLEST_EXPONENT).exp_()


@dataclass(frozen=True)
class PromptPart:
    """The tokens of one prompt, or of the shared beginning, that come now."""

    slot: int | None
    """None: the shared beginning itself."""
    num_kept: int
    """How many of its tokens are kept already."""
    count: int
    pages: torch.Tensor
    """(count, 1) where the new keys and values go; not used by the shared beginning."""
    offsets: torch.Tensor
    bias: torch.Tensor
    """(count, all before and these) 0 where a token sees a key, that is itself and those before it; -inf elsewhere."""

    @classmethod
    def plan(cls, cache: SlotCache, slot: int | None, num_kept: int, count: int) -> PromptPart:
        """Lays out `count` tokens after the first `num_kept`; the cache has reserved their pages."""
        positions = range(num_kept, num_kept + count)
        pages = [cache.pages[slot][position // PAGE_TOKENS] for position in positions] if slot is not None else []
        length = num_kept + count + (cache.prefix_length if slot is not None else 0)
        bias = torch.full((count, length), -torch.inf).triu(length - count + 1)
        offsets = [position % PAGE_TOKENS for position in positions]
        return cls(slot, num_kept, count, *(part.to(cache.device) for part in (torch.tensor(pages)[:, None], torch.tensor(offsets)[:, None], bias)))


@dataclass(frozen=True)
class PromptAttention:
    """Attention of new prompts, laid end to end: each looks at the shared beginning, at what is kept of itself, and at itself."""

    cache: SlotCache
    parts: Sequence[PromptPart]
    longest: int
    """Tokens that a text may have."""

    def attend(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, scaling: float) -> torch.Tensor:
        """As for a step; (R, heads, value size), zeros for rows beyond the prompts."""
        kv_heads = key.shape[1]
        query = query * scaling
        result = query.new_zeros(*query.shape[:2], value.shape[2])
        start = 0
        # Prompt by prompt, so that the shape of a product is that of the prompt alone.
        for part in self.parts:
            rows = slice(start, start + part.count)
            keys, values = self._keep(layer, part, key[rows], value[rows])
            # (kv heads, group·count, size)
            asked = query[rows].view(part.count, kv_heads, -1, query.shape[2]).permute(1, 2, 0, 3).flatten(1, 2)
            scores = torch.bmm(asked, keys.transpose(1, 2)).view(kv_heads, -1, *part.bias.shape) + part.bias
            found = torch.bmm(scores.softmax(3).to(values.dtype).flatten(1, 2), values)
            result[rows] = found.view(kv_heads, -1, part.count, values.shape[2]).permute(2, 0, 1, 3).flatten(1, 2)
            start += part.count
        return result

    def _keep(self, layer: int, part: PromptPart, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Stores the new keys and values; returns all that the part sees."""
        cache, end = self.cache, part.num_kept + part.count
        if part.slot is None:
            cache.prefix_keys[layer][:, part.num_kept : end] = key.transpose(0, 1)
            cache.prefix_values[layer][:, part.num_kept : end] = value.transpose(0, 1)
            return cache.prefix_keys[layer][:, :end], cache.prefix_values[layer][:, :end]
        _store(cache.keys[layer], part.pages, part.offsets, key)
        _store(cache.values[layer], part.pages, part.offsets, value)
        if part.num_kept:
            return cache.read_slot(layer, part.slot, end)
        keys, values = key.transpose(0, 1), value.transpose(0, 1)
        return torch.cat([cache.prefix_keys[layer], keys], dim=1), torch.cat([cache.prefix_values[layer], values], dim=1)
