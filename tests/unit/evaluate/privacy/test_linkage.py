"""Linkage attacks on synthetic sets that copy train, and on sets that do not."""

import numpy as np
import pytest

from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.privacy.linkage import ATTRIBUTE_INFERENCE, LINKABILITY, SINGLING_OUT, infer_attribute, nearest_rows, single_out
from penname.evaluate.samples import Row, RowSet, Samples


def draw_rows(seed, num=150):
    """Category and title have nothing to do with the text: only a copy tells them."""
    rng = np.random.default_rng(seed)

    def words(count):
        return " ".join(f"w{k}" for k in rng.integers(0, 400, size=count))

    return [Row(5, words(5), words(25), str(rng.choice(["A", "B", "C", "D"]))) for _ in range(num)]


@pytest.fixture(scope="module")
def samples():
    sets = {name: RowSet(name, draw_rows(seed), None) for seed, name in enumerate(("train", "heldout", "test"))}
    arms = {"fresh": RowSet("fresh", draw_rows(9), None), "copy": RowSet("copy", draw_rows(0), None)}
    return Samples(**sets, synthetic=arms, seed=1, num_bootstrap=20, max_records=1000)


@pytest.mark.parametrize("metric", [ATTRIBUTE_INFERENCE, LINKABILITY, SINGLING_OUT], ids=lambda metric: metric.name)
def test_a_copy_gives_its_records_away_and_fresh_rows_do_not(metric, samples):
    real, fresh, copying = metric.compute(samples)
    for honest in (real, fresh):
        assert honest.ci95[0] <= 0.02
        assert honest.ci95[1] >= -0.02
        assert abs(honest.value) < 0.15
    assert copying.ci95[0] > 0.4
    assert copying.reference == real.value


def test_an_attribute_that_follows_from_the_text_is_no_leak():
    def rows(seed):
        rng = np.random.default_rng(seed)
        return [Row(5, "t", f"{'good' if up else 'bad'} word{rng.integers(90)} here", "X" if up else "Y") for up in rng.random(200) < 0.5]

    sets = {name: RowSet(name, rows(seed), None) for seed, name in enumerate(("train", "heldout", "test", "arm"))}
    samples = Samples(sets["train"], sets["heldout"], sets["test"], {"arm": sets["arm"]}, 1, 20, 1000)
    _, arm = ATTRIBUTE_INFERENCE.compute(samples)
    assert arm.ci95[0] < 0 < arm.ci95[1]
    assert abs(arm.value) < 0.1


def test_neighbours_and_guesses_by_hand():
    targets, synthetic = np.array([[1.0, 0, 0], [0, 0, 1.0]]), np.array([[0.6, 0.8, 0], [1.0, 0, 0], [1.0, 0, 0]])
    assert nearest_rows(targets, synthetic, num=2).tolist() == [[1, 2], [-1, -1]]
    assert infer_attribute(targets, synthetic, ["a", "b", "c"]) == ["b", None]


def test_a_predicate_must_isolate_one_record():
    rng = np.random.default_rng(0)
    alone, twice = single_out(["red lake", "blue sky"], [["a red lake", "x"], ["the lake is red", "red lake"]], num_predicates=10, rng=rng)
    assert sorted(alone.tolist()) == [False, True]
    assert not twice.any()
    with pytest.raises(LeftOutError, match="no pair of words stands in one synthetic record alone"):
        single_out(["same words", "same words"], [["same words"]], num_predicates=10, rng=rng)
    with pytest.raises(LeftOutError, match="no pair of words"):
        single_out(["", "one"], [["one"]], num_predicates=10, rng=rng)
