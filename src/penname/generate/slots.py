"""Our decoder: a fixed number of slots; a finished text leaves its slot at once, and the next one enters.

The rounding of a matrix product depends on its shape, and a text must not depend on how many others are beside it. So a forward pass, of prompts or of
one token for each text, is `ROWS` rows wide, filled up where there are fewer, or one of the smaller widths at which this model on this machine computes
the same bits: that is measured when the decoder is opened.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from penname.errors import ModelError
from penname.generate.decode import Decoded, NextDraw, OnText, Request, Rules
from penname.generate.lookahead import Lookahead
from penname.generate.nucleus import draw_next
from penname.generate.packed_linear import pack_linears
from penname.generate.slot_cache import ROW_BLOCK, LayerShape, PromptAttention, PromptPart, SlotCache, StepAttention
from penname.model.base import split_head
from penname.model.free_memory import is_out_of_memory
from penname.progress import say

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ROWS = 128
"""The most tokens in a forward pass, and so the most texts at once."""
# What a pass may be, besides `ROWS`, if that changes no bit.
_WIDTHS = (16, 32, 48, 64, 96)
_ATTENTION = "penname_slots"
# What attention functions are given by models whose attention is not the plain one.
_UNKNOWN_TO_US = ("softcap", "s_aux", "position_bias")
# Texts wait for company: a pass over few tokens costs more for each of them.
_WAITING_FRAC = 1 / 8
_PROBE_TOKENS = 9
_PROBE_STEPS = 2


def attend_slots(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    slots: Any = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of rows to the texts in their slots, in the form that transformers asks of an attention function.

    Args:
      module: The attention layer; its `layer_idx` says which.
      query: (1, heads, R, size).
      key: (1, key-value heads, R, size).
      value: Like key.
      attention_mask: Must be None.
      slots: What the rows are.
      scaling: Of the products of query and key.
      dropout: Must be 0.
      sliding_window: How far a token looks back; refused where that is shorter than the longest text.
      more: What other models give; anything that changes attention is refused.
    Returns:
      (1, R, heads, size).
    Raises:
      ValueError: the model's attention is not plain causal attention.
    """
    layer = getattr(module, "layer_idx", None)
    if slots is None or layer is None or attention_mask is not None or dropout or any(more.get(name) is not None for name in _UNKNOWN_TO_US):
        raise ValueError("this model's attention is not plain causal attention")
    if sliding_window is not None and sliding_window < slots.longest:
        raise ValueError("the texts are longer than this model's attention window")
    rows = [part[0].transpose(0, 1) for part in (query, key, value)]
    return slots.attend(layer, *rows, scaling=query.shape[3] ** -0.5 if scaling is None else scaling)[None], None


@dataclass
class _Recorder:
    """Attention of one text by itself, which notes what each layer would have to keep."""

    longest: int
    shapes: dict[int, LayerShape] = field(default_factory=dict)

    def attend(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, scaling: float) -> torch.Tensor:
        self.shapes[layer] = LayerShape(key.shape[1], key.shape[2], value.shape[2], key.dtype)
        query, key, value = (part.transpose(0, 1)[None] for part in (query, key, value))
        return functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=True)[0].transpose(0, 1)


Finish = Callable[[Request, Decoded], tuple[Request | None, set[tuple[int, ...]]]]
"""`Lookahead.finish` for one consumer."""


@dataclass
class _Text:
    """A text in its slot."""

    request: Request
    uniforms: NDArray[np.float64]
    token_ids: list[int] = field(default_factory=list)

    @property
    def newest(self) -> int:
        return self.token_ids[-1] if self.token_ids else self.request.prompt[-1]


