"""Clipping: one unit's gradient gets a bounded norm, and a sum of them a known sensitivity."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch

from penname.privacy.errors import PrivacyError

# A norm computed in float32 may be too small by rounding, so the clipped gradient could exceed the bound by a few parts in 10^6.
_ROUNDING_MARGIN = 1e-5


@dataclass(frozen=True)
class BoundedSum:
    """A sum over units in which adding or removing one unit moves the value by at most `l2_sensitivity`."""

    value: torch.Tensor
    """(P,) float32. PRIVATE until noise is added."""
    l2_sensitivity: float
    num_units: int
    """PRIVATE."""
    num_clipped: int
    """Units whose gradient was longer than the bound. PRIVATE."""

    def add_disjoint(self, other: BoundedSum) -> BoundedSum:
        """The sum over both sets of units, which share none: the sensitivity stays the same.

        Raises:
          PrivacyError: the two were clipped to different bounds.
        """
        if other.l2_sensitivity != self.l2_sensitivity:
            raise PrivacyError(f"clipping: sums with bounds {self.l2_sensitivity} and {other.l2_sensitivity} cannot be joined")
        value = self.value + other.value
        return BoundedSum(value, self.l2_sensitivity, self.num_units + other.num_units, self.num_clipped + other.num_clipped)


def clip_and_sum(unit_grads: torch.Tensor, *, l2_clip_norm: float) -> BoundedSum:
    """Clips each unit's gradient and sums them.

    Guarantee: L2 sensitivity <= l2_clip_norm under ADD_OR_REMOVE_ONE, up to the rounding of the sum; a unit that is not finite, or so long
    that the factor which shortens it is no normal number any more, contributes zero.

    Args:
      unit_grads: (U, P) float32, PRIVATE; U may be 0.
      l2_clip_norm: Bound > 0, gradient units.
    Returns:
      BoundedSum: value (P,), a sum not a mean, and its sensitivity. PRIVATE.
    Raises:
      PrivacyError: l2_clip_norm is not positive and finite, or the gradients are not a float32 (or float64) matrix.
    Source: Abadi et al. (2016), Algorithm 1. https://arxiv.org/abs/1607.00133

    >>> clip_and_sum(torch.tensor([[3.0, 4.0]]), l2_clip_norm=1.0).value
    tensor([0.6000, 0.8000])
    """
    if not (math.isfinite(l2_clip_norm) and l2_clip_norm > 0):
        raise PrivacyError(f"l2_clip_norm: must be positive and finite, is {l2_clip_norm}")
    if unit_grads.ndim != 2 or unit_grads.dtype not in (torch.float32, torch.float64):
        # In half precision the scales alone would round to more than the bound.
        raise PrivacyError(f"unit_grads: must be (U, P) float32, is {tuple(unit_grads.shape)} {unit_grads.dtype}")
    norms = cast("torch.Tensor", torch.linalg.vector_norm(unit_grads, dim=1, dtype=torch.float64))  # pyright: ignore[reportUnknownMemberType]
    bound = l2_clip_norm * (1 - _ROUNDING_MARGIN)
    scales = torch.where(norms > bound, bound / norms, torch.ones_like(norms)).to(unit_grads.dtype)
    # A subnormal scale has lost digits, so the product could be longer than the bound.
    usable = torch.isfinite(norms) & (scales >= torch.finfo(scales.dtype).tiny)
    if bool(usable.all()):
        value = scales @ unit_grads
    else:
        # 0 x inf is nan: rows that cannot be used are left out, not scaled by zero.
        value = scales[usable] @ unit_grads[usable]
    return BoundedSum(value, l2_clip_norm, len(norms), int((norms[usable] > bound).sum()))


def empty_sum(num_params: int, *, l2_clip_norm: float) -> BoundedSum:
    """The sum over no units: what an empty Poisson draw contributes before its noise."""
    return clip_and_sum(torch.zeros(0, num_params), l2_clip_norm=l2_clip_norm)
