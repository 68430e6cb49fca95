"""Decoding: a batch of prompts becomes a batch of texts, each drawn from its own stream of random numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from penname.model.base import split_head

_TOP_CANDIDATES = 512
_SHRINK_FRAC = 0.75


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn."""

    temperature: float
    top_p: float
    max_new_tokens: int


@dataclass(frozen=True)
class Decoded:
    """One text as tokens."""

    token_ids: list[int]
    """Without the end-of-text token."""
    finish_reason: str
    """`stop` or `length`."""


@torch.inference_mode()
def decode_batch(
    model: Any,
    prompts: Sequence[list[int]],
    uniforms: torch.Tensor,
    sampling: Sampling,
    *,
    eos_id: int,
    pad_id: int,
    suppressed_ids: Sequence[int],
    is_ended: Callable[[list[int]], bool] = lambda _: False,
) -> list[Decoded]:
    """Continues every prompt until its end-of-text token or the limit. Finished texts leave the batch.

    Args:
      model: A causal LM in evaluation mode.
      prompts: B lists of token ids.
      uniforms: (B, max_new_tokens) in [0, 1): row b alone decides the tokens of text b.
      sampling: Temperature, top-p and limit.
      eos_id: Ends a text.
      pad_id: Fills up prompts on the left; masked.
      suppressed_ids: Control tokens that are never drawn.
      is_ended: Whether a text, as tokens so far, has reached its end mark.
    Returns:
      B texts, in the order of the prompts.
    Source: Holtzman et al. (2020), nucleus sampling. https://arxiv.org/abs/1904.09751
    """
    from transformers import DynamicCache

    token_ids, mask = _pad_left(prompts, pad_id)
    texts: list[list[int]] = [[] for _ in prompts]
    reasons = ["length"] * len(prompts)
    alive = torch.arange(len(prompts))
    is_running = torch.ones(len(prompts), dtype=torch.bool)
    decoder, head = split_head(model)
    cache = DynamicCache(config=model.config)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    for step in range(sampling.max_new_tokens):
        output = decoder(input_ids=token_ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True)
        # Contiguous, or torch copies the vocabulary projection once a row.
        logits = head(output.last_hidden_state[:, -1].contiguous()).float()
        logits[:, suppressed_ids] = -torch.inf
        next_ids = draw_next(logits, uniforms[alive, step], sampling)
        for row, (index, token) in enumerate(zip(alive.tolist(), next_ids.tolist(), strict=True)):
            if is_running[row] and token != eos_id:
                texts[index].append(token)
            if is_running[row] and (token == eos_id or is_ended(texts[index])):
                reasons[index], is_running[row] = "stop", False
        if not is_running.any():
            break
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        positions = positions[:, -1:] + 1
        token_ids = next_ids[:, None]
        if is_running.float().mean() < _SHRINK_FRAC:
            keep = is_running.nonzero()[:, 0]
            cache.batch_select_indices(keep)
            alive, mask, positions, token_ids = alive[keep], mask[keep], positions[keep], token_ids[keep]
            is_running = is_running[keep]
    return [Decoded(text, reason) for text, reason in zip(texts, reasons, strict=True)]


def _pad_left(prompts: Sequence[list[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids (B, T) with the prompts on the right, and the mask (B, T) of what is a prompt."""
    length = max(len(prompt) for prompt in prompts)
    token_ids = torch.full((len(prompts), length), pad_id)
    mask = torch.zeros(len(prompts), length, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        token_ids[row, length - len(prompt) :] = torch.tensor(prompt)
        mask[row, length - len(prompt) :] = 1
    return token_ids, mask


def draw_next(logits: torch.Tensor, uniforms: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Draws one token a row by inverting the nucleus' distribution function.

    Args:
      logits: (B, V) float32.
      uniforms: (B,) in [0, 1).
      sampling: Temperature and top-p.
    Returns:
      (B,) int64: the same whatever else is in the batch.
    """
    probs = torch.softmax(logits / sampling.temperature, dim=1)
    # A few hundred candidates nearly always hold the nucleus; sorting the whole vocabulary costs many times as much.
    top, candidates = probs.topk(min(_TOP_CANDIDATES, probs.shape[1]), dim=1)
    drawn = _invert(top, candidates, uniforms, sampling.top_p)
    wide = (top.sum(1) < sampling.top_p).nonzero()[:, 0]
    if len(wide):
        top, candidates = probs[wide].sort(dim=1, descending=True)
        drawn[wide] = _invert(top, candidates, uniforms[wide], sampling.top_p)
    return drawn


def _invert(top: torch.Tensor, candidates: torch.Tensor, uniforms: torch.Tensor, top_p: float) -> torch.Tensor:
    """The candidate at which each row's distribution function over its nucleus passes the row's uniform number."""
    below = top.cumsum(1) - top
    # The nucleus is the smallest set of most likely tokens that reaches top_p; the first token always belongs to it.
    nucleus = torch.where(below < top_p, top, torch.zeros_like(top))
    cumulative = nucleus.cumsum(1)
    drawn = torch.searchsorted(cumulative, uniforms[:, None].to(cumulative.dtype) * cumulative[:, -1:], right=True)
    last = (nucleus > 0).sum(1, keepdim=True) - 1
    return candidates.gather(1, torch.minimum(drawn, last))[:, 0]
