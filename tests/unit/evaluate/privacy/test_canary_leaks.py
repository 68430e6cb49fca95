"""Leak counts where what leaked is known."""

from dataclasses import replace

import numpy as np
import pytest

from penname.evaluate.privacy.canary_leaks import FALLBACK_THRESHOLD, choose_threshold, count_leaks
from penname.evaluate.privacy.errors import LeftOutError
from penname.privacy.keystream import Keystream
from penname.records.canaries import ORIGINAL_STRING, draw_canaries

CANARIES = draw_canaries(num_by_repetition=dict.fromkeys((1, 4, 16, 64), 30), texts=[], seed=1, keystream=Keystream.from_seed(1), kinds=("persona",))
INNOCENT = [f"The case number {i} fits my phone and the colour is nice, I would buy it again for {i} dollars." for i in range(300)]


def rows(found, part):
    return {row.num_repetitions: row for row in found if row.part == part}


def test_nothing_leaks_from_innocent_texts():
    leaks = count_leaks(CANARIES, INNOCENT)
    assert all(row.num_leaked == row.num_texts == 0 for row in leaks.exact)
    left_out = [row for row in leaks.fuzzy if row.num_repetitions == 0]
    assert sum(row.num_leaked for row in left_out) <= 0.01 * sum(row.num_canaries for row in left_out)
    assert leaks.exact[0].leaked_ci95[1] > 0


def test_leaks_are_counted_by_part_and_repetition():
    loud = [canary for canary in CANARIES if canary.is_in and canary.num_repetitions == 64]
    texts = [*INNOCENT, loud[0].whole, f"Oh, {loud[0].name}!", f"{loud[1].name} again"]
    leaks = count_leaks(CANARIES, texts)
    name, whole = rows(leaks.exact, "name")[64], rows(leaks.exact, "whole")[64]
    assert (name.num_canaries, name.num_leaked, name.num_texts) == (len(loud), 2, 3)
    assert (whole.num_leaked, whole.num_texts) == (1, 1)
    anything = rows(leaks.exact, "any")[64]
    assert (anything.num_canaries, anything.num_leaked, anything.num_texts) == (len(loud), 2, 3)
    assert name.texts_per_10_000 == pytest.approx(3e4 / len(texts))
    assert all(row.num_texts == 0 for row in leaks.exact if row.num_repetitions != 64)


def test_a_typo_is_a_fuzzy_leak_and_no_exact_one():
    canary = next(canary for canary in CANARIES if canary.is_in and canary.street)
    street = canary.street[:4] + canary.street[5:]
    leaks = count_leaks(CANARIES, [*INNOCENT, f"I live in {street.upper()} now"])
    assert rows(leaks.exact, "street")[canary.num_repetitions].num_leaked == 0
    assert rows(leaks.fuzzy, "street")[canary.num_repetitions].num_leaked == 1


def test_the_threshold_rises_until_left_out_canaries_are_not_found():
    threshold, note = choose_threshold(np.array([88.0] * 10 + [60.0] * 190))
    assert threshold == 89.0
    assert "200 left-out parts are found (0 are)" in note
    assert choose_threshold(np.array([100.0] * 200))[0] == 100.0
    threshold, note = choose_threshold(np.array([80.0] * 30))
    assert threshold == FALLBACK_THRESHOLD
    assert "30 left-out parts, 100 are needed" in note


def test_the_originals_experiment_counts_as_the_original_did():
    canaries = [replace(canary, is_in=True) for canary in draw_canaries(num_by_repetition={1: 0}, texts=[], seed=1, keystream=Keystream.from_seed(3))]
    texts = [ORIGINAL_STRING] * 2 + ["Alex Johnson says hi"] + ["nothing"] * 97
    found = {row.part: row.texts_per_10_000 for row in count_leaks(canaries, texts).exact}
    assert found == {"any": 300.0, "name": 300.0, "street": 200.0, "phone": 200.0, "whole": 200.0}


def test_what_cannot_be_counted_is_said():
    with pytest.raises(LeftOutError, match="no canary was planted"):
        count_leaks([canary for canary in CANARIES if not canary.is_in], INNOCENT)
    with pytest.raises(LeftOutError, match="hold no text"):
        count_leaks(CANARIES, ["", " "])
