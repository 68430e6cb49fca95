"""The self-check of draws finds what is broken, and passes what is right."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from penname.privacy import exponential
from penname.privacy.errors import SelfCheckError
from penname.privacy.exponential import BoundedScores, ExponentialDraws
from penname.privacy.exponential_checks import check_draws
from penname.privacy.keystream import Keystream
from tests.conftest import charged

DRAWS = charged(ExponentialDraws(0.9, 0.15, 96, Keystream.from_seed(43)))
PUBLIC = np.log(np.array([0.4, 0.3, 0.2, 0.1]))
SAID = torch.log_softmax(torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 4, dim=-1)


def score_units(indices, *, mechanism=DRAWS, said=SAID):
    rows = said[list(indices)]
    return rows, [mechanism.bound_scores(PUBLIC, rows[:, step], expected_units=3.0) for step in range(2)]


def test_what_is_right_passes():
    checks = check_draws(DRAWS, score_units, num_probe_units=3)
    assert [check.name for check in checks] == ["batch_mates", "sensitivity", "noise", "sampler", "adapters_moved"]
    assert all(check.passed for check in checks)
    assert check_draws(DRAWS, score_units, num_probe_units=0)


def test_a_unit_that_says_something_else_among_others_is_found():
    def shifted(indices):
        rows, scores = score_units(indices)
        return rows + (1e-12 if len(rows) > 1 else 0), scores

    with pytest.raises(SelfCheckError, match="batch_mates"):
        check_draws(DRAWS, shifted, num_probe_units=3)


@pytest.mark.parametrize(
    "unbounded",
    [
        lambda rows: PUBLIC + (rows.numpy() - PUBLIC).sum(axis=0) / 3,
        lambda rows: rows.numpy().mean(axis=0) if len(rows) else PUBLIC,
        lambda rows: PUBLIC + 1.5 * (DRAWS.bound_scores(PUBLIC, rows, expected_units=3.0).value - PUBLIC),
    ],
    ids=["not clipped", "divided by the units that are there", "one and a half times the bound"],
)
def test_a_unit_that_moves_a_score_too_far_is_found(unbounded):
    def score(indices):
        rows = SAID[list(indices)]
        return rows, [BoundedScores(unbounded(rows[:, step]), DRAWS.linf_sensitivity, len(rows)) for step in range(2)]

    with pytest.raises(SelfCheckError, match="sensitivity"):
        check_draws(DRAWS, score, num_probe_units=3)


def test_draws_at_another_temperature_are_found(monkeypatch):
    own = exponential._draw
    monkeypatch.setattr(exponential, "_draw", lambda *given: own(*given[:-1], given[-1] * 0.67))
    with pytest.raises(SelfCheckError, match="noise"):
        check_draws(DRAWS, score_units, num_probe_units=3)


def test_the_likeliest_word_instead_of_a_draw_is_found(monkeypatch):
    monkeypatch.setattr(exponential, "_draw", lambda keystream, purpose, group, place, scores, temperature: int(scores.argmax()))
    with pytest.raises(SelfCheckError, match="noise"):
        check_draws(DRAWS, score_units, num_probe_units=3)


def test_groups_in_turn_instead_of_drawn_ones_that_reach_further_are_found(monkeypatch):
    monkeypatch.setattr(exponential, "_choose", lambda keystream, purpose, num_choices: np.zeros(len(num_choices), dtype=np.int64))
    with pytest.raises(SelfCheckError, match="sampler"):
        check_draws(DRAWS, score_units, num_probe_units=3)


def test_one_list_of_random_numbers_for_all_texts_is_found(monkeypatch):
    own = exponential._draw

    def forgetful(keystream, purpose, group, place, scores, temperature):
        # The law of many draws is right, and every second text repeats the one before it.
        return own(keystream, purpose, group // 2, place, scores, temperature)

    monkeypatch.setattr(exponential, "_draw", forgetful)
    with pytest.raises(SelfCheckError, match=r"adapters_moved|noise"):
        check_draws(DRAWS, score_units, num_probe_units=3)


def test_what_a_check_says_does_not_depend_on_the_data():
    details: list[list[str]] = []
    for said in (SAID, SAID * 2):
        checks = check_draws(replace(DRAWS), lambda indices, said=said: score_units(indices, said=said), num_probe_units=3)
        details.append([check.detail for check in checks])
    assert details[0] == details[1]
