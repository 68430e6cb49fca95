"""Cosine to the nearest real text."""

import numpy as np
import pytest

from penname.evaluate.fidelity import nearest_neighbour_cosine
from penname.evaluate.fidelity.nearest_neighbour_cosine import nearest_neighbour_cosines


def test_known_angles(monkeypatch):
    real = np.array([[1.0, 0.0], [0.0, 1.0]])
    angle = np.pi / 6
    candidates = np.array([[1.0, 0.0], [np.cos(angle), np.sin(angle)], [-1.0, 0.0], [-np.sqrt(0.5), -np.sqrt(0.5)]])
    expected = [1.0, np.cos(angle), 0.0, -np.sqrt(0.5)]
    assert nearest_neighbour_cosines(candidates, real) == pytest.approx(expected)
    monkeypatch.setattr(nearest_neighbour_cosine, "_ROWS_AT_ONCE", 3)
    assert nearest_neighbour_cosines(candidates, real) == pytest.approx(expected)


def test_rounding_never_exceeds_one():
    rows = np.random.default_rng(0).normal(size=(50, 7))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert np.all(nearest_neighbour_cosines(rows * (1 + 1e-12), rows) <= 1.0)
