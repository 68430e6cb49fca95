"""The decoder for models that cannot be given slots: one text at a time, by the model's own attention and cache. Slow, and right for any causal LM."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import torch

from penname.generate.decode import Decoded, NextDraw, OnText, Request, Rules
from penname.generate.nucleus import draw_next


class AloneDecoder:
    """Writes each text by itself, so that it depends on nothing else by construction."""

    def __init__(self, model: Any, rules: Rules) -> None:
        """Takes a causal LM in evaluation mode."""
        self._model, self._rules = model, rules

    @torch.inference_mode()
    def decode(self, requests: Sequence[Request], on_text: OnText, *, prefix: Sequence[int] = (), next_draw: NextDraw | None = None) -> None:
        """See `Decoder`. The shared beginning is computed anew for each text, and nothing is written ahead."""
        waiting = deque(requests)
        while waiting:
            request = waiting.popleft()
            again = on_text(request, self._write(request))
            if again is not None:
                waiting.appendleft(again)

    def _write(self, request: Request) -> Decoded:
        token_ids: list[int] = []
        new, cache = list(request.prompt), None
        uniforms = torch.from_numpy(request.draw_uniforms(self._rules.sampling.max_new_tokens)).to(self._model.device)
        for i in range(len(uniforms)):
            output = self._model(input_ids=torch.tensor([new], device=self._model.device), past_key_values=cache, use_cache=True)
            logits, cache = output.logits[:, -1].float(), output.past_key_values
            logits[:, list(self._rules.suppressed_ids)] = -torch.inf
            new = draw_next(logits, uniforms[i : i + 1], self._rules.sampling).tolist()
            reason = self._rules.finish_reason(token_ids, new[0])
            if reason is not None:
                return Decoded(token_ids, reason)
        return Decoded(token_ids, "length")
