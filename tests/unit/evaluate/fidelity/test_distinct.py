"""Distinct-n over equal numbers of words."""

import pytest

from penname.config import EvaluateConfig
from penname.evaluate.evaluate import build_samples
from penname.evaluate.fidelity.distinct import DISTINCT_1, DISTINCT_2
from penname.evaluate.samples import Row


def samples_of(test, synthetic):
    rows = {name: [Row(5.0, "", text, "") for text in texts] for name, texts in {"test": test, **synthetic}.items()}
    arms = {name: rows[name] for name in synthetic}
    return build_samples(train=rows["test"], heldout=rows["test"], test=rows["test"], synthetic=arms, config=EvaluateConfig(num_bootstrap=20))


def values(metric, samples):
    return {estimate.arm: estimate.value for estimate in metric.compute(samples)}


def test_known_counts():
    samples = samples_of(["a b c d", "e f g h"], {"loop": ["a a a a", "a a a a"], "half": ["a b a b", "c d c d"]})
    assert values(DISTINCT_1, samples) == {"real": 1.0, "loop": 1 / 8, "half": 0.5}
    assert values(DISTINCT_2, samples) == {"real": 1.0, "loop": 1 / 6, "half": pytest.approx(4 / 6)}


def test_longer_texts_are_cut_to_the_words_of_the_shorter_set():
    long = [" ".join(f"{word}{num}" for word in "abcd") + " x y" * 20 for num in range(2)]
    samples = samples_of(["a b c d", "e f g h"], {"long": long})
    # Over all 88 words it would be 10 / 88.
    assert values(DISTINCT_1, samples)["long"] >= 0.5


def test_a_set_without_words_takes_nobody_with_it():
    samples = samples_of(["a b c d", "e f g h"], {"empty": ["!", "?"], "good": ["a b c d", "i j k l"]})
    assert values(DISTINCT_1, samples) == {"real": 1.0, "good": 1.0}
    assert [(left.arm, left.name) for left in samples.left_out] == [("empty", "distinct_1_frac")]
