"""The frozen linear layers in four bits while an adapter trains, through bitsandbytes as transformers loads it."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import sys
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from penname.config import ModelConfig
from penname.errors import ModelError

if TYPE_CHECKING:
    import torch

_LIBRARY = "bitsandbytes"
_DOWNLOADER = "kernels"
_ABSENT = object()


def import_bitsandbytes() -> bool:
    """Imports bitsandbytes, where it is installed, so that it fetches no code.

    On processors with bfloat16 products the library asks the package `kernels`, where that is installed, for compiled code from a hub, when it is
    imported; and PEFT imports it whenever it is there. Here it finds no such package, and takes its own products. Nothing is done where it was
    imported before.

    Returns:
      Whether the library is there.
    """
    if _LIBRARY in sys.modules:
        return True
    if importlib.util.find_spec(_LIBRARY) is None:
        return False
    with _hidden(_DOWNLOADER), _silent(f"{_LIBRARY}.backends.cpu.ops"):
        importlib.import_module(_LIBRARY)
    return True


@contextlib.contextmanager
def _hidden(name: str) -> Generator[None]:
    """A package that cannot be imported for a while."""
    before = sys.modules.get(name, _ABSENT)
    sys.modules[name] = None  # pyright: ignore[reportArgumentType]
    try:
        yield
    finally:
        if before is _ABSENT:
            del sys.modules[name]
        else:
            sys.modules[name] = before  # pyright: ignore[reportArgumentType]


@contextlib.contextmanager
def _silent(name: str) -> Generator[None]:
    """A logger that says nothing below an error: its advice would be to install what was hidden."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def quantized_on_load(config: ModelConfig, *, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """What `from_pretrained` is given so that the linear layers come in four bits; nothing for `quantization: none`.

    NF4 with scales that are themselves in eight bits; products are in `dtype`. Embedding, norms and vocabulary projection stay as they are.
    Source: Dettmers et al. (2023), https://arxiv.org/abs/2305.14314

    Raises:
      ModelError: the extra `quantization` is not installed.
    """
    if config.quantization == "none":
        return {}
    if not import_bitsandbytes():
        raise ModelError("model.quantization: nf4 needs the extra quantization: pip install 'penname[quantization]'")
    from transformers import BitsAndBytesConfig

    packed = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype)
    return {"quantization_config": packed, "device_map": {"": str(device)}}


def is_quantized(parameter: Any) -> bool:
    """Whether a parameter lies in four bits."""
    return getattr(parameter, "quant_state", None) is not None


def keep_one_layout(model: Any) -> None:
    """Keeps bitsandbytes from laying a weight out anew for its own product whenever a pass has no gradients.

    With it a record's losses and gradients would come from two kinds of products, and the next pass with gradients would have to lay the weight out once more.
    """
    for module in model.modules():
        if is_quantized(getattr(module, "weight", None)):
            module.support_avx512bf16_for_cpu = False


def dequantize(model: Any, *, dtype: torch.dtype) -> Any:
    """The same model with its weights in `dtype`: the values that the packed ones stand for, so that it computes what was trained."""
    return model.dequantize(dtype=dtype)
