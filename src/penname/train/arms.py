"""The two arms: which mechanism each uses, and how it sums the gradients of a physical batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from penname.privacy.clipping import BoundedSum
from penname.privacy.gradients import GRADIENT_ENGINES, GradientEngine, RowPass, SummedEngine
from penname.privacy.mechanism import DpSgd, NonPrivateSum, SumMechanism


class TrainingArm(Protocol):
    """What the loop needs of an arm."""

    @property
    def mechanism(self) -> SumMechanism: ...
    @property
    def num_params(self) -> int: ...
    def sum_batch(self, passes: Sequence[RowPass], num_units: int) -> tuple[BoundedSum, torch.Tensor]: ...


@dataclass(frozen=True)
class PrivateArm:
    """DP-SGD: each unit's gradient, clipped, summed."""

    mechanism: DpSgd
    engine: GradientEngine
    num_params: int

    @classmethod
    def build(cls, model: torch.nn.Module, mechanism: DpSgd, *, engine_name: str) -> PrivateArm:
        """An arm on a model whose adapters alone train."""
        engine = GRADIENT_ENGINES[engine_name](model)
        return cls(mechanism, engine, engine.num_params)

    def sum_batch(self, passes: Sequence[RowPass], num_units: int) -> tuple[BoundedSum, torch.Tensor]:
        """The clipped sum over whole units, and the rows' losses. PRIVATE."""
        unit_grads, losses = self.engine.unit_gradients(passes, num_units)
        return self.mechanism.sum_units(unit_grads), losses


@dataclass(frozen=True)
class NonPrivateArm:
    """The same loop and the same draws, no clipping, no noise: epsilon is infinite."""

    mechanism: NonPrivateSum
    engine: SummedEngine
    num_params: int

    @classmethod
    def build(cls, model: torch.nn.Module, mechanism: NonPrivateSum) -> NonPrivateArm:
        """An arm on a model whose adapters alone train."""
        engine = SummedEngine(model)
        return cls(mechanism, engine, engine.num_params)

    def sum_batch(self, passes: Sequence[RowPass], num_units: int) -> tuple[BoundedSum, torch.Tensor]:
        """The plain sum over whole units, and the rows' losses. PRIVATE."""
        total, losses = self.engine.summed_gradient(passes, num_units)
        return self.mechanism.bound_nothing(total, num_units=num_units), losses
