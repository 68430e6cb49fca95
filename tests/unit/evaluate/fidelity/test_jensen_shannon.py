"""Jensen-Shannon divergence: known answers and scipy."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon as oracle

from penname.evaluate.fidelity.jensen_shannon import JENSEN_SHANNON_DIVERGENCE, jensen_shannon_divergence
from penname.evaluate.samples import Row, RowSet, Samples


def test_identical_is_zero_and_disjoint_is_one():
    assert jensen_shannon_divergence(np.array([1, 2, 3]), np.array([10, 20, 30])) == pytest.approx(0.0, abs=1e-12)
    assert jensen_shannon_divergence(np.array([1, 2, 0, 0]), np.array([0, 0, 5, 1])) == pytest.approx(1.0)


def test_known_value_and_symmetry():
    # {a: 1} against {a: 1/2, b: 1/2}: 1/2 (log2 4/3) + 1/2 (1/2 log2 2/3 + 1/2 log2 2).
    first, second = np.array([1, 0]), np.array([1, 1])
    expected = 0.5 * np.log2(4 / 3) + 0.5 * (0.5 * np.log2(2 / 3) + 0.5)
    assert jensen_shannon_divergence(first, second) == pytest.approx(expected)
    assert jensen_shannon_divergence(second, first) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_scipy(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, 9, size=50), rng.integers(0, 9, size=50)
    assert jensen_shannon_divergence(first, second) == pytest.approx(oracle(first, second, base=2) ** 2)


def test_sides_without_words():
    none, some = np.zeros(2), np.array([1, 1])
    assert jensen_shannon_divergence(none, none) == 0.0
    assert jensen_shannon_divergence(none, some) == jensen_shannon_divergence(some, none) == 1.0


def _compute(synthetic_text):
    def row_set(name, text):
        return RowSet(name, [Row(rating=5, title="", text=text, category="c")] * 25, None)

    sets = {name: row_set(name, "one two three") for name in ("train", "heldout", "test")}
    samples = Samples(**sets, synthetic={"a": row_set("a", synthetic_text)}, seed=1, num_bootstrap=20, max_records=100)
    return JENSEN_SHANNON_DIVERGENCE.compute(samples)


@pytest.mark.parametrize(("text", "expected"), [("Three, two... ONE!", 0.0), ("four five", 1.0), ("👍", 1.0)])
def test_from_texts(text, expected):
    real, arm = _compute(text)
    assert real.value == pytest.approx(0.0, abs=1e-12)
    assert arm.value == pytest.approx(expected, abs=1e-12)
    assert arm.num_records == 25
