import pytest

from penname.config import Config
from penname.model.tokenize import TokenizedRecord
from penname.plan.work import count_training
from penname.train.layout import Layout


def unit(*lengths: int) -> list[TokenizedRecord]:
    return [TokenizedRecord([1] * length, 10) for length in lengths]


def config(**train) -> Config:
    return Config.model_validate({"train": {"expected_batch_size": 8, "num_steps": 3, **train}})


PACKED = Layout(128, 0)


def test_a_step_has_the_expected_units_and_their_tokens():
    work = count_training(config(), [unit(40), unit(40, 40)], PACKED, num_units=400, keeps_states=False)
    assert work.units_a_step == pytest.approx(8, rel=0.15)
    assert work.tokens_a_step == pytest.approx(8 * 60, rel=0.2)
    assert work.tokens == 3 * work.tokens_a_step
    assert 0 < work.filling_frac < 0.5


def test_tiles_are_counted_with_their_filling():
    # Three records of 40 tokens fit into a tile of 128, and every unit is drawn.
    work = count_training(config(expected_batch_size=9), [unit(40)], PACKED, num_units=9, keeps_states=False)
    assert (work.tokens_a_step, work.computed_tokens_a_step) == (360, 384)


def test_without_tiles_nothing_is_filling():
    work = count_training(config(), [unit(40)], Layout(None, 0), num_units=100, keeps_states=False)
    assert work.filling_frac == 0


def test_frozen_layers_see_a_record_once():
    always = count_training(config(expected_batch_size=9), [unit(40)], PACKED, num_units=9, keeps_states=True)
    assert always.frozen_tokens == 384
    seldom = count_training(config(), [unit(40)], PACKED, num_units=10**6, keeps_states=True)
    assert seldom.frozen_tokens == pytest.approx(3 * seldom.computed_tokens_a_step, rel=0.01)
    assert count_training(config(), [unit(40)], PACKED, num_units=100, keeps_states=False).frozen_tokens == 0


def test_the_self_check_sums_as_often_as_it_does():
    # Together, each of three alone, and without the last: one tile each.
    units = [unit(30), unit(35), unit(40), unit(25)]
    assert count_training(config(), units, PACKED, num_units=100, keeps_states=False).check_tokens == 5 * 128
