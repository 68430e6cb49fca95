"""Texts that stand in their set more than once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from penname.evaluate.bootstrap import Interval, frac_interval
from penname.evaluate.metric import Estimate, Metric, describe_each
from penname.evaluate.samples import RowSet, Samples

NAME = "repeated_in_set_frac"


def count_repeated(texts: Sequence[Sequence[str]]) -> int:
    """How many texts have a twin in the set: the same words in the same order.

    Range, direction, reference: as a share 0 to 1; lower is better; the reference is the share in test.

    Args:
      texts: Each as words, so that case and punctuation do not matter. PRIVATE when real.

    >>> count_repeated([["a"], ["b"], ["a"]])
    2
    """
    counts = Counter(tuple(words) for words in texts)
    return sum(count for count in counts.values() if count > 1)


def _measure(rows: RowSet, samples: Samples, stream: str) -> tuple[float, Interval]:
    num_hits = count_repeated(rows.words)
    return num_hits / len(rows), frac_interval(num_hits, len(rows))


def _compute(samples: Samples) -> list[Estimate]:
    return describe_each(samples, NAME, _measure)


REPEATED_IN_SET = Metric(NAME, "fidelity", "lower", (0.0, 1.0), 1, "texts of the same words as another of the set (rule of penname)", _compute)
