"""How far two rankings of the same things agree, in values, in order, and at the top."""

from __future__ import annotations

from typing import Any

import numpy as np

PERSISTENCE = 0.98
"""p of rank-biased overlap: the first 50 ranks carry about 86 % of the weight."""


def pearson(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's correlation.

    Range, direction, reference: -1 to 1; higher is closer; 0 where one side is constant, for it says nothing then.

    Args:
      first, second: (K,) float64.
    Source: Pearson (1895), doi:10.1098/rspl.1895.0041
    """
    first, second = first - first.mean(), second - second.mean()
    length = float(np.sqrt((first @ first) * (second @ second)))
    return float(np.clip((first @ second) / length, -1.0, 1.0)) if length > 0 else 0.0


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's correlation of the ranks, ties at their mean rank. Range, direction, reference as `pearson`.

    Args:
      first, second: (K,) float64.
    Source: Spearman (1904), doi:10.2307/1412159
    """
    from scipy.stats import rankdata

    return pearson(rankdata(first), rankdata(second))


def kendall(first: np.ndarray, second: np.ndarray) -> float:
    """Kendall's tau-b: pairs in the same order less pairs in opposite order, of those that are no ties. Range, direction, reference as `pearson`.

    Args:
      first, second: (K,) float64.
    Source: Kendall (1945), doi:10.1093/biomet/33.3.239
    """
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    from scipy.stats import kendalltau

    found: Any = kendalltau(first, second)  # scipy's annotation lacks the fields of the result
    return float(found.statistic)


def list_top(signed: np.ndarray) -> list[int]:
    """Things by size, the largest first, each as its place counted from 1, with the sign of its value; zeros are not in the list.

    A thing that counts for the other side is another thing: a word that speaks for a good rating here and against it there is no agreement.

    Args:
      signed: (K,) float64.

    >>> list_top(np.array([0.5, 0.0, -2.0]))
    [-3, 1]
    """
    order = np.argsort(-np.abs(signed), kind="stable")
    return [int(place + 1) * (1 if signed[place] > 0 else -1) for place in order if signed[place] != 0]


def jaccard_at(first: list[int], second: list[int], num: int) -> float:
    """Things that stand in the first `num` of both lists, of those that stand in the first `num` of either.

    Range, direction, reference: 0 to 1; higher is closer; 0 where neither list has anything.

    Source: Jaccard (1912), doi:10.1111/j.1469-8137.1912.tb05611.x

    >>> jaccard_at([1, 2, 3], [2, 1, 4], 2)
    1.0
    """
    tops = set(first[:num]), set(second[:num])
    union = tops[0] | tops[1]
    return len(tops[0] & tops[1]) / len(union) if union else 0.0


def rank_biased_overlap(first: list[int], second: list[int], *, persistence: float = PERSISTENCE) -> float:
    """Agreement of two lists, the top counting most: the expected overlap for a reader who goes on to the next rank with probability p.

    Range, direction, reference: 0 to 1; higher is closer; 0 where a list is empty.

    Args:
      first, second: Rankings without doubles, in general not of the same things.
      persistence: p, 0 < p < 1.
    Returns:
      The extrapolated value: below the shorter list's end, agreement is taken to go on as it was.
    Source: Webber, Moffat and Zobel (2010), equation 32, doi:10.1145/1852102.1852106

    >>> rank_biased_overlap([1, 2], [1, 2])
    1.0
    """
    short, long = sorted((first, second), key=len)
    if not short:
        return 0.0
    p, seen_short, seen_long = persistence, set[int](), set[int]()
    overlap, total, overlap_short = 0, 0.0, 0
    for depth in range(1, len(long) + 1):
        ranked = long[depth - 1]
        seen_long.add(ranked)
        overlap += ranked in seen_short
        if depth <= len(short):
            own = short[depth - 1]
            seen_short.add(own)
            overlap += own in seen_long
            overlap_short = overlap
            total += overlap / depth * p**depth
        else:
            total += (overlap / depth + overlap_short * (depth - len(short)) / (len(short) * depth)) * p**depth
    tail = ((overlap - overlap_short) / len(long) + overlap_short / len(short)) * p ** len(long)
    return min(1.0, (1 - p) / p * total + tail)
