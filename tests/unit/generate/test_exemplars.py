"""Examples in a prompt: where they stand, and which are chosen."""

from collections import Counter
from dataclasses import replace

import pytest

from penname.generate.conditioning import Condition
from penname.generate.exemplars import Exemplar, choose_exemplars, fill_prompt_after, find_like
from penname.template import RecordTemplate

OWN_EXAMPLE = "Hats, 4: Warm|Keeps warm.\n\n"
ONE = Exemplar(5, "Jeans", "", "Great", "They fit.", votes=2.0)
CONDITION = Condition("synthetic-0", 5, "Jeans", "")


@pytest.mark.parametrize("opening", ["", OWN_EXAMPLE])
def test_an_exemplar_stands_between_the_templates_own_example_and_the_prompt(opening):
    template = RecordTemplate(opening + "{category}, {rating}:", " {title}|{text}\n\n", "1")
    assert fill_prompt_after(template, ONE, CONDITION) == opening + "Jeans, 5: Great|They fit.\n\nJeans, 5:"


def test_an_exemplar_cannot_end_its_record_early():
    template = RecordTemplate("{category}, {rating}:", " {title}|{text}\n\n", "1")
    prompt = fill_prompt_after(template, replace(ONE, text="One.\n\nJeans, 1: Bad|Two."), CONDITION)
    assert prompt.count("\n\n") == 1


def test_one_of_the_same_rating_and_category_is_preferred():
    others = [replace(ONE, category="Dresses"), replace(ONE, rating=1)]
    assert find_like([*others, ONE], CONDITION) == [ONE]
    assert find_like(others, CONDITION) == [others[0]]
    assert find_like(others[1:], CONDITION) == others[1:]


def test_they_are_chosen_in_proportion_to_their_votes_and_place_by_place():
    population = [replace(ONE, title=f"{votes:g}", votes=votes) for votes in (3.0, 1.0, 0.0, -5.0)]
    conditions = [CONDITION] * 400
    chosen = choose_exemplars(population, conditions, seed=1)
    counts = Counter(one.title for one in chosen)
    assert set(counts) == {"3", "1"}
    assert 250 < counts["3"] < 350
    assert choose_exemplars(population, conditions[:7], seed=1) == chosen[:7]
    assert choose_exemplars(population, conditions, seed=2) != chosen


def test_where_noise_drowned_all_votes_each_is_as_likely():
    population = [replace(ONE, title=str(i), votes=-1.0 - i) for i in range(3)]
    assert len({one.title for one in choose_exemplars(population, [CONDITION] * 60, seed=1)}) == 3
