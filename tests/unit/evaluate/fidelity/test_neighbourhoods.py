"""Precision, recall, density and coverage against values recorded from prdc 0.2, and against the definition taken literally."""

import numpy as np
import pytest

from penname.evaluate.fidelity import neighbourhoods
from penname.evaluate.fidelity.neighbourhoods import find_neighbourhoods
from penname.evaluate.privacy.errors import LeftOutError


def draw_sides():
    rng = np.random.default_rng(7)
    real = rng.normal(size=(40, 6))
    return rng.normal(size=(30, 6)) * 0.8 + 0.4, real


def summarise(found):
    return [float(np.mean(part)) for part in (found.is_in_real, found.is_reached, found.num_reals, found.is_covered)]


def test_agrees_with_the_reference_implementation(monkeypatch):
    fake, real = draw_sides()
    expected = [0.9666666666666667, 0.825, 0.7999999999999999, 0.65]
    assert summarise(find_neighbourhoods(fake, real, num_neighbours=3)) == pytest.approx(expected)
    monkeypatch.setattr(neighbourhoods, "_ROWS_AT_ONCE", 7)
    assert summarise(find_neighbourhoods(fake, real, num_neighbours=3)) == pytest.approx(expected)


def test_agrees_with_the_definition():
    fake, real = draw_sides()
    k = 4

    def radius(side):
        return [sorted(np.linalg.norm(side - row, axis=1))[k] for row in side]

    real_radius, fake_radius = radius(real), radius(fake)
    inside = np.array([[np.linalg.norm(f - r) < real_radius[j] for j, r in enumerate(real)] for f in fake])
    reached = np.array([[np.linalg.norm(f - r) < fake_radius[i] for r in real] for i, f in enumerate(fake)])
    expected = [inside.any(axis=1).mean(), reached.any(axis=0).mean(), inside.sum() / (k * len(fake)), inside.any(axis=0).mean()]
    assert summarise(find_neighbourhoods(fake, real, num_neighbours=k)) == pytest.approx(expected)


def test_one_row_repeated_covers_next_to_nothing_and_far_sides_nothing():
    _, real = draw_sides()
    precision, recall, _, coverage = summarise(find_neighbourhoods(np.repeat(real[:1], 30, axis=0), real))
    assert precision == 1.0
    assert recall == 0.0
    assert coverage < 0.4
    assert summarise(find_neighbourhoods(real + 100, real)) == [0, 0, 0, 0]


def test_too_few_rows_are_said():
    with pytest.raises(LeftOutError, match="more than 5 rows"):
        find_neighbourhoods(np.eye(5), np.eye(9)[:, :5])
