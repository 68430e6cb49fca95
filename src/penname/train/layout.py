"""How the records of a Poisson draw are laid into tensors: in tiles of one size, or each record by itself.

In both ways what a unit adds to the sum is computed in shapes that no other unit moves, so it is the same bits beside any others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from penname.config import TrainConfig
from penname.errors import ModelError
from penname.model.frozen_layers import FrozenLayers
from penname.model.loss import record_losses
from penname.model.packing import PackedRows, enable_packing
from penname.model.tokenize import TokenizedRecord
from penname.privacy.clipping import BoundedSum
from penname.privacy.gradients import RowPass
from penname.train.arms import TrainingArm

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Unit = list[TokenizedRecord]
"""All training records of one unit. PRIVATE."""


class Units(Protocol):
    """The units of the training split, by index. PRIVATE."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Unit: ...


MIN_TILE_TOKENS, MAX_TILE_TOKENS = 64, 512
"""Between which a tile is chosen where `train.physical_batch_tokens` is not set."""
# A smaller unit counts as this many tokens when the units of a physical batch are bounded; a small tile may have a few all the same.
_TOKENS_A_UNIT = 32
_LEAST_UNITS_A_BATCH = 4
_MOST_LOOKED_AT = 48
_PROCESSOR = torch.device("cpu")


@dataclass(frozen=True)
class Layout:
    """How records are laid into tensors. Public; it changes speed, memory and rounding, and never what one unit adds beside others."""

    tile_tokens: int | None
    """Every forward pass has this many tokens (or a multiple, for a larger unit); None: every record has a pass of its own."""
    pad_id: int
    """Token of the filling."""
    device: torch.device = _PROCESSOR
    """Where the model computes."""

    @property
    def max_units_a_batch(self) -> int:
        """A physical batch has a gradient of each of its units in memory, so their number is bounded as its tokens are."""
        return 1 if self.tile_tokens is None else max(_LEAST_UNITS_A_BATCH, self.tile_tokens // _TOKENS_A_UNIT)

    def lay_out(self, model: Any, batch: Sequence[Unit], frozen: FrozenLayers | None = None) -> list[RowPass]:
        """The passes of a physical batch of whole units, from the kept states of their records where there are any. PRIVATE."""
        owned = [(record, index) for index, unit in enumerate(batch) for record in unit]
        if self.tile_tokens is None:
            return [_pass(model, PackedRows.alone(record, device=self.device), [index]) for record, index in owned]
        num_tokens = self.tile_tokens * math.ceil(sum(map(count_tokens, batch)) / self.tile_tokens)
        records = [record for record, _ in owned]
        rows = PackedRows.pack(records, num_tokens=num_tokens, pad_id=self.pad_id, device=self.device)
        if frozen is not None:
            rows = rows.with_states(frozen.read(records))
        return [_pass(model, rows, [index for _, index in owned], frozen.upper if frozen else None)]

    def cut(self, units: Sequence[Unit]) -> list[list[Unit]]:
        """Cuts a Poisson draw into physical batches of whole units: each gets the longest that is left, and those that fill its room best.

        Args:
          units: The drawn units, none without records. PRIVATE.
        """
        if self.tile_tokens is None:
            return [[unit] for unit in units]
        left = sorted(((count_tokens(unit), unit) for unit in units), key=lambda sized: sized[0], reverse=True)
        batches: list[list[Unit]] = []
        while left:
            size, longest = left.pop(0)
            # A unit larger than a tile is alone in its own, whose size no other unit moves.
            chosen = choose_to_fill([size for size, _ in left], room=self.tile_tokens - size, most=self.max_units_a_batch - 1)
            batches.append([longest, *(left[i][1] for i in chosen)])
            for i in reversed(chosen):
                del left[i]
        return batches


def choose_to_fill(sizes: Sequence[int], *, room: int, most: int) -> list[int]:
    """Which of some units fill a room best.

    Args:
      sizes: Tokens of each, >= 1, the largest first. PRIVATE.
      room: Tokens; none fits where it is negative.
      most: Units that may be chosen.
    Returns:
      Their places, ascending. Of many that fit, only some are looked at, from the largest to the smallest. PRIVATE.

    >>> choose_to_fill([150, 120, 90, 60], room=215, most=9)
    [1, 2]
    """
    fitting = [place for place, size in enumerate(sizes) if size <= room]
    looked_at = fitting if len(fitting) <= _MOST_LOOKED_AT else [fitting[i * len(fitting) // _MOST_LOOKED_AT] for i in range(_MOST_LOOKED_AT)]
    # Every sum that some of them have, with those that have it.
    reached: dict[int, tuple[int, ...]] = {0: ()}
    for place in looked_at:
        for total, chosen in list(reached.items()):
            larger = total + sizes[place]
            if larger <= room and len(chosen) < most and larger not in reached:
                reached[larger] = (*chosen, place)
        if room in reached:
            break
    return list(reached[max(reached)])


def count_tokens(unit: Unit) -> int:
    """Tokens of all records of a unit. PRIVATE."""
    return sum(len(record.token_ids) for record in unit)


def choose_layout(model: PreTrainedModel, config: TrainConfig, *, pad_id: int) -> Layout:
    """The layout that the config asks for, or the faster one that the model can have.

    Args:
      model: The base model, without an adapter; packed rows change its attention function.
      config: `layout`, `physical_batch_tokens` (none: the most that is ever chosen), `gradients`.
      pad_id: Token of the filling.
    Raises:
      ModelError: packed rows are asked for, and this model or engine cannot have them.
    """
    alone = Layout(None, pad_id, model.device)
    if config.layout == "alone" or (config.layout == "auto" and config.gradients == "opacus"):
        return alone
    if config.gradients == "opacus":
        raise ModelError("train.layout: the engine opacus takes one record at a time; set train.layout=alone or train.gradients=lora")
    if enable_packing(model, max_tokens=config.max_record_tokens):
        return Layout(config.physical_batch_tokens or MAX_TILE_TOKENS, pad_id, model.device)
    if config.layout == "packed":
        raise ModelError("train.layout: this model does not give packed records what each gets alone; set train.layout=alone")
    return alone


def sum_units(model: Any, units: Sequence[Unit], arm: TrainingArm, layout: Layout, frozen: FrozenLayers | None = None) -> tuple[BoundedSum, torch.Tensor]:
    """The arm's sum over all drawn units, in as many physical batches as it takes, and the records' losses in the order of the batches.

    Args:
      model: With adapters.
      units: A Poisson draw, none without records; may be empty. PRIVATE.
      arm: How a physical batch is summed.
      layout: Of records in tensors.
      frozen: Keeps what the frozen layers make of a record; none: every record goes through all layers.
    Returns:
      What the step's noise is added to, once; and one loss a record; on the processor. PRIVATE.
    """
    total, losses = arm.mechanism.empty_sum(arm.num_params), [torch.zeros(0, device="cpu")]
    if frozen is not None:
        frozen.compute([record for unit in units for record in unit])
    for batch in layout.cut(units):
        part, part_losses = arm.sum_batch(layout.lay_out(model, batch, frozen), len(batch))
        total = total.add_disjoint(part)
        losses.append(part_losses.cpu())
    return total, torch.cat(losses)


def _pass(model: Any, rows: PackedRows, row_units: list[int], upper: Any = None) -> RowPass:
    return RowPass(lambda: record_losses(model, rows, upper), rows.row_lengths, row_units)
