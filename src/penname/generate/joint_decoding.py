"""Several prompts write one text: every prompt is given each token that is drawn, and the next is drawn from what all of them say."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from penname.errors import ModelError
from penname.generate.decode import Decoded
from penname.generate.slot_cache import SlotCache
from penname.generate.slots import ROWS, SlotDecoder

DrawToken = Callable[[int, int, torch.Tensor, torch.Tensor], int]
"""Place of the text, number of the token in it, (V,) logits after the first prompt, (U, V) logits after the others; to a token."""


@dataclass(frozen=True)
class JointText:
    """One text to write."""

    place: int
    first: tuple[int, ...]
    """The prompt that holds nothing private."""
    others: tuple[tuple[int, ...], ...]
    """Prompts of units. PRIVATE."""

    @property
    def prompts(self) -> tuple[tuple[int, ...], ...]:
        """All, the first one first."""
        return self.first, *self.others


@dataclass
class _Running:
    """A text that is being written, and the slots of its prompts."""

    text: JointText
    slots: list[int]
    token_ids: list[int] = field(default_factory=list[int])

    def find_newest(self) -> dict[int, tuple[int, int]]:
        """By slot, the newest token and its position."""
        prompts = zip(self.slots, self.text.prompts, strict=True)
        return {slot: ((self.token_ids or prompt)[-1], len(prompt) - 1 + len(self.token_ids)) for slot, prompt in prompts}


class JointDecoder:
    """Writes texts whose prompts stand in slots beside each other.

    Guarantee: what one prompt says of the next token is the same bits beside any other prompts, as `SlotDecoder` guarantees for texts.
    """

    def __init__(self, slots: SlotDecoder, prefix: Sequence[int]) -> None:
        """Args: slots: opened for the longest prompt and text. prefix: tokens that every prompt begins with and is longer than; public."""
        self._slots, self._prefix = slots, list(prefix)

    @torch.inference_mode()
    def decode(self, texts: Sequence[JointText], draw: DrawToken, on_text: Callable[[JointText, Decoded], None]) -> None:
        """Writes every text, in any order.

        Args:
          texts: Any number.
          draw: Draws the tokens.
          on_text: Called once for every finished text.
        Raises:
          ModelError: the prompts of one text do not fit into memory together, or one is too long or begins otherwise.
        """
        if not texts:
            return
        cache = self._reserve(texts)
        waiting, running = deque(texts), list[_Running]()
        free = list(range(cache.num_slots))
        while waiting or running:
            while waiting and len(waiting[0].prompts) <= len(free):
                running.append(self._admit(cache, waiting.popleft(), free))
            logits = self._compute(cache, running)
            going_on: list[_Running] = []
            for one, rows in zip(running, logits, strict=True):
                token = draw(one.text.place, len(one.token_ids), rows[0], rows[1:])
                reason = self._slots.rules.finish_reason(one.token_ids, token)
                if reason is None:
                    going_on.append(one)
                    continue
                on_text(one.text, Decoded(one.token_ids, reason))
                for slot in one.slots:
                    cache.release(slot)
                    free.append(slot)
            running = going_on

    @torch.inference_mode()
    def score(self, prompts: Sequence[tuple[int, ...]], continuation: Sequence[int]) -> torch.Tensor:
        """What each prompt says of the token after each of a few given ones: (U, T, V). PRIVATE where a prompt is."""
        text = JointText(0, prompts[0], tuple(prompts[1:]))
        cache = self._reserve([text])
        one, said = self._admit(cache, text, list(range(cache.num_slots))), list[torch.Tensor]()
        for token in continuation:
            one.token_ids.append(token)
            said.append(self._compute(cache, [one])[0])
        return torch.stack(said, dim=1)

    def _reserve(self, texts: Sequence[JointText]) -> SlotCache:
        most = max(len(text.prompts) for text in texts)
        total = sum(len(text.prompts) for text in texts)
        lengths = [len(prompt) + self._slots.rules.sampling.max_new_tokens for text in texts for prompt in text.prompts]
        begins = len(self._prefix)
        if any(list(prompt[:begins]) != self._prefix or len(prompt) <= begins for text in texts for prompt in text.prompts):
            raise ModelError("predict: a prompt does not begin as all prompts do")
        if max(lengths) > self._slots.longest:
            raise ModelError("predict: a prompt is longer than the prompts that the decoder was opened for")
        cache = self._slots.reserve(len(self._prefix), lengths, num_slots=max(most, min(total, ROWS)))
        if cache.num_slots < most:
            raise ModelError(f"predict.num_texts: the {most:,} prompts of one text do not fit into memory; write more texts, of fewer records each")
        self._slots.compute_prompts(cache, [(None, self._prefix)])
        return cache

    def _admit(self, cache: SlotCache, text: JointText, free: list[int]) -> _Running:
        one = _Running(text, [free.pop() for _ in text.prompts])
        new: list[tuple[int | None, Sequence[int]]] = []
        for slot, prompt in zip(one.slots, text.prompts, strict=True):
            rest = prompt[len(self._prefix) : -1]
            cache.reserve(slot, len(rest))
            new.append((slot, rest))
        self._slots.compute_prompts(cache, new)
        return one

    def _compute(self, cache: SlotCache, running: Sequence[_Running]) -> list[torch.Tensor]:
        """For each text the logits (1 + U, V) of its prompts, in passes of at most `ROWS`."""
        newest: Mapping[int, tuple[int, int]] = {slot: what for one in running for slot, what in one.find_newest().items()}
        for slot, (_, position) in newest.items():
            cache.reserve(slot, position + 1 - cache.prefix_length)
        slots = list(newest)
        parts = [slots[i : i + ROWS] for i in range(0, len(slots), ROWS)]
        logits = torch.cat([self._slots.compute_step(cache, {slot: newest[slot] for slot in part}) for part in parts])
        return list(logits.split([len(one.slots) for one in running]))
