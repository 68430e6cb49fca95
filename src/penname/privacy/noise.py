"""Gaussian noise from the keystream."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from penname.privacy.errors import PrivacyError
from penname.privacy.keystream import Keystream

_NUM_SUMMANDS = 4
# Summands that are computed at a time, each with all of its numbers in memory.
_NUM_THREADS = 2
_PART_SIZE = 32_768


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

    def draw_summand(number: int) -> NDArray[np.float64]:
        return _draw_normals(keystream, f"{purpose}/noise-{number}", index, size)

    total = np.zeros(size)
    with ThreadPoolExecutor(_NUM_THREADS) as threads:
        # Added in their order, whichever is ready first: the same draw is the same bits.
        for normals in threads.map(draw_summand, range(_NUM_SUMMANDS)):
            total += normals
    total *= stddev / math.sqrt(_NUM_SUMMANDS)
    return total


def _draw_normals(keystream: Keystream, purpose: str, index: int, size: int) -> NDArray[np.float64]:
    """(size,) standard normals by Box and Muller: cosines first, then sines."""
    half = (size + 1) // 2
    uniforms = keystream.draw_uniforms(purpose, index, 2 * half)
    for begin in range(0, half, _PART_SIZE):
        # Part by part and in place, so that what is computed stays in the processor's cache.
        first, second = (uniforms[start + begin : start + min(begin + _PART_SIZE, half)] for start in (0, half))
        radius = np.sqrt(-2.0 * np.log1p(-first))
        angle = 2.0 * math.pi * second
        np.multiply(radius, np.cos(angle), out=first)
        np.multiply(radius, np.sin(angle), out=second)
    return uniforms[:size]
