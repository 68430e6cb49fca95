"""How long reviews are: mean and median of the number of words. Described, not judged."""

from __future__ import annotations

from functools import partial

import numpy as np

from penname.evaluate.bootstrap import Interval, interval_around
from penname.evaluate.metric import Estimate, Metric, describe_each
from penname.evaluate.samples import RowSet, Samples

_STATISTICS = {"mean": np.mean, "median": np.median}


def _measure(statistic: str, rows: RowSet, samples: Samples, stream: str) -> tuple[float, Interval]:
    lengths = np.array([len(words) for words in rows.words])
    summarise, rng = _STATISTICS[statistic], samples.generator(stream)
    value = float(summarise(lengths))
    resampled = [float(summarise(lengths[rng.integers(len(lengths), size=len(lengths))])) for _ in range(samples.num_bootstrap)]
    return value, interval_around(value, resampled, (0.0, float("inf")))


def _compute(name: str, statistic: str, samples: Samples) -> list[Estimate]:
    return describe_each(samples, name, partial(_measure, statistic))


def _declare(statistic: str) -> Metric:
    name = f"words_per_review_{statistic}"
    source = f"{statistic} of the words of a review's text, the title not counted"
    return Metric(name, "fidelity", "none", (0.0, float("inf")), 1, source, partial(_compute, name, statistic))


WORDS_MEAN = _declare("mean")
WORDS_MEDIAN = _declare("median")
