"""Krippendorff's alpha against his own example and a plain reading of the definition; Cohen's kappa against scikit-learn."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from penname.evaluate.human.agreement import alpha_with_interval, cohen_kappas, krippendorff_alpha

# Krippendorff (2011), section C and D: four observers, twelve units, gaps.
OBSERVERS = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3),
    (None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None),
)
ROWS = [(unit, value) for observer in OBSERVERS for unit, value in enumerate(observer) if value is not None]
UNITS, VALUES = np.array([unit for unit, _ in ROWS]), np.arange(1.0, 6.0)
CODES = np.array([value - 1 for _, value in ROWS])


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_the_published_example(level, published):
    assert krippendorff_alpha(CODES, UNITS, VALUES, level=level) == pytest.approx(published, abs=5e-4)


def by_definition(codes, units, values, level):
    """Observed over expected disagreement, pair by pair."""
    groups = [codes[units == unit] for unit in np.unique(units)]
    groups = [group for group in groups if len(group) >= 2]
    kept = np.concatenate(groups)
    totals = np.bincount(kept, minlength=len(values)).astype(float)

    def distance(a, b):
        if level == "nominal":
            return float(a != b)
        if level == "interval":
            return (values[a] - values[b]) ** 2
        low, high = sorted((a, b))
        return (totals[low : high + 1].sum() - (totals[a] + totals[b]) / 2) ** 2 if a != b else 0.0

    observed = sum(distance(a, b) / (len(group) - 1) for group in groups for a, b in itertools.permutations(group, 2)) / len(kept)
    expected = sum(distance(a, b) for a, b in itertools.permutations(kept, 2)) / (len(kept) * (len(kept) - 1))
    return 1 - observed / expected


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
def test_random_judgements_with_gaps_against_the_definition(level):
    rng = np.random.default_rng(1)
    units = rng.integers(9, size=40)
    codes = (units + rng.integers(3, size=40)) % 5
    found = krippendorff_alpha(codes, units, VALUES, level=level)
    assert found == pytest.approx(by_definition(codes, units, VALUES, level))


def test_perfect_systematic_and_undefined():
    units = np.repeat(np.arange(10), 2)
    same, opposite = np.repeat(np.arange(10) % 2, 2), np.tile([0, 1], 10)
    assert krippendorff_alpha(same, units, np.arange(2.0), level="nominal") == 1.0
    assert krippendorff_alpha(opposite, units, np.arange(2.0), level="nominal") < -0.8
    assert np.isnan(krippendorff_alpha(np.zeros(20, dtype=int), units, np.arange(2.0), level="nominal"))
    assert np.isnan(krippendorff_alpha(same, np.arange(20), np.arange(2.0), level="nominal"))


def test_the_interval_holds_the_value_and_shrinks_with_more_units():
    widths = []
    for num in (20, 400):
        rng = np.random.default_rng(2)
        truth = rng.integers(2, size=num)
        codes = np.concatenate([truth, np.where(rng.random(num) < 0.2, 1 - truth, truth)])
        alpha, interval = alpha_with_interval(codes, np.tile(np.arange(num), 2), np.arange(2.0), level="nominal", rng=rng, num_bootstrap=200)
        assert interval is not None
        assert interval[0] <= alpha <= interval[1]
        widths.append(interval[1] - interval[0])
    assert widths[1] < widths[0] / 2


def test_kappa_against_scikit_learn():
    rng = np.random.default_rng(3)
    first = rng.random(60) < 0.4
    second = np.where(rng.random(60) < 0.25, ~first, first)
    weights = np.stack([np.ones(60), rng.integers(1, 4, size=60).astype(float)])
    expected = [cohen_kappa_score(first, second, sample_weight=row) for row in weights]
    assert cohen_kappas(first, second, weights) == pytest.approx(expected)
    assert np.isnan(cohen_kappas(np.ones(4, dtype=bool), np.ones(4, dtype=bool), np.ones((1, 4)))[0])
