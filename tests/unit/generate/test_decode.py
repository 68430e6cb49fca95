"""What every decoder is given: requests with their own random numbers, rules that end a text, the beginning that prompts share."""

import numpy as np
import pytest

from penname.generate.decode import Request, Rules, find_prefix
from penname.generate.nucleus import Sampling


def test_random_numbers_follow_the_key_and_nothing_else():
    numbers = Request((1, 5, 2), (3,)).draw_uniforms(20)
    assert np.array_equal(numbers, Request((1, 5, 2), (9, 9)).draw_uniforms(20))
    assert np.array_equal(numbers[:7], Request((1, 5, 2), (3,)).draw_uniforms(7))
    others = [Request(key, (3,)).draw_uniforms(20) for key in ((1, 5, 1), (1, 2, 5), (2, 5, 2), (1, 6, 2))]
    assert all(not np.array_equal(numbers, other) for other in others)
    assert ((numbers >= 0) & (numbers < 1)).all()


def test_a_text_ends_at_the_end_token_at_the_mark_or_at_the_limit():
    rules = Rules(Sampling(1.0, 0.9, 4), eos_id=2, is_ended=lambda ids: ids[-2:] == [7, 8])
    text: list[int] = []
    assert rules.finish_reason(text, 7) is None
    assert rules.finish_reason(text, 8) == "stop"
    assert text == [7, 8]
    text = [5]
    assert rules.finish_reason(text, 2) == "stop"
    assert text == [5]
    assert [rules.finish_reason(text, token) for token in (5, 5, 5)] == [None, None, "length"]
    assert text == [5, 5, 5, 5]


@pytest.mark.parametrize(
    ("prompts", "prefix"),
    [([], []), ([[1]], []), ([[1, 2], [1, 3]], [1]), ([[4, 5, 6], [4, 5, 6]], [4, 5]), ([[1, 2, 3], [2, 2, 3]], []), ([[1, 2, 9], [1], [1, 2, 8]], [])],
)
def test_the_shared_beginning_leaves_every_prompt_a_token(prompts, prefix):
    assert find_prefix(prompts) == prefix
