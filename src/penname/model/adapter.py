"""The LoRA adapter: the only weights that train, saved in PEFT's own format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from penname.config import ModelConfig
from penname.errors import ModelError
from penname.run_dir import hash_path, replace_folder

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel


def attach_adapter(model: PreTrainedModel, config: ModelConfig, *, seed: int) -> PeftModel:
    """Puts a fresh adapter on the frozen model: A random by `seed`, B zero, both float32.

    Args:
      model: Base model without an adapter.
      config: Rank, alpha, dropout, target modules, top layers.
      seed: Of A. Public: B is zero, so the adapted model starts as the base model whatever A is.
    Raises:
      ModelError: the model has none of the target modules.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    num_layers = int(getattr(model.config, "num_hidden_layers", 0))
    layers = list(range(num_layers))[-config.top_layers :] if config.top_layers else None
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,  # pyright: ignore[reportArgumentType]
        lora_dropout=config.lora_dropout,
        target_modules=config.target_modules,
        layers_to_transform=layers,
        bias="none",
        task_type="CAUSAL_LM",
    )
    missing = _missing_modules(model, config.target_modules)
    if missing:
        raise ModelError(f"model.target_modules: {config.name} has no linear layer named {', '.join(missing)}")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        adapted: Any = get_peft_model(model, lora, autocast_adapter_dtype=True)
    for name, parameter in adapted.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.float()
            parameter.requires_grad_(is_trainable(name, config))
    return adapted


def hash_start(folder: str | None) -> dict[str, str]:
    """What of `train.start_adapter` a run depends on: its content, wherever it lies; empty without one.

    Raises:
      ModelError: it is not there.
    """
    if folder is None:
        return {}
    if not Path(folder).is_dir():
        raise ModelError(f"train.start_adapter: {folder} is no folder")
    return {"start_adapter": hash_path(Path(folder))}


def load_start(adapted: PeftModel, folder: Path) -> None:
    """Gives a fresh adapter the weights of another one: training goes on from there.

    Args:
      adapted: With an adapter of `attach_adapter`, which is changed.
      folder: In PEFT format, of the same base model, modules, layers and rank. Whoever names it says that it is public.
    Raises:
      ModelError: it cannot be read, or is of another shape.
    """
    import json

    from peft import set_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    own = {name.replace(".default.", "."): weights for name, weights in adapted.named_parameters() if ".lora_" in name}
    try:
        alpha = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["lora_alpha"]
        given = load_file(folder / "adapter_model.safetensors")
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ModelError(f"train.start_adapter: {folder} holds no adapter in PEFT format ({str(error).splitlines()[0][:200]})") from None
    shapes = [{name: tuple(weights.shape) for name, weights in one.items()} for one in (own, given)]
    if shapes[0] != shapes[1] or alpha != adapted.peft_config["default"].lora_alpha:  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        raise ModelError(f"train.start_adapter: {folder} is not of this base model, or not of these model.lora_rank, lora_alpha, target_modules and top_layers")
    if not all(weights.isfinite().all() for weights in given.values()):
        raise ModelError(f"train.start_adapter: {folder} holds numbers that are not finite")
    set_peft_model_state_dict(adapted, {name: weights.float() for name, weights in given.items()})


def is_trainable(name: str, config: ModelConfig) -> bool:
    """Whether the parameter of this name is one that training may change.

    Source: for freeze_lora_a, Sun et al. (2024), https://arxiv.org/abs/2403.12313
    """
    return ".lora_B." in name or (".lora_A." in name and not config.freeze_lora_a)


def _missing_modules(model: PreTrainedModel, wanted: list[str]) -> list[str]:
    from torch import nn

    present = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    return [name for name in wanted if name not in present]


def adapter_weights(model: PeftModel) -> dict[str, torch.Tensor]:
    """Names and values of the adapter's weights, detached copies."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def save_adapter(model: PeftModel, folder: Path, *, base_model_name: str) -> None:
    """Writes the adapter in PEFT format; the folder appears whole or not at all."""
    # PEFT writes where the base was loaded from; a path of this machine is nobody's business.
    model.peft_config["default"].base_model_name_or_path = base_model_name
    with replace_folder(folder) as new:
        # Left to itself PEFT asks the model hub whether the vocabulary has changed; adapters never change it.
        model.save_pretrained(str(new), safe_serialization=True, save_embedding_layers=False)
        for card in new.glob("README.md"):
            card.unlink()


def merge_adapter(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The base model with the adapter folded into its weights, for generation.

    Raises:
      ModelError: the folder holds no adapter for this model.
    """
    from peft import PeftModel
    from safetensors import SafetensorError

    try:
        adapted = PeftModel.from_pretrained(model, str(folder), is_trainable=False)
        return adapted.merge_and_unload().eval()  # pyright: ignore[reportCallIssue]
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder}: is no adapter for this model ({str(error).splitlines()[0][:200]}); train again") from None
