"""Zipf's law: how fast the frequency of words falls with their rank."""

from __future__ import annotations

import numpy as np

from penname.evaluate.bootstrap import Interval, interval_around, resample
from penname.evaluate.metric import Estimate, Metric, describe_each
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.samples import RowSet, Samples
from penname.evaluate.word_counts import count_ngrams

NAME = "zipf_slope"
MAX_RANK = 1000
"""Beyond, most words stand once or twice and the line becomes a staircase."""
MIN_WORDS = 10


def zipf_slope(counts: np.ndarray) -> float:
    """Slope of log frequency over log rank, of the MAX_RANK most frequent words.

    Range, direction, reference: below 0, about -1 for natural text; not judged. The reference is the slope of test. A steep slope means that few words
    do most of the work.

    Args:
      counts: (V,) >= 0, of which at least MIN_WORDS are above 0. PRIVATE.
    Source: Zipf (1949); the fit by least squares on ranks less one half is that of Gabaix and Ibragimov (2011),
      https://doi.org/10.1198/jbes.2009.06157

    >>> round(zipf_slope(np.array([1000.0 / rank for rank in range(1, 500)])), 1)
    -1.0
    """
    ordered = np.sort(counts[counts > 0])[::-1][:MAX_RANK]
    ranks = np.log(np.arange(1, len(ordered) + 1) - 0.5)
    return min(0.0, float(np.polyfit(ranks, np.log(ordered), 1)[0]))


def _measure(rows: RowSet, samples: Samples, stream: str) -> tuple[float, Interval]:
    (counts,) = count_ngrams([rows.words], 1)
    if np.count_nonzero(counts.sum(axis=0)) < MIN_WORDS:
        raise LeftOutError(f"a set has fewer than {MIN_WORDS} different words; give more or longer texts")
    value = zipf_slope(counts.sum(axis=0))
    drawn = (weights @ counts for weights in resample(samples.generator(stream), len(rows), samples.num_bootstrap))
    # A resample of a few short texts may be left with one word, through which no line goes.
    resampled = [zipf_slope(found) if np.count_nonzero(found) > 1 else value for found in drawn]
    return value, interval_around(value, resampled, (float("-inf"), 0.0))


def _compute(samples: Samples) -> list[Estimate]:
    return describe_each(samples, NAME, _measure)


ZIPF_SLOPE = Metric(NAME, "fidelity", "none", (float("-inf"), 0.0), 1, "Zipf (1949), fit of Gabaix and Ibragimov (2011); doi:10.1198/jbes.2009.06157", _compute)
