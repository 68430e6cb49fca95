"""Controls in another order, and that a text known by heart stands out."""

import numpy as np
import pytest

from penname.config import EvaluateConfig
from penname.evaluate.evaluate import build_samples
from penname.evaluate.fidelity.contamination import CONTAMINATION_SENTENCES, reorder
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.samples import Row


def test_controls_hold_the_same_parts_in_another_order():
    text = "One came. Two went! Three stayed?"
    for seed in range(5):
        control = reorder(text, "sentence", np.random.default_rng(seed))
        assert control != text
        assert sorted(control.split()) == sorted(text.split())
    assert reorder("Only one sentence.", "sentence", np.random.default_rng(0)) is None
    assert reorder("no no no", "word", np.random.default_rng(0)) is None


def rows(kind, num=8):
    return [Row(5.0, "", f"First of {kind} {i}. Second of {kind} {i}. Third of it.", "") for i in range(num)]


def make_samples(likelihood):
    synthetic = {"made": rows("made")}
    config = EvaluateConfig(num_bootstrap=20)
    return build_samples(train=rows("a"), heldout=rows("b"), test=rows("known"), synthetic=synthetic, config=config, likelihood=likelihood)


def test_texts_known_by_heart_stand_out():
    known = {row.text for row in rows("known")}
    samples = make_samples(lambda texts: [np.full(10, -0.5 if text in known else -2.0) for text in texts])
    found = {estimate.arm: estimate.value for estimate in CONTAMINATION_SENTENCES.compute(samples)}
    assert found["real"] == pytest.approx(1.5 / np.log(2))
    assert found["made"] == pytest.approx(0.0)


def test_without_a_base_model_it_is_left_out():
    with pytest.raises(LeftOutError, match="no base model"):
        CONTAMINATION_SENTENCES.compute(make_samples(None))
