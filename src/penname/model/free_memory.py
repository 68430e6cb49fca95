"""How much memory there is, how much a training step takes, and what running out of it looks like."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penname.config import ModelConfig

if TYPE_CHECKING:
    import torch

# Words of errors that have no class of their own: torch's CPU allocator, and cuBLAS for its workspace.
_WORDS = ("DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED")
_WIDE_BYTES = 4
# Queries that attention takes at a time, and tokens whose logits are held at once.
_ATTENTION_BLOCK, _CHUNK_TOKENS = 256, 128
# What engines hold of several layers to multiply it together, see `LoraEngine`.
_PENDING_BYTES = 64 * 2**20
# Tensors as wide as a layer's inner values that the backward pass of one layer makes in passing, by measurement.
_NUM_PASSING = 3
# The sum so far, a physical batch's, the noise, and their total, in float64; the update in float32 and the weight's gradient.
_BYTES_A_PARAM_IN_SUMS = 4 * 8 + 2 * 4
_BYTES_A_PARAM_IN_ADAM = 2 * 4
# Of a weight in NF4: four bits, an eight-bit scale for 64 weights, and a float32 for 256 scales.
_PACKED_BYTES = 1 / 2 + 1 / 64 + 4 / (64 * 256)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory, of the processor or of a CUDA device."""
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in str(error) for words in _WORDS)


def read_free_bytes(device: torch.device, *, root: Path = Path("/")) -> int:
    """Bytes that this process can still take: of a CUDA device, or of the machine and of the control groups that the process is in.

    Args:
      device: Where the model computes.
      root: Of the file system; another one in tests.
    """
    import psutil
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min([psutil.virtual_memory().available, *_read_group_rooms(root)])


