"""Distinct-n: how many of the runs of n words are different ones."""

from __future__ import annotations

from functools import partial

import numpy as np

from penname.evaluate.bootstrap import Interval, interval_around, resample
from penname.evaluate.metric import Estimate, Metric, describe_each
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.samples import RowSet, Samples
from penname.evaluate.word_counts import count_ngrams


def cut_to_words(texts: list[list[str]], num_words: int) -> list[list[str]]:
    """The first texts that hold `num_words` words together, the last one cut.

    >>> cut_to_words([["a", "b"], ["c", "d"], ["e"]], 3)
    [['a', 'b'], ['c']]
    """
    kept, left = [], num_words
    for words in texts:
        if left <= 0:
            break
        kept.append(words[:left])
        left -= len(words)
    return kept


def _num_words(samples: Samples) -> int:
    """Words of the set with the fewest: all sets are cut to it, because a longer text has to say things twice."""
    num = samples.num_compared
    sets = [samples.take(rows, num) for rows in (samples.test, *samples.synthetic.values())]
    counts = [sum(map(len, rows.words)) for rows in sets]
    # A set without words is left out itself, and must not take the others with it.
    return min([count for count in counts if count] or [0])


def _measure(length: int, rows: RowSet, samples: Samples, stream: str) -> tuple[float, Interval]:
    """Range, direction, reference: 0 to 1; higher is more varied; the reference is that of test over the same number of words.

    Texts come in an order by chance, the same for all sets, so that none is left out for where it stands.
    """
    shuffled = [rows.words[i] for i in samples.generator("distinct/order").permutation(len(rows))]
    (counts,) = count_ngrams([cut_to_words(shuffled, samples.once("distinct/words", lambda: _num_words(samples)))], length)
    totals = counts.sum(axis=1)
    if not totals.sum():
        raise LeftOutError(f"a set has no {length} words in a row; give texts with words")

    def share(weights: np.ndarray) -> float:
        total = float(weights @ totals)
        return float(np.count_nonzero(weights @ counts)) / total if total else 0.0

    value = share(np.ones(len(totals)))
    draws = resample(samples.generator(stream), len(totals), samples.num_bootstrap)
    return value, interval_around(value, [share(weights) for weights in draws], (0.0, 1.0))


def _compute(name: str, length: int, samples: Samples) -> list[Estimate]:
    return describe_each(samples, name, partial(_measure, length))


def _declare(length: int) -> Metric:
    name = f"distinct_{length}_frac"
    return Metric(name, "fidelity", "higher", (0.0, 1.0), 1, "Li et al. (2016), over equal numbers of words; arXiv:1510.03055", partial(_compute, name, length))


DISTINCT_1, DISTINCT_2, DISTINCT_3 = _declare(1), _declare(2), _declare(3)
