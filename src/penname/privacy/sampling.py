"""Poisson sampling of units: really drawn, one draw a step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from penname.privacy.errors import PrivacyError
from penname.privacy.keystream import Keystream


def draw_poisson_units(keystream: Keystream, *, step: int, num_units: int, sampling_prob: float) -> NDArray[np.int64]:
    """Draws the units of one step, each on its own with probability `sampling_prob`.

    Guarantee: inclusion of a unit is independent of every other unit and of every other step, as
    PoissonSampledDpEvent assumes. The draw may be empty.

    Args:
      step: Number of the step, >= 0.
      num_units: Units in the training split. PRIVATE.
      sampling_prob: In (0, 1], the same for every unit.
    Returns:
      Indices of the drawn units, ascending, (U,) with U from 0 to num_units. PRIVATE.
    Raises:
      PrivacyError: sampling_prob is outside (0, 1].
    Source: Abadi et al. (2016), section 3.1; Zhu and Wang (2019). https://arxiv.org/abs/1607.00133
    """
    if not 0 < sampling_prob <= 1:
        raise PrivacyError(f"sampling_prob: must be in (0, 1], is {sampling_prob}")
    drawn: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
    start = 0
    for uniforms in keystream.iterate_uniforms("poisson_sampling", step, num_units):
        drawn.append(start + np.flatnonzero(uniforms < sampling_prob))
        start += len(uniforms)
    return np.concatenate(drawn)


def draw_dropout_seed(keystream: Keystream, *, step: int) -> int:
    """The seed of one step's dropout masks, from the secret key.

    Guarantee: the masks of a unit are random and independent of every other unit, so that neighbouring data sets can be compared mask by
    mask. Under a seed that is known, adding a unit would shift the masks, and with them the gradients, of all units after it.

    Args:
      step: Number of the step, >= 0.
    Returns:
      A whole number below 2^53. PRIVATE.
    """
    return int(keystream.draw_uniforms("dropout", step, 1)[0] * 2**53)
