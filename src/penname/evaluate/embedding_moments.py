"""Means and second moments of embeddings, of a set and of its bootstrap resamples, without going over the rows for each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from penname.evaluate.samples import RowSet, Samples

NUM_BLOCKS = 100
"""A resample draws blocks of rows: 200 resamples of 10,000 rows then cost as much as one pass."""


class Moments:
    """Moments of (n, D) embeddings in blocks of rows chosen at random."""

    def __init__(self, rows: np.ndarray, rng: np.random.Generator) -> None:
        """Args: rows: (n, D), n >= 1, PRIVATE when real. rng: assigns rows to at most NUM_BLOCKS blocks, of equal size but for one row."""
        parts = np.array_split(rng.permutation(len(rows)), min(NUM_BLOCKS, len(rows)))
        width = rows.shape[1]
        self._sizes = np.array([len(part) for part in parts], dtype=np.float64)
        self._sums = np.stack([rows[part].sum(axis=0, dtype=np.float64) for part in parts])
        # float32: the products are sums of at most n numbers below 1, and 100 of them in float64 would be 118 MB for MiniLM.
        self._products = np.stack([(rows[part].T @ rows[part]).astype(np.float32).reshape(width * width) for part in parts])
        self._width = width

    def all(self) -> tuple[float, np.ndarray, np.ndarray]:
        """Of the set itself: n, mean (D,), second moment (D, D) about zero."""
        return self._weigh(np.ones(len(self._sizes)))

    def resampled(self, rng: np.random.Generator, num_bootstrap: int) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
        """The same of bootstrap resamples of the blocks."""
        num = len(self._sizes)
        for _ in range(num_bootstrap):
            yield self._weigh(np.bincount(rng.integers(num, size=num), minlength=num).astype(np.float64))

    def _weigh(self, weights: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        total = float(weights @ self._sizes)
        products = weights.astype(np.float32) @ self._products
        return total, weights @ self._sums / total, products.reshape(self._width, self._width).astype(np.float64) / total


def moments_of(rows: RowSet, samples: Samples) -> Moments:
    """The moments of a set's embeddings, taken once."""
    return samples.once(("moments", rows.name, len(rows)), lambda: Moments(rows.embeddings, samples.generator(f"moments/{rows.name}")))
