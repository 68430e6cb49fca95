"""A base model made ready to train: packed where it can be, its adapter on, its layers fused where they can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penname.config import ModelConfig, TrainConfig
from penname.model.adapter import attach_adapter
from penname.model.fused_layer import fuse_layers
from penname.train.layout import Layout, choose_layout

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


def prepare_model(model: PreTrainedModel, model_config: ModelConfig, train_config: TrainConfig, *, pad_id: int) -> tuple[PeftModel, Layout]:
    """The adapted model, and the layout of records that it trains with.

    Args:
      model: The base model, which is changed.
      model_config: The adapter's.
      train_config: `layout`, `physical_batch_tokens`, `gradients`, `seed`.
      pad_id: Token of the filling.
    Raises:
      ModelError: the model has none of the target modules, or cannot have the layout that is asked for.
    """
    layout = choose_layout(model, train_config, pad_id=pad_id)
    adapted = attach_adapter(model, model_config, seed=train_config.seed)
    if layout.tile_tokens is not None:
        fuse_layers(adapted)
    return adapted, layout
