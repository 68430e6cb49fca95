"""Precision, recall, density and coverage: whether each side stands where the other has its nearest neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from penname.evaluate.bootstrap import Interval, interval_around, share_interval_around
from penname.evaluate.metric import Estimate, Metric, compare_with_test
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.samples import RowSet, Samples

NUM_NEIGHBOURS = 5
_ROWS_AT_ONCE = 1024
_SOURCE = "Naeem et al. (2020), five neighbours; arXiv:2002.09797"
_PRECISION_SOURCE = "Kynkäänniemi et al. (2019), five neighbours; arXiv:1904.06991"


@dataclass(frozen=True, slots=True)
class Neighbourhoods:
    """What each record contributes; every figure is the mean of one of these. PRIVATE."""

    is_in_real: np.ndarray
    """(n,) bool: the candidate lies in the neighbourhood of a real record."""
    num_reals: np.ndarray
    """(n,) in how many it lies, over NUM_NEIGHBOURS."""
    is_reached: np.ndarray
    """(m,) bool: the real record lies in the neighbourhood of a candidate."""
    is_covered: np.ndarray
    """(m,) bool: a candidate lies in the neighbourhood of the real record."""


def find_neighbourhoods(candidates: np.ndarray, real: np.ndarray, *, num_neighbours: int = NUM_NEIGHBOURS) -> Neighbourhoods:
    """Looks which points lie in whose neighbourhoods; the neighbourhood of a point reaches to its k-th nearest neighbour on its own side.

    Memory grows with n + m, not with their product.

    Args:
      candidates: (n, D), n > num_neighbours.
      real: (m, D), m > num_neighbours. PRIVATE.
      num_neighbours: k.
    Raises:
      LeftOutError: a side has too few rows.
    Source: Naeem et al. (2020), equations 4 to 6. https://arxiv.org/abs/2002.09797
    """
    if min(len(candidates), len(real)) <= num_neighbours:
        raise LeftOutError(f"needs more than {num_neighbours} rows in every set; give more rows")
    own_radius, real_radius = _radii(candidates, num_neighbours), _radii(real, num_neighbours)
    num_reals, is_reached, is_covered = np.zeros(len(candidates)), np.zeros(len(real), dtype=bool), np.zeros(len(real), dtype=bool)
    for start in range(0, len(candidates), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        squares = _square_distances(candidates[part], real)
        # Strictly inside, as the reference implementation: on a border lie copies, whose neighbourhoods have no size.
        is_inside = squares < real_radius
        num_reals[part] = is_inside.sum(axis=1)
        is_covered |= is_inside.any(axis=0)
        is_reached |= (squares < own_radius[part, None]).any(axis=0)
    return Neighbourhoods(num_reals > 0, num_reals / num_neighbours, is_reached, is_covered)


def _square_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n, m) squared Euclidean distances, not below 0."""
    squares = np.sum(first**2, axis=1)[:, None] + np.sum(second**2, axis=1)[None, :] - 2 * (first @ second.T)
    return np.maximum(squares, 0.0, out=squares)


def _radii(rows: np.ndarray, num_neighbours: int) -> np.ndarray:
    """(n,) squared distance of each row to its k-th nearest other row."""
    radii = np.empty(len(rows))
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        squares = _square_distances(rows[start : start + _ROWS_AT_ONCE], rows)
        # Place k, counted from 0: place 0 is the row itself.
        radii[start : start + _ROWS_AT_ONCE] = np.partition(squares, num_neighbours, axis=1)[:, num_neighbours]
    return radii


_FIGURES: dict[str, Callable[[Neighbourhoods], np.ndarray]] = {
    "embedding_precision_score": lambda found: found.is_in_real,
    "embedding_recall_score": lambda found: found.is_reached,
    "embedding_density_score": lambda found: found.num_reals,
    "embedding_coverage_score": lambda found: found.is_covered,
}


def _measure(name: str, bounds: Interval, candidate: RowSet, test: RowSet, samples: Samples, stream: str) -> tuple[float, Interval]:
    """The bootstrap draws the records of one side and keeps the other: drawing both would pull neighbours away."""
    key = ("neighbourhoods", candidate.name, test.name, len(test))
    found = samples.once(key, lambda: find_neighbourhoods(candidate.embeddings, test.embeddings))
    each, rng = _FIGURES[name](found).astype(np.float64), samples.generator(stream)
    value = float(each.mean())
    resampled = [float(each[rng.integers(len(each), size=len(each))].mean()) for _ in range(samples.num_bootstrap)]
    if bounds == (0.0, 1.0):
        return value, share_interval_around(value, resampled, num_records=len(each))
    return value, interval_around(value, resampled, bounds)


def _compute(name: str, bounds: Interval, samples: Samples) -> list[Estimate]:
    return compare_with_test(samples, name, partial(_measure, name, bounds))


def _declare(name: str, bounds: Interval, source: str) -> Metric:
    return Metric(name, "fidelity", "higher", bounds, 1, source, partial(_compute, name, bounds))


PRECISION = _declare("embedding_precision_score", (0.0, 1.0), _PRECISION_SOURCE)
RECALL = _declare("embedding_recall_score", (0.0, 1.0), _PRECISION_SOURCE)
DENSITY = _declare("embedding_density_score", (0.0, float("inf")), _SOURCE)
COVERAGE = _declare("embedding_coverage_score", (0.0, 1.0), _SOURCE)
