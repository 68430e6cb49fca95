"""Wasserstein distance between length distributions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from penname.evaluate.bootstrap import Interval, interval_around, resample
from penname.evaluate.metric import Estimate, Metric, compare_with_test
from penname.evaluate.samples import RowSet, Samples

_SOURCE = "Wasserstein-1 distance, in words or sentences; Vallender (1974), doi:10.1137/1118101"


def wasserstein_distance(values: np.ndarray, first_counts: np.ndarray, second_counts: np.ndarray) -> float:
    """Earth mover's distance between two histograms on the same values.

    Range, direction, reference: 0 and up in the unit of `values`; lower is better; 0 only for equal distributions.

    Args:
      values: (K,) sorted, distinct.
      first_counts: (K,) >= 0, sum > 0. PRIVATE.
      second_counts: (K,) >= 0, sum > 0. PRIVATE.
    Returns:
      float: mean distance that a unit of mass must travel. PRIVATE.
    Source: Vallender (1974): the area between the two distribution functions. https://doi.org/10.1137/1118101

    >>> wasserstein_distance(np.array([0, 3]), np.array([1, 0]), np.array([0, 1]))
    3.0
    """
    gaps = np.cumsum(first_counts) / np.sum(first_counts) - np.cumsum(second_counts) / np.sum(second_counts)
    return float(np.sum(np.abs(gaps[:-1]) * np.diff(values)))


def _count_values(lengths: list[list[int]], values: np.ndarray):
    """(n, K) sparse: how often record i has value k."""
    from scipy.sparse import csr_array

    rows = np.repeat(np.arange(len(lengths)), [len(own) for own in lengths])
    columns = np.searchsorted(values, np.concatenate([np.asarray(own) for own in lengths]))
    return csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(lengths), len(values)))


def _measure(lengths_of: Callable[[RowSet], list[list[int]]], candidate: RowSet, test: RowSet, samples: Samples, stream: str) -> tuple[float, Interval]:
    """Distance of the pooled lengths; the bootstrap draws records, so the sentences of a record stay together."""
    first, second = lengths_of(candidate), lengths_of(test)
    values = np.unique(np.concatenate([np.asarray(own) for own in (*first, *second)]))
    first_counts, second_counts = _count_values(first, values), _count_values(second, values)
    value = wasserstein_distance(values, first_counts.sum(axis=0), second_counts.sum(axis=0))
    rng = samples.generator(stream)
    draws = zip(resample(rng, len(first), samples.num_bootstrap), resample(rng, len(second), samples.num_bootstrap), strict=True)
    resampled = [wasserstein_distance(values, a @ first_counts, b @ second_counts) for a, b in draws]
    return value, interval_around(value, resampled, (0.0, float("inf")))


def _words_per_review(rows: RowSet) -> list[list[int]]:
    return [[len(words)] for words in rows.words]


def _words_per_sentence(rows: RowSet) -> list[list[int]]:
    return rows.sentence_lengths


def _sentences_per_review(rows: RowSet) -> list[list[int]]:
    return [[sum(length > 0 for length in lengths)] for lengths in rows.sentence_lengths]


def _compute(name: str, lengths_of: Callable[[RowSet], list[list[int]]], samples: Samples) -> list[Estimate]:
    return compare_with_test(samples, name, partial(_measure, lengths_of))


def _declare(name: str, lengths_of: Callable[[RowSet], list[list[int]]]) -> Metric:
    return Metric(name, "fidelity", "lower", (0.0, float("inf")), 1, _SOURCE, partial(_compute, name, lengths_of))


WORDS_PER_REVIEW = _declare("words_per_review_wasserstein_distance", _words_per_review)
WORDS_PER_SENTENCE = _declare("words_per_sentence_wasserstein_distance", _words_per_sentence)
SENTENCES_PER_REVIEW = _declare("sentences_per_review_wasserstein_distance", _sentences_per_review)
