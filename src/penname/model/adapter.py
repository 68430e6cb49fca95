"""The LoRA adapter: the only weights that train, saved in PEFT's own format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from penname.config import ModelConfig
from penname.errors import ModelError
from penname.run_dir import replace_folder

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
