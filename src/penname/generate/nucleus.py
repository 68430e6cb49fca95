"""Drawing the next token: the nucleus' distribution function inverted at a given uniform number."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

# Rows whose probabilities fit into the processor's cache together; always so many, as the shape of a sum decides its rounding.
_CHUNK_ROWS = 8
# The nucleus nearly always lies in the first few candidates; sorting the whole vocabulary costs many times as much.
_CANDIDATES = (64, 512, 4096)
_GROUP_SIZE = 64


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn."""

    temperature: float
    top_p: float
    max_new_tokens: int
    min_p: float = 0.0
    """Tokens less likely than this share of the likeliest are not drawn; 0: this rules out none."""


def draw_next(logits: torch.Tensor, uniforms: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Draws one token a row by inverting the nucleus' distribution function.

    Args:
      logits: (B, V), any precision; -inf is never drawn.
      uniforms: (B,) in [0, 1).
      sampling: Temperature, top-p, min-p.
    Returns:
      (B,) int64: the same whatever else is in the batch.
    Source: Holtzman et al. (2020), nucleus sampling. https://arxiv.org/abs/1904.09751; Nguyen et al. (2024), min-p. https://arxiv.org/abs/2407.01082
    """
    num_rows = len(logits)
    filling = -num_rows % _CHUNK_ROWS
    if filling:
        logits, uniforms = functional.pad(logits, (0, 0, 0, filling)), functional.pad(uniforms, (0, filling))
    pairs = zip(logits.split(_CHUNK_ROWS), uniforms.split(_CHUNK_ROWS), strict=True)
    return torch.cat([_draw_chunk(rows.float(), numbers, sampling) for rows, numbers in pairs])[:num_rows]


def _draw_chunk(logits: torch.Tensor, uniforms: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    probs = torch.softmax(logits / sampling.temperature, dim=1)
    vocabulary = probs.shape[1]
    rows, drawn = torch.arange(len(probs), device=probs.device), torch.empty(len(probs), dtype=torch.long, device=probs.device)
    for count in (*_CANDIDATES, vocabulary):
        top, candidates = _find_top(probs, min(count, vocabulary))
        drawn[rows] = _invert(top, candidates, uniforms[rows], sampling)
        wide = (top.cumsum(1)[:, -1] < sampling.top_p) & (top[:, -1] >= sampling.min_p * top[:, 0])
        if count >= vocabulary or not wide.any():
            break
        rows, probs = rows[wide], probs[wide]
    return drawn


def _find_top(weights: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `count` largest of each row in order, and their places: (B, count) both."""
    num_rows, vocabulary = weights.shape
    num_groups = vocabulary // _GROUP_SIZE
    if vocabulary % _GROUP_SIZE or num_groups < 4 * count:
        return weights.topk(count, dim=1)
    # Groups are columns of a table. The largest weights lie in the columns with the largest maxima, and maxima are quickly found.
    table = weights.view(num_rows, _GROUP_SIZE, num_groups)
    columns = table.amax(1).topk(count, dim=1).indices
    inside = table.gather(2, columns[:, None].expand(-1, _GROUP_SIZE, -1)).flatten(1)
    top, places = inside.topk(count, dim=1)
    return top, places // count * num_groups + columns.gather(1, places % count)


def _invert(top: torch.Tensor, candidates: torch.Tensor, uniforms: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """The candidate at which each row's distribution function over its nucleus passes the row's uniform number."""
    below = top.cumsum(1) - top
    # The nucleus is the smallest set of most likely tokens that reaches top_p, without those that min_p rules out; the first token always belongs to it.
    nucleus = torch.where((below < sampling.top_p) & (top >= sampling.min_p * top[:, :1]), top, torch.zeros_like(top))
    cumulative = nucleus.cumsum(1)
    drawn = torch.searchsorted(cumulative, uniforms[:, None].to(cumulative.dtype) * cumulative[:, -1:], right=True)
    last = (nucleus > 0).sum(1, keepdim=True) - 1
    return candidates.gather(1, torch.minimum(drawn, last))[:, 0]
