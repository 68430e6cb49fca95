"""How large a tile may be: chosen from free memory, and halved, for good, when it runs out in the middle of a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from penname.config import ModelConfig, TrainConfig
from penname.errors import ModelError
from penname.model.free_memory import ModelShape, estimate_training_memory, is_out_of_memory
from penname.model.frozen_layers import FrozenLayers
from penname.model.tokenize import TokenizedRecord
from penname.privacy.clipping import BoundedSum
from penname.progress import say
from penname.run_dir import read_json, write_json
from penname.train.arms import TrainingArm
from penname.train.layout import MAX_TILE_TOKENS, MIN_TILE_TOKENS, Layout, Unit, sum_units

# The rest is for what else the machine does, and for what the estimate leaves out.
_SHARE_OF_FREE = 0.5


def choose_tile_tokens(shape: ModelShape, model_config: ModelConfig, config: TrainConfig, *, weight_bytes: int, is_fused: bool, free_bytes: int) -> int:
    """The largest tile whose training step fits into half of the free memory; the smallest where none does.

    Args:
      shape: Of the base model.
      model_config: The adapter's.
      config: `max_record_tokens`, `gradient_checkpointing`.
      weight_bytes: Of a frozen weight; 2 in bfloat16.
      is_fused: See `estimate_training_memory`.
      free_bytes: With the base model loaded.
    """
    tile_tokens = MAX_TILE_TOKENS
    while tile_tokens > MIN_TILE_TOKENS:
        need = estimate_training_memory(
            shape,
            model_config,
            weight_bytes=weight_bytes,
            tile_tokens=tile_tokens,
            num_units=Layout(tile_tokens, 0).max_units_a_batch,
            longest=config.max_record_tokens,
            is_fused=is_fused,
            gradient_checkpointing=config.gradient_checkpointing,
        )
        if need.total - need.base_weights <= _SHARE_OF_FREE * free_bytes:
            break
        tile_tokens //= 2
    return tile_tokens


@dataclass(frozen=True)
class TileFile:
    """The tile of an unfinished run, on disk: a run that goes on must not choose anew, as another tile rounds in another way."""

    path: Path
    inputs_sha256: str
    """Of data and settings; the tile of others is not used."""

    def read(self) -> int | None:
        """Tokens of the tile, or None where none is kept.

        Raises:
          RunDirError: the file is damaged.
        """
        if not self.path.is_file():
            return None
        kept = read_json(self.path)
        return int(kept["tile_tokens"]) if kept["inputs_sha256"] == self.inputs_sha256 else None

    def write(self, tile_tokens: int) -> None:
        """Keeps the tile, in one rename."""
        write_json(self.path, {"tile_tokens": tile_tokens, "inputs_sha256": self.inputs_sha256})


class UnitSummer:
    """Sums units in the layout that the memory allows; it only ever gets smaller.

    Nothing is spent twice: a step's draw is the same however often it is computed, and its noise is added after the sum is whole. When it
    happens is the machine's doing; `try_out` is there so that it is not the data's.
    """

    def __init__(
        self,
        model: Any,
        arm: TrainingArm,
        layout: Layout,
        frozen: FrozenLayers | None = None,
        *,
        keep_tile: Callable[[int], None] = lambda tile_tokens: None,
    ) -> None:
        """`keep_tile` gets every smaller tile as soon as it is decided on."""
        self._model, self._arm, self.layout, self._frozen, self._keep_tile = model, arm, layout, frozen, keep_tile

    def try_out(self) -> None:
        """Sums made-up units that fill a tile as far as any can, so that a tile that is too large shows before any real unit is read."""
        self.sum(self.make_up_units())

    def make_up_units(self) -> list[Unit]:
        """Units of public tokens that fill a tile as far as any can."""
        num_units = self.layout.max_units_a_batch
        num_tokens = (self.layout.tile_tokens or MIN_TILE_TOKENS) // num_units
        return [[TokenizedRecord([0] * num_tokens, 1)]] * num_units

    def sum(self, units: Sequence[Unit]) -> tuple[BoundedSum, torch.Tensor]:
        """See `sum_units`.

        Raises:
          ModelError: there is no memory for the smallest tile, or for a record by itself.
        """
        while True:
            try:
                return sum_units(self._model, units, self._arm, self.layout, self._frozen)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside of the handler, so that what the failed pass held is free before the next begins.
            tile_tokens = _halve(self.layout)
            self.shrink(tile_tokens)
            say(f"train: out of memory; goes on with train.physical_batch_tokens={tile_tokens}")

    def shrink(self, tile_tokens: int) -> None:
        """Goes on with smaller tiles, for good."""
        self.layout = replace(self.layout, tile_tokens=tile_tokens)
        if self._frozen is not None:
            self._frozen.tile_tokens = tile_tokens
        self._keep_tile(tile_tokens)

    def forget(self) -> None:
        """Drops what is kept of the frozen layers, so that it is computed anew."""
        if self._frozen is not None:
            self._frozen.forget()


_ADVICE = "set train.gradient_checkpointing=true, lower train.max_record_tokens"


def _halve(layout: Layout) -> int:
    if layout.tile_tokens is None:
        raise ModelError(f"train: out of memory on one record at a time; {_ADVICE}, or take a smaller model.name")
    if layout.tile_tokens < 2 * MIN_TILE_TOKENS:
        raise ModelError(f"train: out of memory with train.physical_batch_tokens={layout.tile_tokens}; {_ADVICE}, or free memory")
    return layout.tile_tokens // 2
