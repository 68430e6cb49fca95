"""Agreement of rankings: by hand, against other implementations, and at the ends of each range."""

import numpy as np
import pytest
from scipy import stats

from penname.evaluate.utility.rank_agreement import jaccard_at, kendall, list_top, pearson, rank_biased_overlap, spearman


@pytest.mark.parametrize("seed", range(3))
def test_correlations_agree_with_scipy(seed):
    rng = np.random.default_rng(seed)
    first = rng.normal(size=40).round(1)
    second = (0.5 * first + rng.normal(size=40)).round(1)  # rounded, so that there are ties
    assert pearson(first, second) == pytest.approx(stats.pearsonr(first, second).statistic)
    assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
    assert kendall(first, second) == pytest.approx(stats.kendalltau(first, second).statistic)


@pytest.mark.parametrize("measure", [pearson, spearman, kendall])
def test_correlations_reach_their_ends_and_are_nought_where_nothing_varies(measure):
    values = np.array([3.0, -1.0, 0.5, 2.0])
    assert measure(values, values) == pytest.approx(1.0)
    assert measure(values, -values) == pytest.approx(-1.0)
    assert measure(values, np.ones(4)) == 0.0


def test_the_top_is_by_size_and_knows_the_side():
    assert list_top(np.array([0.1, -3.0, 0.0, 2.0])) == [-2, 4, 1]
    assert jaccard_at([-2, 4], [2, 4], 2) == pytest.approx(1 / 3)
    assert jaccard_at([1, 2, 3], [3, 2, 1], 3) == 1.0
    assert jaccard_at([1, 2], [3, 4], 2) == 0.0
    assert jaccard_at([], [], 10) == 0.0


def sum_overlap(first, second, p, depth):
    """Rank-biased overlap as its definition, cut at a depth: (1 - p) sum of p^(d - 1) times the agreement at d."""
    return (1 - p) * sum(p ** (d - 1) * len(set(first[:d]) & set(second[:d])) / d for d in range(1, depth + 1))


@pytest.mark.parametrize("seed", range(3))
def test_overlap_lies_within_the_bounds_of_its_definition(seed):
    """What is seen of both lists is a lower bound; that all below agrees is an upper one. For one list twice, both are 1."""
    rng = np.random.default_rng(seed)
    first, second = list(rng.permutation(60)[:50]), list(rng.permutation(60)[:50])
    for p in (0.9, 0.98):
        low = sum_overlap(first, second, p, 50)
        value = rank_biased_overlap(first, second, persistence=p)
        assert low <= value <= low + p**50
        # With agreement that goes on as it was, the definition at great depth is the value.
        rest = len(set(first) & set(second)) / 50
        assert value == pytest.approx(low + rest * (1 - p) * sum(p ** (d - 1) for d in range(51, 4000)), abs=1e-6)


def test_overlap_of_lists_of_unequal_length():
    assert rank_biased_overlap([1, 2, 3], [1, 2]) == rank_biased_overlap([1, 2], [1, 2, 3])
    assert rank_biased_overlap([1, 2, 3], [1, 2]) == pytest.approx(1.0)
    assert rank_biased_overlap([1], [2, 3]) == 0.0
    assert rank_biased_overlap([], [1]) == 0.0


def test_the_top_of_the_lists_counts_most():
    reference = list(range(20))
    top_differs, bottom_differs = [97, 98, 99, *reference[3:]], [*reference[:17], 97, 98, 99]
    assert rank_biased_overlap(reference, top_differs, persistence=0.9) < rank_biased_overlap(reference, bottom_differs, persistence=0.9)
