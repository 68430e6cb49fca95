"""Embeddings that were computed before, kept in files by the hash of their text."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from penname.run_dir import write_atomic

_KEY_BYTES = 16


class CachedEmbed:
    """Texts to embeddings; what a file of the folder holds is not computed again, and a text that stands twice is computed once."""

    def __init__(self, embed: Callable[[list[str]], np.ndarray], folder: Path, *, model: str) -> None:
        """Args: embed: n texts to (n, D). folder: PRIVATE when texts are real; made when something is written. model: vectors of another are not read."""
        self._embed, self._folder = embed, folder
        self._prefix = hashlib.sha256(model.encode()).hexdigest()[:16]
        self._known: dict[bytes, np.ndarray] | None = None

    def __call__(self, texts: list[str]) -> np.ndarray:
        """(n, D) float32, as the encoder gives them."""
        if not texts:
            return np.asarray(self._embed(texts), dtype=np.float32)
        keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:_KEY_BYTES] for text in texts]
        known = self._read()
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing:
            vectors = np.asarray(self._embed(list(missing.values())), dtype=np.float32)
            known |= dict(zip(missing, vectors, strict=True))
            self._write(list(missing), vectors)
        return np.stack([known[key] for key in keys])

    def _read(self) -> dict[bytes, np.ndarray]:
        if self._known is None:
            self._known = {}
            for path in sorted(self._folder.glob(f"{self._prefix}-*.npz")):
                # A cache that cannot be read is no reason to fail: its texts are embedded again.
                try:
                    with open(path, "rb") as handle, np.load(handle) as stored:
                        keys, vectors = stored["keys"], stored["vectors"]
                except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
                    continue
                if keys.dtype == np.uint8 and keys.shape == (len(vectors), _KEY_BYTES) and vectors.dtype == np.float32 and vectors.ndim == 2:
                    self._known |= dict(zip((key.tobytes() for key in keys), vectors, strict=True))
        return self._known

    def _write(self, keys: list[bytes], vectors: np.ndarray) -> None:
        """A file of its own for each call: nothing that is there is written again."""
        name = hashlib.sha256(b"".join(keys)).hexdigest()[:16]
        with write_atomic(self._folder / f"{self._prefix}-{name}.npz", "wb") as handle:
            np.savez(handle, keys=np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, _KEY_BYTES), vectors=vectors)
