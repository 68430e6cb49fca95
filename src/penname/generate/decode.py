"""What a decoder is: prompts become texts, each drawn from its own random numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from penname.generate.nucleus import Sampling


@dataclass(frozen=True)
class Rules:
    """How texts are drawn and where they end."""

    sampling: Sampling
    eos_id: int
    """Ends a text, and is no part of it."""
    suppressed_ids: tuple[int, ...] = ()
    """Control tokens that are never drawn."""
    is_ended: Callable[[list[int]], bool] = lambda _: False
    """Whether a text, as tokens so far, has reached its end mark."""
    end: str = ""
    """The end mark that `is_ended` looks for, for engines that look for it themselves."""

    def finish_reason(self, token_ids: list[int], token: int) -> str | None:
        """Adds the newly drawn token to a text; says why the text is finished, or None.

        Args:
          token_ids: Of the text so far; gets `token`.
          token: Just drawn.
        """
        if token == self.eos_id:
            return "stop"
        token_ids.append(token)
        if self.is_ended(token_ids):
            return "stop"
        return "length" if len(token_ids) >= self.sampling.max_new_tokens else None


@dataclass(frozen=True)
class Request:
    """One text to write."""

    key: tuple[int, ...]
    """Seed, record, draw: the key of its random numbers, and of nothing else."""
    prompt: tuple[int, ...]
    """Tokens, at least one."""

    def draw_uniforms(self, count: int) -> NDArray[np.float64]:
        """`count` numbers in [0, 1): number t decides token t of the text."""
        return np.random.default_rng(self.key).random(count)


@dataclass(frozen=True)
class Decoded:
    """One text as tokens."""

    token_ids: list[int]
    """Without the end-of-text token."""
    finish_reason: str
    """`stop` or `length`."""


OnText = Callable[[Request, Decoded], Request | None]
"""Takes a finished text; returns what is to be drawn in its place, or None."""

NextDraw = Callable[[Request], Request | None]
"""What `OnText` would ask for if it refused the text of this request, with the same prompt; None: nothing more."""


class Decoder(Protocol):
    """Something that writes texts."""

    def decode(self, requests: Sequence[Request], on_text: OnText, *, prefix: Sequence[int] = (), next_draw: NextDraw | None = None) -> None:
        """Writes every request, and whatever `on_text` asks for in its place, in any order.

        Guarantee: a text depends on its own request and on `prefix`, not on the other requests, their order or number.

        Args:
          requests: Any number.
          on_text: Called once for every finished text, as soon as it is finished.
          prefix: Tokens that every prompt begins with and is longer than; may be computed once.
          next_draw: With it, texts may be written before `on_text` asks for them. It gets those only that it asks for.
        Raises:
          ModelError: a prompt and the longest text do not fit into the model's window.
        """
        ...


def find_prefix(prompts: Sequence[Sequence[int]]) -> list[int]:
    """The longest beginning that all prompts share and that leaves each at least one token more.

    >>> find_prefix([[1, 2, 3, 4], [1, 2, 5], [1, 2, 3]])
    [1, 2]
    >>> find_prefix([[1, 2, 3]])
    [1, 2]
    """
    if not prompts:
        return []
    rows = [list(prompt) for prompt in prompts]
    first, last = min(rows), max(rows)
    longest = min(len(prompt) for prompt in prompts) - 1
    count = 0
    while count < longest and first[count] == last[count]:
        count += 1
    return first[:count]
