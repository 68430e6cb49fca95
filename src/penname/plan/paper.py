"""What a model that is not here would take on a GPU: memory by arithmetic, nothing measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from penname.config import Config
from penname.model.free_memory import ModelShape, TrainingMemory
from penname.plan.memory import GB, GenerationMemory, describe_parts, estimate_generation_memory, estimate_training, find_largest_tile

DEVICE_BYTES = {"24 GB": 24e9, "80 GB": 80e9}
# Assumed, not measured: the context of CUDA and its libraries' workspaces, and what the allocator cannot use.
_CONTEXT_BYTES, _LOST_FRAC = 0.8e9, 0.05
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


@dataclass(frozen=True)
class PaperPlan:
    """Everything that is said of a model without loading it."""

    model: str
    num_weights: int
    example_tile_tokens: int
    trainings: list[PaperTraining]
    num_slots: int
    tokens_a_text: int
    generation: GenerationMemory

    def to_json(self) -> dict[str, Any]:
        """For a result file; bytes."""
        return asdict(self)


def plan_on_paper(name: str, shape: ModelShape, config: Config, *, text_tokens: int) -> PaperPlan:
    """Memory of training and writing in bfloat16.

    Args:
      name: Of the model.
      shape: Its sizes.
      config: Rank, modules, layers with adapters, longest record, texts at once.
      text_tokens: Of a prompt and its text, at the most.
    """
    tops = sorted({config.model.model_copy(update={"top_layers": top}).top_layers or shape.num_layers for top in (config.model.top_layers, None)})
    trainings = [_plan_training(shape, config, top=min(top, shape.num_layers), recompute=recompute) for top in tops for recompute in (False, True)]
    generation = estimate_generation_memory(
        shape, weight_bytes=_BF16_BYTES, num_slots=config.generate.batch_size, tokens_a_text=text_tokens, num_prefix_tokens=0
    )
    return PaperPlan(name, shape.num_weights, _EXAMPLE_TILE, trainings, config.generate.batch_size, text_tokens, generation)


def _plan_training(shape: ModelShape, config: Config, *, top: int, recompute: bool) -> PaperTraining:
    train = config.train.model_copy(update={"gradient_checkpointing": recompute})
    config = config.model_copy(update={"model": config.model.model_copy(update={"top_layers": top}), "train": train})
    largest = {
        device: find_largest_tile(shape, config, weight_bytes=_BF16_BYTES, room_bytes=count_room(size), sizes=_TILES) for device, size in DEVICE_BYTES.items()
    }
    example = estimate_training(shape, config, weight_bytes=_BF16_BYTES, tile_tokens=_EXAMPLE_TILE)
    return PaperTraining(top, recompute, shape.count_params(config.model), example, largest)


def count_room(device_bytes: float) -> float:
    """Bytes of a device that a model may fill."""
    return device_bytes * (1 - _LOST_FRAC) - _CONTEXT_BYTES


def describe_assumptions() -> dict[str, float]:
    """What was not computed: bytes for CUDA and its libraries, and the share that the allocator cannot use."""
    return {"context_bytes": _CONTEXT_BYTES, "lost_frac": _LOST_FRAC}


def describe_paper_plan(plan: PaperPlan) -> list[str]:
    """Lines for a person."""
    lines = [
        f"model             {plan.model}: {plan.num_weights:,} weights, {plan.num_weights * _BF16_BYTES / GB:.1f} GB in bfloat16",
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
        ]
    made = plan.generation
    fits = "; ".join(f"{device}: {'fits' if made.total <= count_room(size) else 'does not fit'}" for device, size in DEVICE_BYTES.items())
    lines += [
        f"generation        {plan.num_slots} texts at once of at most {plan.tokens_a_text} tokens: {made.total / GB:.1f} GB: {describe_parts(made)}",
        f"                  {fits}",
        f"left free         {_CONTEXT_BYTES / GB:.1f} GB for CUDA and {_LOST_FRAC:.0%} for what the allocator cannot use: assumed",
    ]
    return lines