_GROUP_FILES = {
    "": ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    "memory": ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Controller in /proc/self/cgroup -> where its groups lie, and what their limit, their use, and what can be taken back of it are called."""


def _read_group_rooms(root: Path) -> Iterator[int]:
    """What is left in each control group with a limit; nothing where there are none."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for name, (folder, limit, used, inactive) in _GROUP_FILES.items():
            if name not in controllers.split(","):
                continue
            base = root / folder
            own = base / path.lstrip("/")
            # Inside a container the path may be one that only its host sees; the group's files then lie at the base.
            for group in (own, *(parent for parent in own.parents if parent.is_relative_to(base))):
                try:
                    most, now = int((group / limit).read_text()), int((group / used).read_text())
                    stats = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
                    yield max(0, most - now + int(stats[inactive]))
                except (OSError, ValueError, KeyError):
                    # No such group, no limit ("max"), or figures that we do not know.
                    continue


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a causal LM of Llama's kind that memory depends on."""

    num_layers: int
    hidden: int
    intermediate: int
    num_heads: int
    num_key_heads: int
    head_size: int
    vocabulary: int
    has_own_head: bool
    """The vocabulary projection is not the embedding."""

    @classmethod
    def read(cls, config: Any) -> ModelShape:
        """From a config of transformers; what is missing there is what the library takes for it."""
        hidden, heads = int(config.hidden_size), int(config.num_attention_heads)
        return cls(
            num_layers=int(config.num_hidden_layers),
            hidden=hidden,
            intermediate=int(getattr(config, "intermediate_size", None) or 4 * hidden),
            num_heads=heads,
            num_key_heads=int(getattr(config, "num_key_value_heads", None) or heads),
            head_size=int(getattr(config, "head_dim", None) or hidden // heads),
            vocabulary=int(config.vocab_size),
            has_own_head=not getattr(config, "tie_word_embeddings", True),
        )

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of a layer's linear layers."""
        heads, keys = self.num_heads * self.head_size, self.num_key_heads * self.head_size
        d, f = self.hidden, self.intermediate
        return {
            "q_proj": (d, heads),
            "k_proj": (d, keys),
            "v_proj": (d, keys),
            "o_proj": (heads, d),
            "gate_proj": (d, f),
            "up_proj": (d, f),
            "down_proj": (f, d),
        }

    @property
    def num_weights(self) -> int:
        """Of the frozen base."""
        layer = sum(k * n for k, n in self.linears.values()) + 2 * self.hidden
        return self.num_layers * layer + self.hidden + self.vocabulary * self.hidden * (2 if self.has_own_head else 1)

    def count_base_bytes(self, config: ModelConfig, *, weight_bytes: int) -> int:
        """Of the frozen base while it trains: in four bits (`quantization`) only the linear layers are."""
        packed = self.num_layers * sum(k * n for k, n in self.linears.values()) if config.quantization != "none" else 0
        return round(packed * _PACKED_BYTES) + (self.num_weights - packed) * weight_bytes

    def count_adapted_layers(self, config: ModelConfig) -> int:
        """Layers that have adapters."""
        return min(self.num_layers, config.top_layers or self.num_layers)

    def count_params(self, config: ModelConfig) -> int:
        """P: trainable weights of the adapters. Modules of other names than a Llama's are not counted."""
        linears = [self.linears[name] for name in config.target_modules if name in self.linears]
        return self.count_adapted_layers(config) * config.lora_rank * sum(n if config.freeze_lora_a else k + n for k, n in linears)


@dataclass(frozen=True)
class TrainingMemory:
    """What a training step holds, in bytes, by what it is for."""

    base_weights: int
    """The frozen model."""
    adapter: int
    """P weights in float32, the optimizer's two numbers for each, and the sums of a step."""
    unit_gradients: int
    """One gradient a unit of a physical batch, (U, P) float32."""
    activations: int
    """What the layers keep for the backward pass."""
    passing: int
    """What one layer's backward pass makes and drops, its attention weights, and what waits to be multiplied together for a few layers."""
    vocabulary: int
    """Logits and probabilities of the tokens whose loss is computed at once."""

    @property
    def total(self) -> int:
        """Bytes, libraries and the program itself not counted."""
        return sum(getattr(self, field.name) for field in fields(self))


def estimate_training_memory(
    shape: ModelShape,
    config: ModelConfig,
    *,
    weight_bytes: int,
    tile_tokens: int,
    num_units: int,
    longest: int,
    is_fused: bool = True,
    gradient_checkpointing: bool = False,
) -> TrainingMemory:
    """What a training step takes, on paper: nothing is loaded.

    Args:
      shape: Of the base model.
      config: Of the adapter; `quantization`.
      weight_bytes: Of a frozen weight that is not quantized, and of an activation; 2 in bfloat16.
      tile_tokens: M, tokens of a forward pass (`train.physical_batch_tokens`).
      num_units: U, units of a physical batch, whose gradients are held until they are clipped.
      longest: Tokens of the longest record (`train.max_record_tokens`); attention is within records.
      is_fused: The layers are one function each (see `fuse_layers`); autograd keeps more.
      gradient_checkpointing: Layers keep their input alone; one layer at a time is computed again.
    """
    num_params, num_layers = shape.count_params(config), shape.count_adapted_layers(config)
    heads, keys = shape.num_heads * shape.head_size, shape.num_key_heads * shape.head_size
    inner = heads + 2 * keys
    # What goes into the layer, its middle, and both normed; query, key and value; what attention makes; gate and up.
    width = 4 * shape.hidden + inner + heads + 2 * shape.intermediate
    # Autograd keeps the same, and once more in float32: PEFT's adapters take their inputs so.
    layer = tile_tokens * width * (weight_bytes if is_fused else weight_bytes + _WIDE_BYTES)
    # What the adapters' A make, and the attention weights of records that are not long.
    layer += tile_tokens * (config.lora_rank * len(config.target_modules) * _WIDE_BYTES + shape.num_heads * min(longest, _ATTENTION_BLOCK) * weight_bytes)
    pending = min(_PENDING_BYTES, num_layers * layer)
    kept = num_layers * tile_tokens * shape.hidden * weight_bytes + layer if gradient_checkpointing else num_layers * layer
    attention = 2 * shape.num_heads * min(longest, _ATTENTION_BLOCK) * longest * _WIDE_BYTES
    passing = _NUM_PASSING * tile_tokens * (inner + heads) * _WIDE_BYTES + _NUM_PASSING * tile_tokens * shape.intermediate * weight_bytes
    if config.quantization != "none":
        # One linear layer at a time is unpacked for its product.
        passing += max(k * n for k, n in shape.linears.values()) * weight_bytes
    return TrainingMemory(
        base_weights=shape.count_base_bytes(config, weight_bytes=weight_bytes),
        adapter=num_params * (_WIDE_BYTES + _BYTES_A_PARAM_IN_ADAM + _BYTES_A_PARAM_IN_SUMS),
        unit_gradients=num_units * num_params * _WIDE_BYTES,
        activations=kept,
        passing=attention + passing + pending,
        vocabulary=_CHUNK_TOKENS * shape.vocabulary * (weight_bytes + _WIDE_BYTES),
    )
