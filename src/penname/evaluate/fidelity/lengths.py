"""The lengths that are compared: words of a review, words of a sentence, sentences of a review."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from penname.evaluate.bootstrap import Interval, interval_around, resample
from penname.evaluate.samples import RowSet, Samples

LengthsOf = Callable[[RowSet], list[list[int]]]
"""The lengths of each record of a set; a record may have several (its sentences)."""


def words_per_review(rows: RowSet) -> list[list[int]]:
    """One number a record."""
    return [[len(words)] for words in rows.words]


def words_per_sentence(rows: RowSet) -> list[list[int]]:
    """One number a sentence."""
    return rows.sentence_lengths


def sentences_per_review(rows: RowSet) -> list[list[int]]:
    """One number a record."""
    return [[sum(length > 0 for length in lengths)] for lengths in rows.sentence_lengths]


LENGTHS: dict[str, LengthsOf] = {
    "words_per_review": words_per_review,
    "words_per_sentence": words_per_sentence,
    "sentences_per_review": sentences_per_review,
}

Distance = Callable[[np.ndarray, np.ndarray, np.ndarray], float]
"""(values, counts of the first, counts of the second) -> distance."""


def compare_lengths(
    lengths_of: LengthsOf, distance: Distance, bounds: Interval, candidate: RowSet, test: RowSet, samples: Samples, stream: str
) -> tuple[float, Interval]:
    """Distance of the pooled lengths; the bootstrap draws records, so the sentences of a record stay together."""
    first, second = lengths_of(candidate), lengths_of(test)
    values = np.unique(np.concatenate([np.asarray(own) for own in (*first, *second)]))
    first_counts, second_counts = _count_values(first, values), _count_values(second, values)
    value = distance(values, first_counts.sum(axis=0), second_counts.sum(axis=0))
    draws = resample_both(len(first), len(second), samples, stream)
    resampled = [distance(values, a @ first_counts, b @ second_counts) for a, b in draws]
    return value, interval_around(value, resampled, bounds)


def resample_both(num_first: int, num_second: int, samples: Samples, stream: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Bootstrap multiplicities of two sets, drawn from one stream."""
    rng = samples.generator(stream)
    return zip(resample(rng, num_first, samples.num_bootstrap), resample(rng, num_second, samples.num_bootstrap), strict=True)


def _count_values(lengths: list[list[int]], values: np.ndarray) -> Any:
    """(n, K) sparse: how often record i has value k."""
    from scipy.sparse import csr_array

    rows = np.repeat(np.arange(len(lengths)), [len(own) for own in lengths])
    columns = np.searchsorted(values, np.concatenate([np.asarray(own) for own in lengths]))
    return csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(lengths), len(values)))
