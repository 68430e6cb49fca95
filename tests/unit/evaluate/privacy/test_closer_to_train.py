"""Half of the synthetic records are closer to train, unless they were copied from it."""

import numpy as np
import pytest

from penname.evaluate.privacy.closer_to_train import CLOSER_TO_TRAIN, find_nearest, measure_closer_to_train, weigh_words
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.samples import Row, RowSet, Samples


def draw_texts(seed, num):
    rng = np.random.default_rng(seed)
    return [" ".join(f"w{k}" for k in rng.integers(0, 300, size=25)) for _ in range(num)]


def make_samples(synthetic, num=150):
    def as_rows(name, texts):
        return RowSet(name, [Row(5, "", text, "C") for text in texts], None)

    sets = {name: as_rows(name, draw_texts(seed, num)) for seed, name in enumerate(("train", "heldout", "test"))}
    return Samples(**sets, synthetic={arm: as_rows(arm, texts) for arm, texts in synthetic.items()}, seed=1, num_bootstrap=20, max_records=1000)


def test_half_by_chance_all_for_a_copyist_none_for_a_copyist_of_heldout():
    samples = make_samples({"fresh": draw_texts(9, 150), "copy": draw_texts(0, 150), "contrary": draw_texts(1, 150)})
    real, fresh, copying, contrary = CLOSER_TO_TRAIN.compute(samples)
    for chance in (real, fresh):
        assert chance.ci95[0] < 0.5 < chance.ci95[1]
    assert (copying.value, contrary.value) == (1.0, 0.0)
    assert fresh.reference == real.value


def test_ties_are_tossed():
    rows = np.eye(4)
    found = measure_closer_to_train(np.tile(rows, (500, 1)), rows, rows, rng=np.random.default_rng(0))
    assert 0.45 < found.frac < 0.55


def test_many_candidates_near_one_record_tell_no_more_than_one():
    found = measure_closer_to_train(np.tile([[1.0, 0.0]], (1000, 1)), np.array([[0.9, 0.1]]), np.array([[0.1, 0.9]]), rng=np.random.default_rng(0))
    assert (found.frac, found.num_effective) == (1.0, 1.0)
    assert found.ci95[0] < 0.5


def test_the_interval_covers_one_half_where_nothing_was_copied():
    """Directions at random have hubs, records that are the nearest of many: Wilson's interval over all candidates would miss half far too often."""
    rng, covered = np.random.default_rng(1), 0
    for _ in range(200):
        rows = rng.normal(size=(180, 30))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        low, high = measure_closer_to_train(rows[:100], rows[100:140], rows[140:], rng=rng).ci95
        covered += low <= 0.5 <= high
    assert covered >= 184


def test_sparse_and_dense_rows_have_the_same_neighbours():
    first, second = weigh_words(draw_texts(1, 40), draw_texts(2, 60))
    expected = first.toarray() @ second.toarray().T
    cosines, places = find_nearest(first, second)
    np.testing.assert_allclose(cosines, expected.max(axis=1), rtol=1e-5)
    assert places.tolist() == expected.argmax(axis=1).tolist()


def test_unequal_numbers_and_texts_without_words():
    with pytest.raises(ValueError, match="3 training rows against 2 heldout rows"):
        measure_closer_to_train(np.eye(3), np.eye(3), np.eye(3)[:2], rng=np.random.default_rng(0))
    with pytest.raises(LeftOutError, match="no text has a word"):
        weigh_words(["!", ""], ["..."])
