"""How many passes the writing of texts takes: the decoder's own schedule, run on a model that computes nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch

from penname.generate.decode import Decoded, Request, Rules, find_prefix
from penname.generate.nucleus import Sampling
from penname.generate.slot_cache import StepAttention
from penname.generate.slots import SlotDecoder

_SEED = 0
_VOCABULARY = 8
# A larger job is rehearsed at this size; what comes on top finds every slot taken.
_MOST_RECORDS = 512


@dataclass(frozen=True)
class Writing:
    """How texts end, as far as a plan knows."""

    end_probs: list[float]
    """The probability that a text ends with its token t, given that it has got that far; the last one holds for all later tokens."""
    unparsed_prob: float
    """That a finished text must be drawn again."""
    max_new_tokens: int
    max_draws: int


@dataclass(frozen=True)
class Passes:
    """What the decoder computes for one arm."""

    num_passes: float
    """Over prompts, or over one token of each text that is written."""
    num_rows: float
    """Of all passes together, with what fills them up."""
    num_tokens: float
    """Drawn, for all texts, those that do not parse included."""
    num_draws: float


def rehearse(prompts: Sequence[tuple[int, ...]], writing: Writing, *, num_records: int, num_slots: int, widths: Sequence[int]) -> Passes:
    """What `num_records` texts take.

    Args:
      prompts: Some of the prompts, as tokens; drawn from with replacement.
      writing: How texts end.
      num_records: Texts that are wanted.
      num_slots: Texts at once.
      widths: Rows that a pass may have, ascending.
    """
    known = _rehearse(prompts, writing, num_records=min(num_records, _MOST_RECORDS), num_slots=num_slots, widths=widths)
    more = max(0, num_records - _MOST_RECORDS) / _MOST_RECORDS
    steps = more * known.num_tokens / num_slots
    return Passes(
        known.num_passes + more * known.num_prompt_passes + steps,
        known.num_rows + more * known.num_prompt_rows + steps * next(width for width in widths if width >= num_slots),
        known.num_tokens * (1 + more),
        known.num_draws * (1 + more),
    )


@dataclass(frozen=True)
class _Rehearsed(Passes):
    """Those over prompts told apart."""

    num_prompt_passes: float
    num_prompt_rows: float


def _rehearse(prompts: Sequence[tuple[int, ...]], writing: Writing, *, num_records: int, num_slots: int, widths: Sequence[int]) -> _Rehearsed:
    chance, probs = random.Random(_SEED), writing.end_probs
    drawn: list[int] = []

    def is_ended(token_ids: list[int]) -> bool:
        return chance.random() < probs[min(len(token_ids), len(probs)) - 1]

    def take(request: Request, text: Decoded) -> Request | None:
        drawn.append(len(text.token_ids))
        return next_draw(request) if chance.random() < writing.unparsed_prob else None

    def next_draw(request: Request) -> Request | None:
        place, draw = request.key
        return Request((place, draw + 1), request.prompt) if draw < writing.max_draws else None

    model = _Nothing()
    rules = Rules(Sampling(1.0, 1.0, writing.max_new_tokens), eos_id=-1, is_ended=is_ended)
    asked = [chance.choice(prompts) for _ in range(num_records)]
    longest = max(map(len, asked)) + writing.max_new_tokens
    decoder = SlotDecoder(model, rules, [], num_slots=num_slots, longest=longest, widths=widths)
    decoder.decode([Request((i, 1), prompt) for i, prompt in enumerate(asked)], take, prefix=find_prefix(asked), next_draw=next_draw)
    prompt_rows, step_rows = model.prompt_rows, model.step_rows
    return _Rehearsed(len(prompt_rows + step_rows), sum(prompt_rows + step_rows), sum(drawn), len(drawn), len(prompt_rows), sum(prompt_rows))


@dataclass
class _Nothing:
    """A causal LM without layers, which counts how often it is asked."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    base_model_prefix: str = "decoder"
    prompt_rows: list[int] = field(default_factory=list[int])
    """Of every pass over prompts."""
    step_rows: list[int] = field(default_factory=list[int])

    def decoder(self, *, input_ids: torch.Tensor, position_ids: torch.Tensor, use_cache: bool, slots: Any) -> SimpleNamespace:
        (self.step_rows if isinstance(slots, StepAttention) else self.prompt_rows).append(input_ids.shape[1])
        return SimpleNamespace(last_hidden_state=torch.zeros(1, input_ids.shape[1], 1))

    def get_output_embeddings(self) -> Any:
        return lambda hidden: hidden.new_zeros(len(hidden), _VOCABULARY)
