"""What a model that is not here would take on a GPU: memory and time by arithmetic, nothing measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from penname.config import Config
from penname.model.free_memory import ModelShape, TrainingMemory
from penname.plan.memory import GB, GenerationMemory, describe_parts, estimate_generation_memory, estimate_training, find_largest_tile
from penname.progress import format_secs

DEVICE_BYTES = {"24 GB": 24e9, "80 GB": 80e9}


@dataclass(frozen=True)
class DeviceSpeed:
    """Of a data sheet; what a program gets of it is assumed below."""

    name: str
    flops_a_sec: float
    """Dense bfloat16."""
    memory_bytes_a_sec: float


DEVICE_SPEEDS = {"24 GB": DeviceSpeed("NVIDIA L4", 121e12, 0.3e12), "80 GB": DeviceSpeed("NVIDIA H100 SXM", 989e12, 3.35e12)}
# Assumed, not measured: the context of CUDA and its libraries' workspaces, and what the allocator cannot use.
_CONTEXT_BYTES, _LOST_FRAC = 0.8e9, 0.05
TRAINING_FLOPS_FRAC, WRITING_MEMORY_FRAC = 0.35, 0.5
"""Assumed too: what training gets of a device's operations, and writing of its memory's speed."""
_BF16_BYTES = 2
_TILES = tuple(2**power for power in range(6, 17))
_EXAMPLE_TILE = 512


@dataclass(frozen=True)
class PaperTraining:
    """Training with adapters on some of the layers."""

    adapted_layers: int
    gradient_checkpointing: bool
    num_params: int
    """P, trainable weights."""
    at_example: TrainingMemory
    """With tiles of `example_tile_tokens`."""
    largest_tile: dict[str, int | None]
    """Device -> the most `train.physical_batch_tokens`, a power of two, that fits; None: none does."""
    secs: dict[str, float]
    """Device -> an arm's products alone, every record at its longest."""


@dataclass(frozen=True)
class PaperPlan:
    """Everything that is said of a model without loading it."""

    model: str
    num_weights: int
    is_quantized: bool
    """The frozen linear layers lie in four bits while the adapter trains."""
    example_tile_tokens: int
    trainings: list[PaperTraining]
    num_slots: int
    tokens_a_text: int
    generation: GenerationMemory
    writing_secs: dict[str, float]
    """Device -> the texts of an arm, each at its longest and drawn once: every step reads all weights once for all texts."""

    def to_json(self) -> dict[str, Any]:
        """For a result file; bytes."""
        return asdict(self)


