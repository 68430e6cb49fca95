"""Memory: what is free, inside a control group too; what a step takes, against what it was seen to keep; what running out of it looks like."""

from dataclasses import replace

import pytest
import torch

from penname.config import ModelConfig
from penname.model.adapter import attach_adapter
from penname.model.free_memory import ModelShape, TrainingMemory, estimate_training_memory, is_out_of_memory, read_free_bytes
from penname.model.packing import PackedRows
from penname.model.tokenize import TokenizedRecord
from penname.privacy.gradients import trainable_parameters
from tests.conftest import make_tiny_llama
from tests.unit.model.test_packing import make_model
from tests.unit.model.test_recompute import count_kept_bytes, make_adapted

CPU = torch.device("cpu")
LLAMA_8B = ModelShape(32, 4096, 14336, 32, 8, 128, 128256, has_own_head=True)
ALL_LAYERS = ModelConfig(top_layers=None)


# --- what is free -----------------------------------------------------------------------------------------------------


def test_what_torch_and_python_raise_without_memory_is_known():
    for ask in (lambda: torch.empty(1 << 60, dtype=torch.uint8), lambda: bytearray(1 << 62)):
        with pytest.raises((RuntimeError, MemoryError)) as caught:
            ask()
        assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch in memory_efficient attention"), ValueError("out of memory bounds"), KeyError(5)])
def test_another_error_that_speaks_of_memory_is_none(error):
    assert not is_out_of_memory(error)


def test_free_memory_is_some_and_not_more_than_there_is():
    import psutil

    assert 0 < read_free_bytes(CPU) <= psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("line", "folder", "names", "stat"),
    [
        ("0::/jobs/mine", "", ("memory.max", "memory.current"), "inactive_file"),
        ("4:memory:/jobs/mine", "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes"), "total_inactive_file"),
        ("4:hugetlb,memory:/jobs/mine", "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes"), "total_inactive_file"),
    ],
)
@pytest.mark.parametrize("place", ["jobs/mine", "jobs", ""], ids=["own", "parent", "the container's base"])
def test_a_control_group_may_have_less_than_the_machine(tmp_path, line, folder, names, stat, place):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(f"1:cpu:/\n{line}\n")
    group = tmp_path / "sys/fs/cgroup" / folder / place
    group.mkdir(parents=True)
    # A third of what is used are files that were read, and make room when asked.
    for name, value in zip((*names, "memory.stat"), (9_000_000, 3_000_000, f"anon 7\n{stat} 1000000"), strict=True):
        (group / name).write_text(f"{value}\n")
    assert read_free_bytes(CPU, root=tmp_path) == 7_000_000


def test_no_limit_is_no_limit(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    for name, text in {"memory.max": "max", "memory.current": "3000000", "memory.stat": "inactive_file 0"}.items():
        (group / name).write_text(text)
    assert read_free_bytes(CPU, root=tmp_path) > 7_000_000


# --- what a step takes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [{}, {"top_layers": 1}, {"top_layers": 9}, {"freeze_lora_a": True}, {"target_modules": ["k_proj", "down_proj"]}], ids=str)
@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_weights_are_counted_as_the_model_has_them(kind, config):
    model, config = make_model(kind), ModelConfig(**{"lora_rank": 3, "top_layers": None, **config})
    shape = ModelShape.read(model.config)
    norms_of_heads = 2 * shape.num_layers * shape.head_size if kind == "qwen3" else 0
    assert shape.num_weights + norms_of_heads == sum(parameter.numel() for parameter in model.parameters())
    adapted = attach_adapter(model.requires_grad_(False), config, seed=1)
    assert shape.count_params(config) == sum(parameter.numel() for _, parameter in trainable_parameters(adapted))


def estimate(shape, config=ALL_LAYERS, **given):
    return estimate_training_memory(shape, config, **{"weight_bytes": 2, "tile_tokens": 512, "num_units": 16, "longest": 224, **given})


def test_llama_8b_has_the_size_that_it_is_known_to_have():
    memory = estimate(LLAMA_8B)
    assert LLAMA_8B.num_weights == 8_030_261_248
    assert memory.base_weights == 16_060_522_496
    # LoRA of rank 8 on seven layers: PEFT counts the same.
    assert LLAMA_8B.count_params(ALL_LAYERS) == 20_971_520
    assert memory.unit_gradients == 16 * 20_971_520 * 4
    assert memory.total == sum(vars(memory).values())


@pytest.mark.parametrize("layout_name", ["fused", "packed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("recomputes", [False, True])
def test_activations_are_near_what_the_graph_holds(layout_name, dtype, recomputes):
    record = TokenizedRecord([5] * 128, 120)
    model = make_adapted(layout_name, recomputes=recomputes, dtype=dtype)
    rows = PackedRows.pack([record, record], num_tokens=256, pad_id=2)
    kept = count_kept_bytes(model, rows)
    config, shape = ModelConfig(lora_rank=3, top_layers=None), ModelShape.read(model.config)
    given = {"weight_bytes": dtype.itemsize, "tile_tokens": 256, "num_units": 2, "longest": 128, "is_fused": layout_name == "fused"}
    memory = estimate(shape, config, gradient_checkpointing=recomputes, **given)
    # Attention weights are in the estimate, and as wide as a record is long: more than the rest in a model as narrow as this.
    attention = shape.num_layers * 256 * shape.num_heads * 128 * dtype.itemsize
    expected = memory.activations - attention
    if recomputes:
        # Of one layer, while it is computed again; the graph of the forward pass has none of it.
        expected = shape.num_layers * 256 * shape.hidden * dtype.itemsize
        assert memory.activations < estimate(shape, config, **given).activations
    # The last norm and the loss keep some as wide as the model too.
    assert 0.5 * expected < kept < 1.5 * expected + 12 * 256 * shape.hidden * 4


@pytest.mark.parametrize("name", ["tile_tokens", "num_units", "longest", "weight_bytes"])
def test_more_takes_more(name):
    given = {"tile_tokens": 512, "num_units": 16, "longest": 224, "weight_bytes": 2}
    less, more = (estimate(LLAMA_8B, **{**given, name: factor * given[name]}) for factor in (1, 2))
    assert more.total > less.total
    assert isinstance(less, TrainingMemory)


def test_fewer_layers_with_adapters_take_less():
    assert estimate(LLAMA_8B, ModelConfig(top_layers=8)).activations * 4 == estimate(LLAMA_8B).activations
    assert estimate(replace(LLAMA_8B, vocabulary=32_000)).vocabulary * 4 < estimate(LLAMA_8B).vocabulary * 1.01


def test_a_config_that_leaves_out_what_it_does_not_change():
    config = make_tiny_llama().config
    for name in ("head_dim", "num_key_value_heads"):
        setattr(config, name, None)
    assert (ModelShape.read(config).head_size, ModelShape.read(config).num_key_heads) == (8, 4)
