"""Sizes of some models, so that a plan needs neither their weights nor a network."""

from __future__ import annotations

from penname.errors import UsageError
from penname.model.free_memory import ModelShape

KNOWN_MODELS: dict[str, ModelShape] = {
    "smollm2-135m": ModelShape(30, 576, 1536, 9, 3, 64, 49_152, has_own_head=False),
    "smollm2-360m": ModelShape(32, 960, 2560, 15, 5, 64, 49_152, has_own_head=False),
    "smollm2-1.7b": ModelShape(24, 2048, 8192, 32, 32, 64, 49_152, has_own_head=False),
    "llama-3.2-1b": ModelShape(16, 2048, 8192, 32, 8, 64, 128_256, has_own_head=False),
    "llama-3.2-3b": ModelShape(28, 3072, 8192, 24, 8, 128, 128_256, has_own_head=False),
    "llama-3.1-8b": ModelShape(32, 4096, 14_336, 32, 8, 128, 128_256, has_own_head=True),
}
"""Layers, hidden and inner width, heads, key-value heads, head size, vocabulary. Source: each model's own config.json, as its makers publish it."""


def find_shape(name: str) -> ModelShape | None:
    """The sizes of a model by its name, with or without its maker's and the ending -Instruct.

    >>> find_shape("meta-llama/Llama-3.1-8B-Instruct").num_layers
    32
    """
    return KNOWN_MODELS.get(name.rpartition("/")[2].lower().removesuffix("-instruct"))


def read_shape(name: str) -> ModelShape:
    """As `find_shape`.

    Raises:
      UsageError: the model is not known.
    """
    shape = find_shape(name)
    if shape is None:
        raise UsageError(f"--model-size: {name!r} is not known; known are {', '.join(KNOWN_MODELS)}")
    return shape
