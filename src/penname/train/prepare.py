"""A base model made ready to train: packed where it can be, its adapter on, its layers fused where they can be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from penname.config import ModelConfig, TrainConfig
from penname.errors import ModelError
from penname.model.adapter import attach_adapter, load_start
from penname.model.device import return_freed_memory
from penname.model.free_memory import ModelShape, read_free_bytes
from penname.model.fused_layer import fuse_layers
from penname.model.recompute import recompute_layers
from penname.train.layout import Layout, choose_layout
from penname.train.memory import choose_tile_tokens

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


def prepare_model(
    model: PreTrainedModel, model_config: ModelConfig, train_config: TrainConfig, *, pad_id: int, tile_tokens: int | None = None, num_local: int = 1
) -> tuple[PeftModel, Layout]:
    """The adapted model, and the layout of records that it trains with.

    Args:
      model: The base model, which is changed.
      model_config: The adapter's.
      train_config: `layout`, `physical_batch_tokens`, `gradient_checkpointing`, `gradients`, `max_record_tokens`, `seed`, `start_adapter`.
      pad_id: Token of the filling.
      tile_tokens: What was chosen before for this run, and wins; none: `physical_batch_tokens`, or what free memory allows.
      num_local: Ranks that share the memory of this machine.
    Raises:
      ModelError: records may be longer than the model can read, or the model has none of the target modules, cannot have the layout that is
        asked for, or has no layers to compute again; or the adapter to start from is not one of its own.
    """
    _check_window(model, train_config)
    layout = choose_layout(model, train_config, pad_id=pad_id)
    adapted = attach_adapter(model, model_config, seed=train_config.seed)
    if train_config.start_adapter is not None:
        load_start(adapted, Path(train_config.start_adapter))
    if layout.tile_tokens is not None:
        num_fused = fuse_layers(adapted)
        # The weights as they were loaded, which views of the fused layers' blocks have replaced.
        return_freed_memory()
        shape, weight_bytes = ModelShape.read(model.config), model.dtype.itemsize
        is_fused = num_fused == shape.num_layers
        tile_tokens = tile_tokens or train_config.physical_batch_tokens
        if tile_tokens is None:
            free_bytes = read_free_bytes(model.device) // (num_local if model.device.type == "cpu" else 1)
            tile_tokens = choose_tile_tokens(shape, model_config, train_config, weight_bytes=weight_bytes, is_fused=is_fused, free_bytes=free_bytes)
        layout = replace(layout, tile_tokens=tile_tokens)
    if train_config.gradient_checkpointing:
        recompute_layers(adapted)
    return adapted, layout


def _check_window(model: PreTrainedModel, config: TrainConfig) -> None:
    window = getattr(model.config, "max_position_embeddings", None)
    if window is not None and config.max_record_tokens > window:
        raise ModelError(
            f"train.max_record_tokens: records of {config.max_record_tokens:,} tokens are longer than the {window:,} that this model can read; "
            f"set at most {window}"
        )
