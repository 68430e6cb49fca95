"""Augmentation: rows that teach the task help most where there are few real ones, and rows that teach its opposite harm."""

import numpy as np
import pytest

from penname.config import EvaluateConfig
from penname.evaluate.evaluate import build_samples
from penname.evaluate.samples import Row
from penname.evaluate.utility.augmentation import AUGMENTATION

BY_NAME = {metric.name: metric for metric in AUGMENTATION}
WORDS = tuple(f"word{k}" for k in range(40))


def draw_rows(seed, num, *, flip=False):
    """A rating is good where more of the first twenty words stand; each word is seen seldom, so that few rows teach little."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(num):
        own = rng.choice(20, 3) + (0 if i % 2 else 20)
        rows.append(Row(5.0 if (i % 2 == 1) != flip else 1.0, "", " ".join(WORDS[k] for k in own), "c"))
    return rows


@pytest.fixture(scope="module")
def samples():
    synthetic = {"right": draw_rows(4, 80), "flipped": draw_rows(5, 70, flip=True), "one_class": [Row(5.0, "", row.text, "c") for row in draw_rows(6, 90)]}
    config = EvaluateConfig(num_bootstrap=40)
    return build_samples(train=draw_rows(1, 60), heldout=draw_rows(2, 90), test=draw_rows(3, 90), synthetic=synthetic, config=config)


def by_arm(metric, samples):
    return {estimate.arm: estimate for estimate in BY_NAME[metric].compute(samples)}


def test_good_rows_help_most_where_there_are_few_real_ones(samples):
    few, all_real = by_arm("augmentation_accuracy_gain_10", samples), by_arm("augmentation_accuracy_gain_100", samples)
    assert few["right"].value > 0.1
    assert few["right"].ci95[0] > 0
    assert all_real["right"].value < few["right"].value
    assert few["right"].value == pytest.approx(few["real"].value, abs=0.1)
    assert few["flipped"].value < 0
    assert few["right"].reference == few["real"].value


def test_gain_and_accuracy_say_the_same(samples):
    gain, score = by_arm("augmentation_accuracy_gain_50", samples), by_arm("augmentation_accuracy_score_50", samples)
    for arm in ("right", "flipped", "one_class"):
        assert gain[arm].value == pytest.approx(score[arm].value - score["real"].value)
        assert score[arm].reference == score["real"].value


def test_each_share_is_of_train_and_equal_numbers_are_added(samples):
    for percent, num in ((10, 6), (50, 30), (100, 60)):
        assert {estimate.num_records for estimate in BY_NAME[f"augmentation_accuracy_score_{percent}"].compute(samples)} == {num}
    drawn = samples.for_figures["augmentation"]
    assert drawn["num_added"] == 70
    assert set(drawn["points"]) == {"10", "50", "100"}
    assert set(drawn["points"]["10"]["arms"]) == {"real", "right", "flipped", "one_class"}
