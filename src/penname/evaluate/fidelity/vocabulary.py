"""Which words and word pairs both sides use: how much of the real vocabulary is covered, and how much is shared."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from penname.evaluate.bootstrap import Interval, interval_around
from penname.evaluate.fidelity.lengths import resample_both
from penname.evaluate.metric import Estimate, Metric, compare_with_test
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.samples import RowSet, Samples
from penname.evaluate.word_counts import count_pair

_RANGE = (0.0, 1.0)
_Score = Callable[[np.ndarray, np.ndarray], float]


def coverage_frac(is_used: np.ndarray, is_real: np.ndarray) -> float:
    """Share of the distinct real words that are used.

    Range, direction, reference: 0 to 1; higher is better. It grows with n, so only the reference at the same n makes it readable. A candidate of
    more words covers more.

    Args:
      is_used: (V,) bool. PRIVATE.
      is_real: (V,) bool; 0 where there is none. PRIVATE.

    >>> coverage_frac(np.array([True, True, False]), np.array([False, True, True]))
    0.5
    """
    return float(np.sum(is_used & is_real) / max(1, np.sum(is_real)))


def overlap_score(is_used: np.ndarray, is_real: np.ndarray) -> float:
    """Jaccard index of two vocabularies: shared over all.

    Range, direction, reference: 0 to 1; higher is better; it falls for missing words and for words that no real text has. The reference is heldout
    against test at the same n.

    Args:
      is_used: (V,) bool. PRIVATE.
      is_real: (V,) bool; 0 where neither has a word. PRIVATE.
    Source: Jaccard (1901).

    >>> overlap_score(np.array([True, True, False, False]), np.array([False, True, True, True]))
    0.25
    """
    return float(np.sum(is_used & is_real) / max(1, np.sum(is_used | is_real)))


def _measure(score: _Score, length: int, candidate: RowSet, test: RowSet, samples: Samples, stream: str) -> tuple[float, Interval]:
    own, real = count_pair(candidate, test, samples, length=length)
    if not real.nnz:
        raise LeftOutError(f"the real texts have no {'word' if length == 1 else f'{length} words in a row'}; give texts with words")
    value = score(own.sum(axis=0) > 0, real.sum(axis=0) > 0)
    draws = resample_both(len(candidate), len(test), samples, stream)
    resampled = [score((a @ own) > 0, (b @ real) > 0) for a, b in draws]
    return value, interval_around(value, resampled, _RANGE)


def _compute(name: str, score: _Score, length: int, samples: Samples) -> list[Estimate]:
    return compare_with_test(samples, name, partial(_measure, score, length))


def _declare(name: str, score: _Score, length: int, source: str) -> Metric:
    return Metric(name, "fidelity", "higher", _RANGE, 1, source, partial(_compute, name, score, length))


VOCABULARY_COVERAGE = _declare("vocabulary_coverage_frac", coverage_frac, 1, "share of the distinct words of test that are used (definition of penname)")
VOCABULARY_OVERLAP = _declare("vocabulary_overlap_score", overlap_score, 1, "Jaccard index of the distinct words")
BIGRAM_OVERLAP = _declare("bigram_overlap_score", overlap_score, 2, "Jaccard index of the distinct pairs of words in a row")
