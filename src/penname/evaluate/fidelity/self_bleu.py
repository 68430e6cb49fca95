"""Self-BLEU: how much each text repeats of the others of its set."""

from __future__ import annotations

import math
from bisect import bisect
from collections import Counter
from collections.abc import Sequence

import numpy as np

from penname.evaluate.bootstrap import Interval, interval_around
from penname.evaluate.metric import Estimate, Metric, describe_each
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.samples import RowSet, Samples

NAME = "self_bleu"
MAX_TEXTS = 500
"""With more references more is found again: every set is sampled to the same number, at most this."""
_ORDER = 4

_Gram = tuple[str, ...]


def self_bleus(texts: Sequence[Sequence[str]]) -> np.ndarray:
    """BLEU-4 of each text against all others.

    Range, direction, reference: 0 to 1 each; lower is more varied; the reference is that of test with the same number of texts.

    Args:
      texts: At least two, in words. PRIVATE when real.
    Returns:
      (n,) float64. A text of fewer than four words counts the runs that it has; an n-gram order without a match counts as half a match.
    Source: Zhu et al. (2018), https://arxiv.org/abs/1802.01886; BLEU: Papineni et al. (2002), https://doi.org/10.3115/1073083.1073135

    >>> self_bleus([["a", "b", "c", "d", "e"]] * 2).tolist()
    [1.0, 1.0]
    """
    counts = [[Counter(_grams(words, order)) for order in range(1, _ORDER + 1)] for words in texts]
    most = [_most_elsewhere([own[order] for own in counts]) for order in range(_ORDER)]
    lengths = sorted(len(words) for words in texts)
    return np.array([_bleu(own, i, most) * _brevity(len(texts[i]), lengths) for i, own in enumerate(counts)])


def _grams(words: Sequence[str], order: int) -> list[_Gram]:
    return list(zip(*(words[k:] for k in range(order)), strict=False))


def _most_elsewhere(counts: list[Counter[_Gram]]) -> dict[_Gram, tuple[int, int, int]]:
    """Gram -> its largest count in a text, that text, and the largest count in any other: leaving one text out then takes one look."""
    most: dict[_Gram, tuple[int, int, int]] = {}
    for i, own in enumerate(counts):
        for gram, count in own.items():
            largest, where, second = most.get(gram, (0, -1, 0))
            most[gram] = (count, i, largest) if count > largest else (largest, where, max(second, count))
    return most


def _bleu(own: list[Counter[_Gram]], i: int, most: list[dict[_Gram, tuple[int, int, int]]]) -> float:
    """Geometric mean of the clipped precisions of text i."""
    logs = []
    for counts, found in zip(own, most, strict=True):
        total = counts.total()
        if not total:
            break
        matches = 0
        for gram, count in counts.items():
            largest, where, second = found[gram]
            matches += min(count, second if where == i else largest)
        logs.append(math.log((matches or 0.5) / total))
    return math.exp(sum(logs) / len(logs)) if logs else 0.0


def _brevity(length: int, lengths: list[int]) -> float:
    """Penalty of a text shorter than the reference nearest in length; `lengths` is sorted and holds the text's own once."""
    if not length:
        return 0.0
    place = bisect(lengths, length) - 1
    others = ([lengths[place - 1]] if place > 0 else []) + ([lengths[place + 1]] if place + 1 < len(lengths) else [])
    nearest = min(others, key=lambda other: (abs(other - length), other))
    return math.exp(1 - nearest / length) if nearest > length else 1.0


def _measure(rows: RowSet, samples: Samples, stream: str) -> tuple[float, Interval]:
    rng, texts = samples.generator(stream), rows.words
    if len(texts) > MAX_TEXTS:
        texts = [texts[i] for i in rng.permutation(len(texts))[:MAX_TEXTS]]
    if not any(texts):
        raise LeftOutError("a set has no words; give texts with words")
    each = self_bleus(texts)
    value = float(each.mean())
    resampled = [float(each[rng.integers(len(each), size=len(each))].mean()) for _ in range(samples.num_bootstrap)]
    return value, interval_around(value, resampled, (0.0, 1.0))


def _compute(samples: Samples) -> list[Estimate]:
    return describe_each(samples, NAME, _measure)


SELF_BLEU = Metric(NAME, "fidelity", "lower", (0.0, 1.0), 1, "Zhu et al. (2018), BLEU-4 over at most 500 texts; arXiv:1802.01886", _compute)
