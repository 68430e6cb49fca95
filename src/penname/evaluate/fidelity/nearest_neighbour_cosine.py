"""Mean cosine similarity of each synthetic text to its nearest real one."""

from __future__ import annotations

import numpy as np

from penname.evaluate.bootstrap import Interval, interval_around
from penname.evaluate.metric import Estimate, Metric, compare_with_test
from penname.evaluate.samples import RowSet, Samples

NAME = "nearest_neighbour_cosine_score"
MAX_DRAWN = 1000
_ROWS_AT_ONCE = 1024


def nearest_neighbour_cosines(candidates: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Cosine of each candidate to its nearest real text.

    Range, direction, reference: -1 to 1; higher is closer; the reference is heldout against test.

    Args:
      candidates: (n, D) unit length.
      real: (m, D) unit length. PRIVATE.
    Returns:
      (n,) float64. PRIVATE.
    Source: Reimers and Gurevych (2019), Sentence-BERT. https://arxiv.org/abs/1908.10084
    """
    nearest = [np.max(candidates[i : i + _ROWS_AT_ONCE] @ real.T, axis=1) for i in range(0, len(candidates), _ROWS_AT_ONCE)]
    return np.clip(np.concatenate(nearest), -1.0, 1.0)


def _measure(candidate: RowSet, test: RowSet, samples: Samples, stream: str) -> tuple[float, Interval]:
    """The bootstrap draws candidates only: drawing test rows too would remove a third of the neighbours."""
    cosines = nearest_neighbour_cosines(candidate.embeddings, test.embeddings)
    # Enough of them for a histogram, at even distances: a file of all would be large, and shows no more.
    drawn = np.sort(cosines)[np.linspace(0, len(cosines) - 1, min(len(cosines), MAX_DRAWN)).astype(int)]
    samples.for_figures.setdefault("nearest_neighbours", {})[stream.rpartition("/")[2]] = np.round(drawn, 4).tolist()
    value, rng = float(cosines.mean()), samples.generator(stream)
    resampled = [float(cosines[rng.integers(len(cosines), size=len(cosines))].mean()) for _ in range(samples.num_bootstrap)]
    return value, interval_around(value, resampled, (-1.0, 1.0))


def _compute(samples: Samples) -> list[Estimate]:
    return compare_with_test(samples, NAME, _measure)


NEAREST_NEIGHBOUR_COSINE = Metric(NAME, "fidelity", "higher", (-1.0, 1.0), 1, "Reimers and Gurevych (2019); arXiv:1908.10084", _compute)
