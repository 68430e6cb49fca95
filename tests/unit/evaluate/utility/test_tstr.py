"""Train on synthetic, test on real: it sees signal where there is some, and survives data without."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from penname.evaluate.samples import Row, RowSet, Samples
from penname.evaluate.utility.tstr import MAJORITY_ACCURACY, TRTS, TSTR, macro_f1

TSTR_ACCURACY, TSTR_MACRO_F1 = TSTR[:2]

GOOD, BAD = "lovely sturdy great case", "awful broken cheap case"


def _rows(num, flip=False, positive_every=2, texts=(GOOD, BAD)):
    rows = []
    for i in range(num):
        is_positive = i % positive_every == 0
        rows.append(Row(rating=5 if is_positive != flip else 1, title="", text=texts[0] if is_positive else texts[1], category="c"))
    return rows


def _samples(synthetic, test=None):
    sets = {"train": _rows(60), "heldout": _rows(40), "test": test or _rows(40)}
    sets = {name: RowSet(name, rows, None) for name, rows in sets.items()}
    synthetic = {arm: RowSet(arm, rows, None) for arm, rows in synthetic.items()}
    return Samples(**sets, synthetic=synthetic, seed=1, num_bootstrap=50, max_records=1000)


def test_true_labels_score_one_and_flipped_ones_zero():
    samples = _samples({"right": _rows(50), "wrong": _rows(50, flip=True)})
    for metric in (TSTR_ACCURACY, TSTR_MACRO_F1):
        real, right, wrong = metric.compute(samples)
        assert (real.value, right.value, wrong.value) == (1.0, 1.0, 0.0)
        assert right.reference == 1.0
        assert right.num_records == 50


def test_one_class_or_no_words_predicts_a_constant():
    test = _rows(40, positive_every=4)
    one_class = [Row(rating=5, title="", text=GOOD, category="c")] * 30
    no_words = _rows(30, texts=("!!!", "👍"))
    samples = _samples({"one_class": one_class, "no_words": no_words}, test=test)
    _, constant, wordless = TSTR_ACCURACY.compute(samples)
    assert constant.value == pytest.approx(0.25)
    assert wordless.value == pytest.approx(0.25)
    _, constant, _ = TSTR_MACRO_F1.compute(samples)
    assert constant.value == pytest.approx(0.4 / 2)


def test_majority_is_trains_commoner_class_on_test():
    train = RowSet("train", _rows(40, positive_every=4), None)
    test = RowSet("test", _rows(20), None)
    samples = Samples(train=train, heldout=test, test=test, synthetic={}, seed=1, num_bootstrap=20, max_records=9)
    (estimate,) = MAJORITY_ACCURACY.compute(samples)
    assert (estimate.arm, estimate.value, estimate.num_records) == ("real", 0.5, 20)
    assert estimate.ci95[0] < 0.5 < estimate.ci95[1]


@pytest.mark.parametrize("seed", range(4))
def test_macro_f1_agrees_with_sklearn(seed):
    rng = np.random.default_rng(seed)
    truth, predicted = rng.random(30) < 0.7, rng.random(30) < 0.5
    assert macro_f1(truth, predicted) == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert macro_f1(np.ones(5, dtype=bool), np.ones(5, dtype=bool)) == 1.0


def test_the_interval_knows_that_training_rows_are_chance():
    rng = np.random.default_rng(0)
    words = np.array(["a", "b", "c", "d", "e", "f"])
    noisy = [Row(rating=float(rng.integers(1, 6)), title="", text=" ".join(rng.choice(words, 3)), category="c") for _ in range(60)]
    _, arm = TSTR_ACCURACY.compute(_samples({"noise": noisy}, test=noisy))
    assert arm.ci95[1] - arm.ci95[0] > 0.1


def _embed(texts):
    """Good and bad texts lie apart, a little shaken."""
    rng = np.random.default_rng(len(texts))
    vectors = np.array([[1.0 if "lovely" in text else -1.0, 0.3] for text in texts]) + 0.05 * rng.normal(size=(len(texts), 2))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _embedded_samples(synthetic):
    sets = {name: RowSet(name, rows, _embed) for name, rows in {"train": _rows(60), "heldout": _rows(40), "test": _rows(40)}.items()}
    return Samples(**sets, synthetic={arm: RowSet(arm, rows, _embed) for arm, rows in synthetic.items()}, seed=1, num_bootstrap=50, max_records=1000)


@pytest.mark.parametrize("metric", [*TSTR, *TRTS], ids=lambda metric: metric.name)
def test_every_classifier_learns_what_each_set_teaches(metric):
    real, right, wrong = metric.compute(_embedded_samples({"right": _rows(50), "wrong": _rows(50, flip=True)}))
    assert (real.value, right.value, wrong.value) == (1.0, 1.0, 0.0)


def test_shuffled_labels_teach_nothing():
    rng = np.random.default_rng(3)
    noise = [" ".join(f"w{k}" for k in rng.integers(60, size=8)) for _ in range(600)]
    varied = [Row(row.rating, "", f"{'lovely' if row.rating == 5 else 'awful'} {words}", "c") for row, words in zip(_rows(600), noise, strict=True)]
    shuffled = [Row(float(rng.choice([1, 5])), "", row.text, "c") for row in varied[:60]]
    real, teaches, teaches_nothing = TSTR_ACCURACY.compute(_samples({"varied": varied[60:120], "shuffled": shuffled}, test=varied[120:]))
    assert min(real.value, teaches.value) > 0.8
    assert 0.3 < teaches_nothing.value < 0.7
    assert teaches_nothing.ci95[0] < 0.5 < teaches_nothing.ci95[1]


def test_one_repeated_row_teaches_one_class_and_sets_of_unequal_size_are_cut_to_the_smallest():
    repeated = [Row(rating=5, title="", text=GOOD, category="c")] * 200
    estimates = TRTS[0].compute(_embedded_samples({"repeated": repeated, "small": _rows(24)}))
    assert {estimate.num_records for estimate in estimates} == {24}
    _, constant, _ = TSTR_ACCURACY.compute(_embedded_samples({"repeated": repeated, "small": _rows(24)}))
    assert constant.value == 0.5
