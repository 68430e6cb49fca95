import pytest

from penname.generate.decode import Request, Rules, find_prefix
from penname.generate.nucleus import Sampling
from penname.generate.slots import SlotDecoder
from penname.plan.rehearsal import Writing, _rehearse, rehearse
from tests.conftest import make_tiny_llama

PROMPTS = [(1, 5, 6, 7), (1, 5, 8), (1, 5, 6, 9, 10, 11)]


def fixed(length: int, *, unparsed_prob: float = 0.0, max_draws: int = 4) -> Writing:
    return Writing([0.0] * (length - 1) + [1.0], unparsed_prob, max_new_tokens=40, max_draws=max_draws)


def test_texts_that_are_written_together_take_the_steps_of_one():
    passes = rehearse(PROMPTS[:1], fixed(9), num_records=6, num_slots=8, widths=[128])
    # Nine steps, one pass over the prompt.
    assert (passes.num_passes, passes.num_rows, passes.num_tokens, passes.num_draws) == (10, 1280, 54, 6)


def test_a_pass_has_the_smallest_width_that_is_enough():
    passes = rehearse(PROMPTS[:1], fixed(9), num_records=20, num_slots=20, widths=[4, 32, 128])
    assert (passes.num_passes, passes.num_rows) == (10, 9 * 32 + 4)


def test_texts_that_wait_for_a_slot_come_after_the_others():
    assert rehearse(PROMPTS[:1], fixed(9), num_records=16, num_slots=8, widths=[128]).num_passes == 19


def test_a_text_that_does_not_parse_is_written_again_as_often_as_allowed():
    passes = rehearse(PROMPTS, fixed(9, unparsed_prob=1.0, max_draws=3), num_records=4, num_slots=8, widths=[128])
    assert (passes.num_draws, passes.num_tokens) == (12, 108)


def test_no_text_is_longer_than_it_may_be():
    passes = rehearse(PROMPTS, Writing([0.0], 0.0, max_new_tokens=7, max_draws=1), num_records=5, num_slots=8, widths=[128])
    assert passes.num_tokens == 35


def test_the_schedule_is_the_decoders_own(monkeypatch: pytest.MonkeyPatch):
    counted = []
    compute = SlotDecoder._pass
    monkeypatch.setattr(SlotDecoder, "_pass", lambda self, *args, **more: counted.append(compute(self, *args, **more)) or counted[-1])
    model = make_tiny_llama()
    # No text ends but by its length: nothing depends on what the model says.
    rules = Rules(Sampling(1.0, 1.0, 12), eos_id=0, suppressed_ids=(0,))
    asked = [PROMPTS[i % 3] for i in range(21)]
    decoder = SlotDecoder.open(model, rules, num_slots=8, longest=20)
    assert decoder is not None
    counted.clear()
    decoder.widths = [16, 128]
    decoder.decode([Request((1, i, 1), prompt) for i, prompt in enumerate(asked)], lambda request, text: None, prefix=find_prefix(asked))
    real = [len(rows) for rows in counted]
    planned = rehearse(PROMPTS, Writing([0.0], 0.0, max_new_tokens=12, max_draws=1), num_records=21, num_slots=8, widths=[16, 128])
    # Three times eight slots, twelve steps each.
    assert planned.num_passes >= 36
    assert abs(planned.num_passes - len(real)) <= 1
    assert abs(planned.num_rows - sum(real)) <= 16


def test_a_large_job_is_drawn_on_from_a_smaller_one():
    writing = Writing([0.02] * 10, 0.1, max_new_tokens=40, max_draws=4)
    drawn_on, whole = (find(PROMPTS, writing, num_records=1100, num_slots=32, widths=[16, 32, 128]) for find in (rehearse, _rehearse))
    assert drawn_on.num_passes == pytest.approx(whole.num_passes, rel=0.1)
    assert drawn_on.num_rows == pytest.approx(whole.num_rows, rel=0.1)
    assert drawn_on.num_tokens == pytest.approx(whole.num_tokens, rel=0.1)
