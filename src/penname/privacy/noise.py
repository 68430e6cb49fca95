"""Gaussian noise from the keystream."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from penname.privacy.errors import PrivacyError
from penname.privacy.keystream import Keystream

_NUM_SUMMANDS = 4


def draw_gaussian(keystream: Keystream, *, purpose: str, index: int, size: int, stddev: float) -> NDArray[np.float64]:
    """Draws `size` independent Gaussian numbers with mean 0.

    Each is the sum of four Box-Muller normals, halved: a single floating-point normal takes only some of the values in its range,
    and which ones can be inverted to the draw behind it; the sum of four closes that search (the remedy of Holohan and Braghin, which
    Opacus' secure mode uses too). It is a mitigation of floating-point attacks, not a proof against them.

    Args:
      purpose: What the noise is for; distinct purposes are independent.
      index: Step or release number; distinct indices are independent.
      size: How many.
      stddev: noise_multiplier x l2_sensitivity, > 0 and finite.
    Returns:
      (size,) float64.
    Raises:
      PrivacyError: stddev is not positive and finite.
    Source: Holohan and Braghin (2021), https://arxiv.org/abs/2107.10138; Mironov (2012).
    """
    if not (math.isfinite(stddev) and stddev > 0):
        raise PrivacyError(f"noise: the standard deviation must be positive and finite, is {stddev}")
    total = np.zeros(size)
    half = (size + 1) // 2
    for summand in range(_NUM_SUMMANDS):
        uniforms = keystream.draw_uniforms(f"{purpose}/noise-{summand}", index, 2 * half)
        radius = np.sqrt(-2.0 * np.log1p(-uniforms[:half]))
        angle = 2.0 * math.pi * uniforms[half:]
        total[:half] += radius * np.cos(angle)
        total[half:] += (radius * np.sin(angle))[: size - half]
    return total * (stddev / math.sqrt(_NUM_SUMMANDS))
