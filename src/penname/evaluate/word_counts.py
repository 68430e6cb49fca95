"""Counts of words and word pairs by text, as sparse matrices over one vocabulary: resampling texts is then one product."""

from __future__ import annotations

from typing import Any

import numpy as np

from penname.evaluate.samples import RowSet, Samples


def count_ngrams(sets: list[list[list[str]]], length: int) -> list[Any]:
    """Counts runs of words.

    Args:
      sets: For each set its texts, each a list of words. PRIVATE when real.
      length: n, words of a run, >= 1.
    Returns:
      One (texts, V) float64 scipy.sparse.csr_array a set, with the same columns in all; V is at least 1.
    """
    from scipy.sparse import csr_array

    columns: dict[Any, int] = {}
    found = []
    for texts in sets:
        grams = [words if length == 1 else list(zip(*(words[k:] for k in range(length)), strict=False)) for words in texts]
        rows = np.repeat(np.arange(len(grams)), [len(own) for own in grams])
        places = np.array([columns.setdefault(gram, len(columns)) for own in grams for gram in own], dtype=np.int64)
        found.append((rows, places, len(texts)))
    width = max(1, len(columns))
    matrices = [csr_array((np.ones(len(rows)), (rows, places)), shape=(count, width)) for rows, places, count in found]
    for matrix in matrices:
        matrix.sum_duplicates()
    return matrices


def count_pair(candidate: RowSet, test: RowSet, samples: Samples, *, length: int = 1) -> tuple[Any, Any]:
    """`count_ngrams` of a candidate and test, once for all metrics that ask."""
    first, second = samples.once(("ngrams", candidate.name, test.name, len(test), length), lambda: tuple(count_ngrams([candidate.words, test.words], length)))
    return first, second
