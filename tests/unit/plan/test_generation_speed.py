"""Seconds of writing: so much a pass, so much a row, from steps of two widths."""

import pytest

from penname.plan.generation_speed import GenerationSpeed, StepTimes
from penname.plan.rehearsal import Passes, Writing

WRITING = Writing([0.1], 0.0, max_new_tokens=9, max_draws=1)


def make_speed(*steps: StepTimes) -> GenerationSpeed:
    return GenerationSpeed(1.0, list(steps), WRITING, [16, 128])


def test_a_pass_and_its_rows_are_paid_for_apart():
    # Two hundredths a pass and a thousandth a row.
    speed = make_speed(StepTimes(128, [0.148, 0.148]), StepTimes(16, [0.036]))
    assert speed.decode_secs(Passes(10, 10 * 128, 0, 0)) == pytest.approx(1.48)
    assert speed.decode_secs(Passes(10, 10 * 16, 0, 0)) == pytest.approx(0.36)
    assert speed.decode_secs(Passes(10, 10 * 64, 0, 0)) == pytest.approx(0.84)


def test_the_fastest_and_the_slowest_are_those_of_both_widths():
    speed = make_speed(StepTimes(128, [0.3, 0.1]), StepTimes(16, [0.05, 0.02]))
    whole = Passes(4, 4 * 128, 0, 0)
    assert [speed.decode_secs(whole, choose) for choose in (min, max)] == pytest.approx([0.4, 1.2])


def test_with_one_width_every_pass_takes_as_long():
    speed = make_speed(StepTimes(128, [0.2, 0.4, 0.3]))
    assert speed.decode_secs(Passes(10, 10 * 128, 0, 0)) == pytest.approx(3.0)


def test_narrow_steps_that_were_slower_by_chance_make_no_negative_price():
    speed = make_speed(StepTimes(128, [0.2]), StepTimes(16, [0.3]))
    assert speed.decode_secs(Passes(10, 10 * 16, 0, 0)) == pytest.approx(2.0)
