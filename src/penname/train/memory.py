"""Out of memory in the middle of a step: smaller tiles, the same units, the same step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from penname.errors import ModelError
from penname.model.frozen_layers import FrozenLayers
from penname.model.tokenize import TokenizedRecord
from penname.privacy.clipping import BoundedSum
from penname.progress import say
from penname.train.arms import TrainingArm
from penname.train.layout import Layout, Unit, sum_units

_SMALLEST_TILE_TOKENS = 64
# torch has no class of its own for what its CPU allocator raises.
_CPU_WORDS = "can't allocate memory"


class UnitSummer:
    """Sums units in the layout that the memory allows; it only ever gets smaller.

    Nothing is spent twice: a step's draw is the same however often it is computed, and its noise is added after the sum is whole. When it
    happens is the machine's doing; `try_out` is there so that it is not the data's.
    """

    def __init__(self, model: Any, arm: TrainingArm, layout: Layout, frozen: FrozenLayers | None = None) -> None:
        self._model, self._arm, self.layout, self._frozen = model, arm, layout, frozen

    def try_out(self) -> None:
        """Sums made-up units that fill a tile as far as any can, so that a tile that is too large shows before any real unit is read."""
        num_units = self.layout.max_units_a_batch
        num_tokens = (self.layout.tile_tokens or _SMALLEST_TILE_TOKENS) // num_units
        self.sum([[TokenizedRecord([0] * num_tokens, 1)]] * num_units)

    def sum(self, units: Sequence[Unit]) -> tuple[BoundedSum, torch.Tensor]:
        """See `sum_units`.

        Raises:
          ModelError: there is no memory for the smallest tile, or for a record by itself.
        """
        while True:
            try:
                return sum_units(self._model, units, self._arm, self.layout, self._frozen)
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
            # Outside of the handler, so that what the failed pass held is free before the next begins.
            self.layout = _halve(self.layout)
            if self._frozen is not None and self.layout.tile_tokens is not None:
                self._frozen.tile_tokens = self.layout.tile_tokens
            say(f"train: out of memory; goes on with train.physical_batch_tokens={self.layout.tile_tokens}")


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or _CPU_WORDS in str(error)


def _halve(layout: Layout) -> Layout:
    if layout.tile_tokens is None:
        raise ModelError("train: out of memory on one record at a time; lower train.max_record_tokens, or take a smaller model.name")
    if layout.tile_tokens < 2 * _SMALLEST_TILE_TOKENS:
        raise ModelError(f"train: out of memory with train.physical_batch_tokens={layout.tile_tokens}; lower train.max_record_tokens, or free memory")
    return replace(layout, tile_tokens=layout.tile_tokens // 2)
