"""Times the training steps of a program that is not ours, from the outside: by the beginnings of its forward passes."""

from __future__ import annotations

import functools
import time
from typing import Any


class EnoughMeasured(Exception):
    """Ends a training once enough steps were timed."""


class ForwardClock:
    """Counts the real tokens of each forward pass in training and the seconds until the next one begins, which is all of a physical step."""

    def __init__(self, model_class: Any, *, num_steps: int) -> None:
        self._num_steps = num_steps
        self._began: list[float] = []
        self._tokens: list[int] = []
        forward = model_class.forward

        # Trainers read the signature to know which columns the model wants.
        @functools.wraps(forward)
        def timed(model: Any, *args: Any, **kwargs: Any) -> Any:
            if model.training:
                self._note(kwargs)
            return forward(model, *args, **kwargs)

        model_class.forward = timed

    def _note(self, kwargs: dict[str, Any]) -> None:
        self._began.append(time.perf_counter())
        self._tokens.append(int(kwargs["attention_mask"].sum()))
        # The first is a warm-up, and the last shows only where the one before it ended.
        if len(self._began) > self._num_steps + 1:
            raise EnoughMeasured

    def tokens_per_sec(self) -> list[float]:
        """Of each physical step after the first."""
        secs = [after - before for before, after in zip(self._began[1:], self._began[2:], strict=False)]
        return [tokens / sec for tokens, sec in zip(self._tokens[1:], secs, strict=False)]

    def whole_tokens_per_sec(self) -> float:
        """Of all of them together."""
        return sum(self._tokens[1:-1]) / (self._began[-1] - self._began[1])
