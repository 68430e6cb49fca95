"""What the untuned base model thinks of texts; it is loaded when a metric first asks."""

from __future__ import annotations

from typing import Any

import numpy as np

from penname.config import ModelConfig
from penname.progress import show_progress

MAX_TOKENS = 256
"""The rest of a longer text is not looked at."""


class BaseLikelihood:
    """Texts to token log-likelihoods, each text asked once."""

    def __init__(self, config: ModelConfig) -> None:
        self._config, self._loaded = config, None
        self._known: dict[str, np.ndarray] = {}

    def __call__(self, texts: list[str]) -> list[np.ndarray]:
        """For each text (T,) float32, nats; empty for a text of no or one token, whose first token nothing predicts.

        Args:
          texts: PRIVATE when real.
        Raises:
          ModelError: the base model is not there.
        """
        from penname.model.likelihood import token_log_likelihoods

        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            model, tokenizer = self._load()
            with show_progress("ask the base model", len(new)) as progress:
                found = token_log_likelihoods(model, tokenizer, [("", text) for text in new], max_tokens=MAX_TOKENS, on_progress=progress.advance)
            parts = np.split(found.log_likelihoods, np.cumsum(found.num_tokens)[:-1])
            self._known |= dict(zip(new, parts, strict=True))
        return [self._known[text] for text in texts]

    def _load(self) -> tuple[Any, Any]:
        from penname.model.base import load_base_model

        if self._loaded is None:
            self._loaded = load_base_model(self._config)
        return self._loaded