def plan_on_paper(name: str, shape: ModelShape, config: Config, *, record_tokens: int) -> PaperPlan:
    """Memory and time of training and writing in bfloat16, the frozen weights in training as `model.quantization` says.

    What it takes to unpack quantized weights is in no time.

    Args:
      name: Of the model.
      shape: Its sizes.
      config: Rank, modules, layers with adapters, longest record, steps and units, texts at once and in all.
      record_tokens: Of a training record at the most; a text that is written has as many and `generate.max_new_tokens` more.
    """
    text_tokens = record_tokens + config.generate.max_new_tokens
    tops = sorted({config.model.model_copy(update={"top_layers": top}).top_layers or shape.num_layers for top in (config.model.top_layers, None)})
    trainings = [
        _plan_training(shape, config, record_tokens=record_tokens, top=min(top, shape.num_layers), recompute=recompute)
        for top in tops
        for recompute in (False, True)
    ]
    generation = estimate_generation_memory(
        shape, weight_bytes=_BF16_BYTES, num_slots=config.generate.batch_size, tokens_a_text=text_tokens, num_prefix_tokens=0
    )
    num_slots = config.generate.batch_size
    num_steps = config.generate.max_new_tokens * -(-config.generate.num_records // num_slots)
    writing_secs = {
        device: num_steps * shape.num_weights * _BF16_BYTES / (WRITING_MEMORY_FRAC * speed.memory_bytes_a_sec) for device, speed in DEVICE_SPEEDS.items()
    }
    is_quantized = config.model.quantization != "none"
    return PaperPlan(name, shape.num_weights, is_quantized, _EXAMPLE_TILE, trainings, num_slots, text_tokens, generation, writing_secs)


def count_training_flops(shape: ModelShape, *, num_tokens: float, adapted_frac: float, recompute: bool) -> float:
    """Operations of so many tokens: forward, and the gradients of the inputs where there are adapters above or at; frozen weights have none of their own.

    Args:
      shape: Of the model.
      num_tokens: Of all steps.
      adapted_frac: Share of the layers that the backward pass reaches.
      recompute: Whether these layers are computed once more in it.
    """
    return 2 * shape.num_weights * num_tokens * (1 + adapted_frac * (2 if recompute else 1))


def _plan_training(shape: ModelShape, config: Config, *, record_tokens: int, top: int, recompute: bool) -> PaperTraining:
    train = config.train.model_copy(update={"gradient_checkpointing": recompute})
    config = config.model_copy(update={"model": config.model.model_copy(update={"top_layers": top}), "train": train})
    largest = {
        device: find_largest_tile(shape, config, weight_bytes=_BF16_BYTES, room_bytes=count_room(size), sizes=_TILES) for device, size in DEVICE_BYTES.items()
    }
    example = estimate_training(shape, config, weight_bytes=_BF16_BYTES, tile_tokens=_EXAMPLE_TILE)
    units = config.train.num_steps * config.train.expected_batch_size
    all_tokens = units * config.records.max_records_per_user * record_tokens
    flops = count_training_flops(shape, num_tokens=all_tokens, adapted_frac=top / shape.num_layers, recompute=recompute)
    secs = {device: flops / (TRAINING_FLOPS_FRAC * speed.flops_a_sec) for device, speed in DEVICE_SPEEDS.items()}
    return PaperTraining(top, recompute, shape.count_params(config.model), example, largest, secs)


def count_room(device_bytes: float) -> float:
    """Bytes of a device that a model may fill."""
    return device_bytes * (1 - _LOST_FRAC) - _CONTEXT_BYTES


def describe_assumptions() -> dict[str, float]:
    """What was not computed: bytes for CUDA and its libraries, the share that the allocator cannot use, and what programs get of a device's speed."""
    return {
        "context_bytes": _CONTEXT_BYTES,
        "lost_frac": _LOST_FRAC,
        "training_flops_frac": TRAINING_FLOPS_FRAC,
        "writing_memory_frac": WRITING_MEMORY_FRAC,
    }


def describe_paper_plan(plan: PaperPlan) -> list[str]:
    """Lines for a person."""
    lines = [
        f"model             {plan.model}: {plan.num_weights:,} weights, {plan.num_weights * _BF16_BYTES / GB:.1f} GB in bfloat16"
        + (f", {plan.trainings[0].at_example.base_weights / GB:.1f} GB while it trains (model.quantization)" if plan.is_quantized else ""),
        "                  on paper, not measured: arithmetic from the model's sizes (docs/plan.md)",
    ]
    for training in plan.trainings:
        how = "layer inputs kept (train.gradient_checkpointing)" if training.gradient_checkpointing else "activations kept"
        parts = training.at_example
        fits = "; ".join(f"{device}: {f'{tile:,} tokens' if tile else 'does not fit'}" for device, tile in training.largest_tile.items())
        lines += [
            f"training          adapters on {training.adapted_layers} layers ({training.num_params:,} weights), {how}",
            f"  at {plan.example_tile_tokens} tokens   {parts.total / GB:.1f} GB: {describe_parts(parts)}",
            f"  largest tile    {fits} (train.physical_batch_tokens)",
            f"  an arm          {_describe_secs(training.secs)}",
        ]
    made = plan.generation
    fits = "; ".join(f"{device}: {'fits' if made.total <= count_room(size) else 'does not fit'}" for device, size in DEVICE_BYTES.items())
    lines += [
        f"generation        {plan.num_slots} texts at once of at most {plan.tokens_a_text} tokens: {made.total / GB:.1f} GB: {describe_parts(made)}",
        f"                  {fits}",
        f"  an arm          {_describe_secs(plan.writing_secs)}",
        f"left free         {_CONTEXT_BYTES / GB:.1f} GB for CUDA and {_LOST_FRAC:.0%} for what the allocator cannot use: assumed",
        "an arm takes      products alone, every record and text at its longest, each unit with all its records; of "
        + ", ".join(f"an {speed.name} ({device})" for device, speed in DEVICE_SPEEDS.items()),
        f"                  training gets {TRAINING_FLOPS_FRAC:.0%} of its operations and writing {WRITING_MEMORY_FRAC:.0%} of its memory's speed: assumed",
    ]
    return lines


def _describe_secs(secs: dict[str, float]) -> str:
    return "; ".join(f"{device}: {format_secs(value)}" for device, value in secs.items())
