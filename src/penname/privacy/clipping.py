"""Clipping: one unit's gradient gets a bounded norm, and a sum of them a known sensitivity."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from penname.privacy.errors import PrivacyError

# A clipped gradient is a little shorter than the bound, and the difference is what the rounding of its norm and scale may use up, a few parts in 10^16.
_ROUNDING_MARGIN = 1e-5
# What a unit adds is cut to whole steps of a grid, the largest power of two up to C times 2^-34: less than 2^35 steps a coordinate, so sums of up to
# 200,000 units stay below 2^53 steps, and float64 adds them without rounding, in any order.
_GRID_BITS = 34
_MAX_UNITS_A_SUM = 200_000
_PART_PARAMS = 65_536


@dataclass(frozen=True)
class BoundedSum:
    """A sum over units in which adding or removing one unit moves the value by at most `l2_sensitivity`."""

    value: torch.Tensor
    """(P,) float64. PRIVATE until noise is added."""
    l2_sensitivity: float
    num_units: int
    """PRIVATE."""
    num_clipped: int
    """Units whose gradient was longer than the bound. PRIVATE."""

    def add_disjoint(self, other: BoundedSum) -> BoundedSum:
        """The sum over both sets of units, which share none: the sensitivity stays the same.

        Raises:
          PrivacyError: the two were clipped to different bounds, or there are more units than the rounding of a sum allows.
        """
        if other.l2_sensitivity != self.l2_sensitivity:
            raise PrivacyError(f"clipping: sums with bounds {self.l2_sensitivity} and {other.l2_sensitivity} cannot be joined")
        num_units = self.num_units + other.num_units
        _check_num_units(num_units)
        return BoundedSum(self.value + other.value, self.l2_sensitivity, num_units, self.num_clipped + other.num_clipped)


def _check_num_units(num_units: int) -> None:
    if num_units > _MAX_UNITS_A_SUM:
        raise PrivacyError(f"clipping: {num_units:,} units in one sum, more than the {_MAX_UNITS_A_SUM:,} whose rounding is covered; take smaller batches")


def clip_and_sum(unit_grads: torch.Tensor, *, l2_clip_norm: float) -> BoundedSum:
    """Clips each unit's gradient and sums them.

    Guarantee: L2 sensitivity <= l2_clip_norm under ADD_OR_REMOVE_ONE, rounding included; what a unit adds is a function of its own row alone,
    bit for bit, and sums are exact, in any order and however they are cut; a unit that is not finite contributes zero.

    Args:
      unit_grads: (U, P) float32, PRIVATE; U may be 0.
      l2_clip_norm: Bound > 0, gradient units.
    Returns:
      BoundedSum: value (P,), a sum not a mean, and its sensitivity. PRIVATE.
    Raises:
      PrivacyError: l2_clip_norm is not positive and finite, the gradients are not a float32 matrix, or there are too many.
    Source: Abadi et al. (2016), Algorithm 1. https://arxiv.org/abs/1607.00133

    >>> [round(float(x), 4) for x in clip_and_sum(torch.tensor([[3.0, 4.0]]), l2_clip_norm=1.0).value]
    [0.6, 0.8]
    """
    if not (math.isfinite(l2_clip_norm) and l2_clip_norm > 0):
        raise PrivacyError(f"l2_clip_norm: must be positive and finite, is {l2_clip_norm}")
    if unit_grads.ndim != 2 or unit_grads.dtype != torch.float32:
        raise PrivacyError(f"unit_grads: must be (U, P) float32, is {tuple(unit_grads.shape)} {unit_grads.dtype}")
    _check_num_units(len(unit_grads))
    bound = l2_clip_norm * (1 - _ROUNDING_MARGIN)
    value = torch.zeros(unit_grads.shape[1], dtype=torch.float64, device=unit_grads.device)
    scales: list[float] = []
    for row in unit_grads:
        norm = _norm(row)
        scales.append((min(1.0, bound / norm) if norm else 1.0) if math.isfinite(norm) else 0.0)
    step = 2.0 ** (math.frexp(l2_clip_norm)[1] - 1 - _GRID_BITS)
    # Unit by unit, each in the same way; part by part, so that the part of the sum stays in the processor's cache while they are added.
    for begin in range(0, unit_grads.shape[1], _PART_PARAMS):
        part = slice(begin, begin + _PART_PARAMS)
        for row, scale in zip(unit_grads, scales, strict=True):
            # Not finite: zero times such a number is no number.
            if scale:
                # First scaled, then added: in one step the product would be rounded together with the sum over the others. Cut towards zero,
                # which makes it no longer.
                value[part] += row[part].double().mul_(scale / step).trunc_()
    # To the processor, where the noise is drawn.
    return BoundedSum(value.cpu().mul_(step), l2_clip_norm, len(unit_grads), sum(0 < scale < 1 for scale in scales))


def _norm(row: torch.Tensor) -> float:
    """L2 norm in float64, where neither the square of a float32 nor the sum of many overflows. One row at a time: a norm that is reduced over
    several rows at once may be rounded in another way for another number of rows."""
    total = 0.0
    for begin in range(0, len(row), _PART_PARAMS):
        part = row[begin : begin + _PART_PARAMS].double()
        total += float(part @ part)
    return math.sqrt(total)


def empty_sum(num_params: int, *, l2_clip_norm: float) -> BoundedSum:
    """The sum over no units: what an empty Poisson draw contributes before its noise."""
    return clip_and_sum(torch.zeros(0, num_params, device="cpu"), l2_clip_norm=l2_clip_norm)
