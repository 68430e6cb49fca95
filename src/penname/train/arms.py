"""The two arms: which mechanism each uses, and how it sums the gradients of a physical batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from penname.privacy.clipping import BoundedSum
from penname.privacy.gradients import GRADIENT_ENGINES, ComputeLosses, GradientEngine, SummedEngine, average_rows_of_units
from penname.privacy.mechanism import DpSgd, NonPrivateSum, SumMechanism


class TrainingArm(Protocol):
    """What the loop needs of an arm."""

    @property
    def mechanism(self) -> SumMechanism: ...
    @property
    def num_params(self) -> int: ...
    def sum_batch(self, compute_losses: ComputeLosses, row_units: Sequence[int], num_units: int) -> tuple[BoundedSum, torch.Tensor]: ...


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

    def sum_batch(self, compute_losses: ComputeLosses, row_units: Sequence[int], num_units: int) -> tuple[BoundedSum, torch.Tensor]:
        """The clipped sum over a physical batch of whole units, and the rows' losses. PRIVATE."""
        row_grads, losses = self.engine.row_gradients(compute_losses)
        return self.mechanism.sum_units(average_rows_of_units(row_grads, row_units, num_units)), losses


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

    def sum_batch(self, compute_losses: ComputeLosses, row_units: Sequence[int], num_units: int) -> tuple[BoundedSum, torch.Tensor]:
        """The plain sum over a physical batch of whole units, and the rows' losses. PRIVATE."""
        index = torch.as_tensor(row_units, dtype=torch.long)
        row_weights = 1.0 / torch.bincount(index, minlength=num_units)[index]
        total, losses = self.engine.summed_gradient(compute_losses, row_weights)
        return self.mechanism.bound_nothing(total, num_units=num_units), losses