class SlotDecoder:
    """Continuous batching for a causal LM whose attention is plain; `open` finds out whether it is."""

    def __init__(self, model: Any, rules: Rules, shapes: Sequence[LayerShape], *, num_slots: int, longest: int, widths: Sequence[int] | None = None) -> None:
        """Is made by `open`."""
        self.rules, self.shapes, self.longest = rules, shapes, longest
        self.num_slots = min(num_slots, ROWS)
        self.device = model.device
        self._decoder, self._head = split_head(model)
        self.widths = list(widths or [ROWS])
        """Rows that a pass may have, ascending."""

    @classmethod
    @torch.inference_mode()
    def open(cls, model: PreTrainedModel, rules: Rules, *, num_slots: int, longest: int) -> SlotDecoder | None:
        """The decoder for this model, or None where the model computes something else in slots than by itself: that is measured.

        Args:
          model: In evaluation mode, without an adapter. Its attention, and in bfloat16 on a processor its linear layers, are exchanged.
          rules: How texts are drawn.
          num_slots: Texts at once; more than `ROWS` are not used.
          longest: Tokens of the longest prompt and text together.
        """
        from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        ALL_ATTENTION_FUNCTIONS.register(_ATTENTION, attend_slots)
        ALL_MASK_ATTENTION_FUNCTIONS.register(_ATTENTION, _no_mask)
        before = model.config._attn_implementation  # pyright: ignore[reportPrivateUsage]  there is a setter and no getter
        if before == _ATTENTION:
            before = "sdpa"
            model.set_attn_implementation(before)
        probes = _make_probes(longest, vocabulary=model.config.vocab_size)
        expected = [model(input_ids=torch.tensor([probe], device=model.device), use_cache=False).logits[0, -_PROBE_STEPS:] for probe in probes]
        shapes: list[LayerShape] = []
        is_same = False
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError):
            model.set_attn_implementation(_ATTENTION)
            shapes = _record_shapes(model, longest)
            is_same = cls(model, rules, shapes, num_slots=num_slots, longest=longest)._agrees(probes, expected)
        if not is_same:
            model.set_attn_implementation(before or "sdpa")
            return None
        with contextlib.suppress(RuntimeError), pack_linears(model, num_rows=ROWS) as packing:
            packing.keep = cls(model, rules, shapes, num_slots=num_slots, longest=longest)._agrees(probes, expected)
        decoder = cls(model, rules, shapes, num_slots=num_slots, longest=longest)
        decoder.widths = decoder._find_widths(model.config.vocab_size)
        return decoder

    def _find_widths(self, vocabulary: int) -> list[int]:
        """Rows that a pass may have, ascending: those numbers of rows at which each row is, bit for bit, what it is in a pass of `ROWS`."""
        cache = self.reserve(0, [ROW_BLOCK], num_slots=ROWS // ROW_BLOCK)
        for slot in range(cache.num_slots):
            cache.reserve(slot, ROW_BLOCK)
        parts = [PromptPart.plan(cache, slot, 0, ROW_BLOCK) for slot in range(cache.num_slots)]
        # Public tokens; what counts is that every row is another one.
        tokens = [(7 * i) % min(997, vocabulary) for i in range(ROW_BLOCK * len(parts))]

        def compute(num_parts: int, width: int) -> torch.Tensor:
            given = tokens[: num_parts * ROW_BLOCK]
            positions = _positions(cache, parts[:num_parts])
            return self._head(self._pass(given, positions, PromptAttention(cache, parts[:num_parts], self.longest), width=width))[: len(given)]

        full = compute(len(parts), ROWS)
        narrow = [width for width in _WIDTHS if width < len(tokens)]
        return [*(width for width in narrow if torch.equal(compute(width // ROW_BLOCK, width), full[:width])), ROWS]

    def _agrees(self, probes: Sequence[Sequence[int]], expected: Sequence[torch.Tensor]) -> bool:
        """Whether prompts and steps in slots give the logits that each text gives by itself."""
        cache = self.reserve(1, [len(probe) for probe in probes], num_slots=len(probes))
        self.compute_prompts(cache, [(None, probes[0][:1])])
        starts = [len(probe) - _PROBE_STEPS for probe in probes]
        for slot, start in enumerate(starts):
            cache.reserve(slot, len(probes[slot]))
            self.compute_prompts(cache, [(slot, probes[slot][1:start])])
        for step in range(_PROBE_STEPS):
            tokens = [probe[start + step] for probe, start in zip(probes, starts, strict=True)]
            logits = self.compute_step(cache, {slot: (token, start + step) for slot, (token, start) in enumerate(zip(tokens, starts, strict=True))})
            if not all(_is_close(row, wanted[step]) for row, wanted in zip(logits, expected, strict=True)):
                return False
        return True

    @torch.inference_mode()
    def decode(self, requests: Sequence[Request], on_text: OnText, *, prefix: Sequence[int] = (), next_draw: NextDraw | None = None) -> None:
        """See `Decoder`. Prompts enter in order of length; equal prompts are computed once.

        Raises:
          ModelError: a prompt and the longest text are longer than this decoder was opened for, or not even one text fits into memory.
        """
        longest = max((len(request.prompt) for request in requests), default=0)
        if longest + self.rules.sampling.max_new_tokens > self.longest:
            raise ModelError(f"generate: a prompt of {longest:,} tokens is longer than the prompts that the decoder was opened for")
        if not requests:
            return
        lengths = [len(request.prompt) + self.rules.sampling.max_new_tokens for request in requests]
        num_slots = min(self.num_slots, len(requests) if next_draw is None else self.find_width(min(len(requests), ROWS)))
        cache = self.reserve(len(prefix), lengths, num_slots=num_slots)
        self.compute_prompts(cache, [(None, list(prefix))])
        queue = deque(sorted(requests, key=lambda request: (len(request.prompt), request.prompt)))
        texts: list[_Text | None] = [None] * cache.num_slots
        ahead = Lookahead(next_draw or (lambda _: None))
        finish = partial(ahead.finish, on_text=on_text)
        while queue or any(texts):
            self._admit(cache, texts, queue)
            if not queue:
                self._run_ahead(cache, texts, ahead)
            self._write_tokens(cache, texts, queue, finish)

    def reserve(self, prefix_length: int, lengths: Iterable[int], *, num_slots: int) -> SlotCache:
        """The cache; with fewer slots where there is not memory enough."""
        tokens_per_slot = max(lengths) - prefix_length
        while True:
            try:
                return SlotCache(self.shapes, prefix_length=prefix_length, num_slots=num_slots, tokens_per_slot=tokens_per_slot, device=self.device)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if num_slots == 1:
                    raise ModelError(f"generate.max_new_tokens: not even one text of {max(lengths):,} tokens fits into memory; make it smaller") from None
                say(f"generate.batch_size: {num_slots} texts at once do not fit into memory; going on with {num_slots // 2}")
                num_slots //= 2

    def _admit(self, cache: SlotCache, texts: list[_Text | None], queue: deque[Request]) -> None:
        """Puts waiting requests into free slots, once there are enough of them for a pass."""
        free = [slot for slot, text in enumerate(texts) if text is None]
        owners = {text.request.prompt: slot for slot, text in enumerate(texts) if text is not None}
        taken: list[tuple[int, Request]] = []
        num_tokens, is_full = 0, False
        for slot, request in zip(free, queue, strict=False):
            need = 0 if request.prompt in owners else len(request.prompt) - 1 - cache.prefix_length
            if taken and num_tokens + need > ROWS:
                is_full = True
                break
            owners.setdefault(request.prompt, slot)
            taken.append((slot, request))
            num_tokens += need
        if not taken or not (is_full or len(free) >= max(1, _WAITING_FRAC * len(texts)) or len(free) == len(texts)):
            return
        new: list[tuple[int | None, Sequence[int]]] = []
        for slot, request in taken:
            queue.popleft()
            prompt = request.prompt[cache.prefix_length : -1]
            cache.reserve(slot, len(prompt))
            if owners[request.prompt] == slot:
                new.append((slot, prompt))
            texts[slot] = _Text(request, request.draw_uniforms(self.rules.sampling.max_new_tokens))
        self.compute_prompts(cache, new)
        for slot, request in taken:
            if owners[request.prompt] != slot:
                cache.copy_slot(owners[request.prompt], slot, len(request.prompt) - 1 - cache.prefix_length)

    def _run_ahead(self, cache: SlotCache, texts: list[_Text | None], ahead: Lookahead) -> None:
        """Puts draws that nobody has asked for yet into free slots, as many as rows would only fill up a pass; their prompts are there."""
        free = [slot for slot, text in enumerate(texts) if text is None]
        running = [(slot, text.request) for slot, text in enumerate(texts) if text is not None]
        num_asked = sum(not ahead.is_running(request) for _, request in running)
        room = min(len(free), self.find_width(num_asked) - len(running)) if running else 0
        for slot, (source, request) in zip(free, ahead.propose(running, max(0, room)), strict=False):
            cache.copy_slot(source, slot, len(request.prompt) - 1 - cache.prefix_length)
            texts[slot] = _Text(request, request.draw_uniforms(self.rules.sampling.max_new_tokens))

    def compute_prompts(self, cache: SlotCache, prompts: Iterable[tuple[int | None, Sequence[int]]]) -> None:
        """Keeps the keys and values of prompts after the shared beginning, or of that (slot None), in as few passes as they fit into."""
        tokens: list[int] = []
        parts: list[PromptPart] = []
        for slot, prompt in prompts:
            # Cut at the same places whatever else is computed in the same pass.
            for start in range(0, len(prompt), ROWS):
                piece = prompt[start : start + ROWS]
                if len(tokens) + len(piece) > ROWS:
                    self._pass(tokens, _positions(cache, parts), PromptAttention(cache, parts, self.longest))
                    tokens, parts = [], []
                tokens.extend(piece)
                parts.append(PromptPart.plan(cache, slot, start, len(piece)))
        if parts:
            self._pass(tokens, _positions(cache, parts), PromptAttention(cache, parts, self.longest))

    def _write_tokens(self, cache: SlotCache, texts: list[_Text | None], queue: deque[Request], finish: Finish) -> None:
        """One more token for every text; finished ones are handed over and leave."""
        active = {slot: text for slot, text in enumerate(texts) if text is not None}
        if not active:
            return
        newest: dict[int, tuple[int, int]] = {}
        for slot, text in active.items():
            position = len(text.request.prompt) - 1 + len(text.token_ids)
            cache.reserve(slot, position + 1 - cache.prefix_length)
            newest[slot] = text.newest, position
        uniforms = torch.tensor([text.uniforms[len(text.token_ids)] for text in active.values()], dtype=torch.float64, device=self.device)
        logits = self.compute_step(cache, newest)
        logits[:, list(self.rules.suppressed_ids)] = -torch.inf
        drawn = draw_next(logits, uniforms, self.rules.sampling).tolist()
        for (slot, text), token in zip(active.items(), drawn, strict=True):
            if texts[slot] is not text:
                # Another one's end made it useless.
                continue
            reason = self._finish_reason(text, token)
            if reason is not None:
                again, dropped = finish(text.request, Decoded(text.token_ids, reason))
                texts[slot] = self._follow(cache, slot, text, again, queue)
                for other, useless in enumerate(texts):
                    if useless is not None and useless.request.key in dropped:
                        cache.release(other)
                        texts[other] = None

    def _finish_reason(self, text: _Text, token: int) -> str | None:
        return self.rules.finish_reason(text.token_ids, token)

    def _follow(self, cache: SlotCache, slot: int, text: _Text, again: Request | None, queue: deque[Request]) -> _Text | None:
        """What the slot holds after its text is finished: another text after the same prompt, whose keys and values are there, or nothing."""
        if again is not None and again.prompt == text.request.prompt:
            cache.release(slot, keep_tokens=len(again.prompt) - 1 - cache.prefix_length)
            return _Text(again, again.draw_uniforms(self.rules.sampling.max_new_tokens))
        if again is not None:
            queue.append(again)
        cache.release(slot)
        return None

    def compute_step(self, cache: SlotCache, newest: Mapping[int, tuple[int, int]]) -> torch.Tensor:
        """(N, V) logits after one more token of each of N slots, in their order; by slot, the token and its position in the text."""
        width = self.find_width(len(newest))
        lengths = {slot: position + 1 - cache.prefix_length for slot, (_, position) in newest.items()}
        attention = StepAttention.plan(cache, lengths, num_rows=width, longest=self.longest)
        tokens, positions = zip(*newest.values(), strict=True)
        return self._head(self._pass(tokens, positions, attention, width=width))[: len(newest)]

    def find_width(self, num_rows: int) -> int:
        """Rows of the pass for so many tokens."""
        return next(width for width in self.widths if width >= num_rows)

    def _pass(self, tokens: Sequence[int], positions: Sequence[int], attention: Any, *, width: int | None = None) -> torch.Tensor:
        """(R, D) last hidden states of at most R tokens, filled up to R, the width given or the smallest that is enough."""
        filling = [0] * ((width or self.find_width(len(tokens))) - len(tokens))
        rows = torch.tensor([[*tokens, *filling], [*positions, *filling]], device=self.device)
        return self._decoder(input_ids=rows[:1], position_ids=rows[1:], use_cache=False, slots=attention).last_hidden_state[0]


def _positions(cache: SlotCache, parts: Sequence[PromptPart]) -> list[int]:
    """The place of every token of the parts in its text."""
    starts = [part.num_kept + (0 if part.slot is None else cache.prefix_length) for part in parts]
    return [start + i for start, part in zip(starts, parts, strict=True) for i in range(part.count)]


def _make_probes(longest: int, *, vocabulary: int) -> list[list[int]]:
    """A short and a long text of public tokens, the first of the vocabulary, with one beginning."""
    return [[0, *((7 * i + length) % min(1000, vocabulary) for i in range(1, length))] for length in (_PROBE_TOKENS, max(longest, _PROBE_TOKENS))]


def _record_shapes(model: Any, longest: int) -> list[LayerShape]:
    recorder = _Recorder(longest)
    decoder, _ = split_head(model)
    tokens = torch.arange(_PROBE_TOKENS, device=model.device)[None]
    decoder(input_ids=tokens, position_ids=tokens, use_cache=False, slots=recorder)
    return [recorder.shapes[layer] for layer in range(len(recorder.shapes))]


def _is_close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Equal up to rounding, in what differs from token to token; a row that sees a wrong neighbour differs by much of that."""
    tolerance = 0.1 if expected.dtype == torch.bfloat16 else 1e-3
    found, expected = (row.float() - row.float().mean() for row in (found, expected))
    return bool((found - expected).norm() <= tolerance * expected.norm())  # pyright: ignore[reportUnknownMemberType]


def _no_mask(*args: Any, **more: Any) -> None:
    """No mask: each row is told what it sees."""
