"""Wasserstein distance against scipy and against hand-made answers."""

import numpy as np
import pytest
from scipy.stats import wasserstein_distance as oracle

from penname.evaluate.fidelity.wasserstein import SENTENCES_PER_REVIEW, WORDS_PER_REVIEW, WORDS_PER_SENTENCE, wasserstein_distance
from penname.evaluate.samples import Row, RowSet, Samples


def _distance(first, second):
    values = np.unique([*first, *second])
    counts = [np.array([list(own).count(value) for value in values]) for own in (first, second)]
    return wasserstein_distance(values, *counts)


def test_a_shift_is_the_distance_and_equal_is_zero():
    lengths = [3, 5, 5, 9, 20]
    assert _distance(lengths, lengths) == 0
    assert _distance(lengths, [length + 7 for length in lengths]) == pytest.approx(7)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_scipy_on_samples_of_unequal_size(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, 40, size=60), rng.integers(10, 30, size=17)
    assert _distance(first, second) == pytest.approx(oracle(first, second))


def _samples(synthetic_text, real_text, num=30):
    def row_set(name, text):
        return RowSet(name, [Row(rating=5, title="", text=text, category="c")] * num, None)

    sets = {name: row_set(name, real_text) for name in ("train", "heldout", "test")}
    return Samples(**sets, synthetic={"a": row_set("a", synthetic_text)}, seed=1, num_bootstrap=20, max_records=100)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [(WORDS_PER_REVIEW, 4.0), (SENTENCES_PER_REVIEW, 1.0), (WORDS_PER_SENTENCE, 1.0)],
)
def test_units_are_words_and_sentences(metric, expected):
    # 2 sentences of 3 and 3 words against 3 sentences of 4, 4 and 2 words.
    samples = _samples("a b c. d e f.", "a b c d. e f g h. i j.")
    real, arm = metric.compute(samples)
    assert (real.arm, real.value, real.reference) == ("real", 0.0, 0.0)
    # Words per sentence: {3, 3} against {2, 4, 4}: a third moves 1 down, two thirds move 1 up.
    assert arm.value == pytest.approx(expected)
    assert arm.ci95 == pytest.approx((arm.value, arm.value))


@pytest.mark.parametrize(("metric", "expected"), [(WORDS_PER_REVIEW, 4.0), (SENTENCES_PER_REVIEW, 1.0), (WORDS_PER_SENTENCE, 4.0)])
def test_texts_without_words_have_length_zero(metric, expected):
    _, arm = metric.compute(_samples("👍", "a b c d."))
    assert arm.value == pytest.approx(expected)
