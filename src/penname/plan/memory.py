"""Memory by arithmetic: what training and writing hold, from sizes alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from penname.config import Config
from penname.generate.slot_cache import PAGE_TOKENS
from penname.generate.slots import ROWS
from penname.model.free_memory import ModelShape, TrainingMemory, estimate_training_memory
from penname.train.layout import Layout

GB = 1e9
# Rows whose probabilities are held at once in float32, three times.
_DRAWN_ROWS, _WIDE_BYTES, _NUM_WIDE = 8, 4, 3


@dataclass(frozen=True)
class GenerationMemory:
    """What the writing of texts holds, in bytes, by what it is for."""

    base_weights: int
    """The model, its adapter merged."""
    keys_and_values: int
    """Of all texts that are written at once, in whole pages."""
    logits: int
    """Of one step, and the probabilities that are drawn from."""

    @property
    def total(self) -> int:
        """Bytes, libraries and the program itself not counted."""
        return sum(getattr(self, part.name) for part in fields(self))


def estimate_generation_memory(shape: ModelShape, *, weight_bytes: int, num_slots: int, tokens_a_text: int, num_prefix_tokens: int) -> GenerationMemory:
    """What writing takes, on paper: nothing is loaded.

    Args:
      shape: Of the base model.
      weight_bytes: Of a weight; 2 in bfloat16.
      num_slots: Texts at once.
      tokens_a_text: Room for a prompt and the longest text, after the beginning that all prompts share.
      num_prefix_tokens: Of that beginning, which is kept once.
    """
    a_token = 2 * shape.num_layers * shape.num_key_heads * shape.head_size * weight_bytes
    pages = 1 + num_slots * -(-tokens_a_text // PAGE_TOKENS)
    return GenerationMemory(
        base_weights=shape.num_weights * weight_bytes,
        keys_and_values=(pages * PAGE_TOKENS + num_prefix_tokens) * a_token,
        logits=shape.vocabulary * (ROWS * weight_bytes + _DRAWN_ROWS * _WIDE_BYTES * _NUM_WIDE),
    )


def estimate_training(shape: ModelShape, config: Config, *, weight_bytes: int, tile_tokens: int) -> TrainingMemory:
    """What a training step takes with tiles of this size, under a run's config; see `estimate_training_memory`."""
    return estimate_training_memory(
        shape,
        config.model,
        weight_bytes=weight_bytes,
        tile_tokens=tile_tokens,
        num_units=Layout(tile_tokens, 0).max_units_a_batch,
        longest=config.train.max_record_tokens,
        is_fused=not config.model.lora_dropout and config.model.quantization == "none",
        gradient_checkpointing=config.train.gradient_checkpointing,
    )


def find_largest_tile(shape: ModelShape, config: Config, *, weight_bytes: int, room_bytes: float, sizes: Sequence[int]) -> int | None:
    """The largest of some tiles whose training step fits into `room_bytes`, or None where none does."""
    fitting = [size for size in sizes if estimate_training(shape, config, weight_bytes=weight_bytes, tile_tokens=size).total <= room_bytes]
    return max(fitting, default=None)


def describe_parts(memory: TrainingMemory | GenerationMemory) -> str:
    """What the sum is made of, in gigabytes.

    >>> describe_parts(GenerationMemory(16_060_000_000, 5_400_000_000, 0))
    'base weights 16.06, keys and values 5.40, logits 0.00'
    """
    return ", ".join(f"{part.name.replace('_', ' ')} {getattr(memory, part.name) / GB:.2f}" for part in fields(memory))
