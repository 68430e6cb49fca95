"""DP marginals: how many units there are, and how often each (rating, category) occurs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from penname.privacy.accounting import FIRST_DELTA_FRAC, calibrate_noise
from penname.privacy.errors import PrivacyError
from penname.privacy.keystream import Keystream
from penname.privacy.mechanism import GaussianRelease

# A count of hundreds of units bears more noise than the many cells of a histogram.
_COUNT_FRAC = 0.25


def plan_marginals(*, target_epsilon: float, delta: float, max_records_per_unit: int, keystream: Keystream) -> tuple[GaussianRelease, GaussianRelease]:
    """The two releases, the count of units and the histogram of cells, that together spend at most (target_epsilon, delta).

    The count is accounted for apart from all else, at its own share of delta; see `accounting.compute_epsilon_in_two_parts`.

    Args:
      target_epsilon: The marginals' share of the promise.
      delta: In (0, 1).
      max_records_per_unit: Contribution bound: one unit moves the histogram by at most this, even if all its records share a cell.
      keystream: Source of the noise.
    Returns:
      The release of the count (sensitivity 1) and of the histogram (sensitivity max_records_per_unit).
    """

    def calibrate(share: float, delta_share: float) -> float:
        probe = {"type": "gaussian", "l2_sensitivity": 1.0}
        return calibrate_noise(lambda sought: [{**probe, "noise_multiplier": sought}], target_epsilon=share * target_epsilon, delta=delta_share * delta)

    count = GaussianRelease("count_units", calibrate(_COUNT_FRAC, FIRST_DELTA_FRAC), 1.0, keystream)
    histogram_noise = calibrate(1 - _COUNT_FRAC, 1 - FIRST_DELTA_FRAC)
    return count, GaussianRelease("histogram", histogram_noise, float(max_records_per_unit), keystream)


def release_unit_count(release: GaussianRelease, *, num_units: int) -> int:
    """The number of units with noise, at least 1. RELEASABLE.

    Guarantee: adding or removing one unit moves the count by 1, the sensitivity of the release.
    """
    return max(1, round(float(release.release(np.array([float(num_units)]))[0])))


def release_histogram(release: GaussianRelease, *, cells: Sequence[int], num_cells: int) -> NDArray[np.float64]:
    """Shares of every cell of the domain, from a noisy histogram.

    Guarantee: every cell of the domain gets noise, seen or not, so that neither the absence nor the presence of a cell is revealed. What
    follows the noise (negative counts to zero, shares) is post-processing.

    Args:
      release: Its sensitivity must be the largest number of records that one unit can have.
      cells: The cell of each record, 0 <= cell < num_cells. PRIVATE.
      num_cells: Size of the public domain.
    Returns:
      (num_cells,) float64 that sums to 1. RELEASABLE. Uniform when noise drowned everything.
    Raises:
      PrivacyError: a cell is outside the domain.
    """
    positions = np.asarray(cells, dtype=np.int64)
    if positions.size and (positions.min() < 0 or positions.max() >= num_cells):
        raise PrivacyError("histogram: a record lies outside the public domain")
    counts = np.bincount(positions, minlength=num_cells).astype(np.float64)
    noisy = np.maximum(release.release(counts), 0.0)
    total = float(noisy.sum())
    return noisy / total if total > 0 else np.full(num_cells, 1.0 / num_cells)
