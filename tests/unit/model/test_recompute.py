"""Gradient checkpointing: the same bits in every layout and for every engine, dropout included, and less that is kept."""

import pytest
import torch

from penname.config import ModelConfig
from penname.errors import ModelError
from penname.model.adapter import attach_adapter
from penname.model.fused_layer import fuse_layers
from penname.model.loss import record_losses
from penname.model.packing import PackedRows, enable_packing
from penname.model.recompute import recompute_layers
from penname.model.tokenize import TokenizedRecord
from penname.privacy.gradients import GRADIENT_ENGINES, SummedEngine, trainable_parameters
from penname.train.layout import Layout
from tests.conftest import make_tiny_llama
from tests.unit.model.test_packing import make_model

UNITS = [[TokenizedRecord([(5 * i + n) % 250 + 3 for i in range(n)], 2) for n in lengths] for lengths in ([9, 14], [30], [3, 21, 8], [40, 50])]
WAYS = [("lora", "fused"), ("lora", "packed"), ("lora", "alone"), ("opacus", "alone")]


def make_adapted(layout_name, *, recomputes, dtype=torch.float32, dropout=0.0, **config):
    base = make_tiny_llama().to(dtype).requires_grad_(False)
    if layout_name != "alone":
        assert enable_packing(base, max_tokens=64)
    model = attach_adapter(base, ModelConfig(**{"lora_rank": 3, "top_layers": None, "lora_dropout": dropout, **config}), seed=1)
    generator = torch.Generator().manual_seed(2)
    for _, parameter in trainable_parameters(model):
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    if layout_name == "fused":
        assert fuse_layers(model) == 2
    if recomputes:
        assert recompute_layers(model) == 2
    return model.train()


def run(model, layout_name, engine):
    """Every gradient and loss of two passes over the same engine."""
    layout = Layout(None if layout_name == "alone" else 64, pad_id=2)
    torch.manual_seed(7)
    found = []
    for _ in range(2):
        for batch in layout.cut(UNITS):
            passes = layout.lay_out(model, batch)
            found.extend(engine.summed_gradient(passes, len(batch)) if isinstance(engine, SummedEngine) else engine.unit_gradients(passes, len(batch)))
    return found


def assert_same_bits(layout_name, make_engine, **options):
    plain, recomputed = (make_adapted(layout_name, recomputes=recomputes, **options) for recomputes in (False, True))
    expected = run(plain, layout_name, make_engine(plain))
    found = run(recomputed, layout_name, make_engine(recomputed))
    assert float(expected[0].abs().sum()) > 0
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("engine_name", "layout_name"), WAYS)
def test_unit_gradients_are_the_same_bits(engine_name, layout_name, dtype):
    assert_same_bits(layout_name, GRADIENT_ENGINES[engine_name], dtype=dtype)


@pytest.mark.parametrize("layout_name", ["fused", "packed", "alone"])
@pytest.mark.parametrize("config", [{"top_layers": 1}, {"freeze_lora_a": True}, {"target_modules": ["v_proj", "down_proj"]}], ids=str)
def test_whatever_is_adapted(layout_name, config):
    assert_same_bits(layout_name, GRADIENT_ENGINES["lora"], **config)


@pytest.mark.parametrize("layout_name", ["fused", "packed", "alone"])
def test_the_sum_of_the_arm_without_dp_is_the_same_bits(layout_name):
    assert_same_bits(layout_name, SummedEngine)


@pytest.mark.parametrize(("engine_name", "layout_name"), WAYS[1:])
def test_dropout_drops_the_same_again(engine_name, layout_name):
    assert_same_bits(layout_name, GRADIENT_ENGINES[engine_name], dropout=0.3)


def test_the_callers_random_numbers_go_on_as_without():
    model = make_adapted("alone", recomputes=True, dropout=0.3)
    losses = record_losses(model, PackedRows.alone(UNITS[1][0]))
    expected = torch.get_rng_state()
    losses.sum().backward()
    assert torch.equal(torch.get_rng_state(), expected)


def count_kept_bytes(model, rows):
    """Bytes that the graph of a forward pass holds, weights not counted."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    # With the tensor, whose address would otherwise be given to another once it is gone.
    kept = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        losses = record_losses(model, rows)
    assert losses.requires_grad
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("layout_name", ["fused", "packed", "alone"])
def test_little_is_kept(layout_name):
    record = TokenizedRecord(list(range(3, 63)), 2)
    rows = PackedRows.alone(record) if layout_name == "alone" else PackedRows.pack([record], num_tokens=64, pad_id=2)
    plain, recomputed = (count_kept_bytes(make_adapted(layout_name, recomputes=recomputes), rows) for recomputes in (False, True))
    # Two layers' inputs, and what the last norm and the loss keep: about ten tensors as wide as the model.
    assert recomputed < 12 * 64 * 32 * 4 < plain


def test_what_an_engine_sees_is_not_held_until_the_backward_pass_ends():
    """Hooks on the adapters' layers note inputs; of a first forward pass without a graph they have nothing to note."""
    model = make_adapted("packed", recomputes=True)
    noted = []
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module.weight.requires_grad:
            module.register_forward_hook(lambda layer, inputs, output: noted.append(output.requires_grad))
    losses = record_losses(model, PackedRows.pack(UNITS[0], num_tokens=64, pad_id=2))
    assert len(noted) == 2 * 7 * 2
    assert not any(noted)
    losses.sum().backward()
    assert len(noted) == 2 * 2 * 7 * 2
    assert all(noted[2 * 7 * 2 :])


def test_without_gradients_nothing_is_different():
    model = make_adapted("packed", recomputes=True)
    rows = PackedRows.pack(UNITS[0], num_tokens=64, pad_id=2)
    with torch.no_grad():
        assert torch.equal(record_losses(model, rows), record_losses(make_adapted("packed", recomputes=False), rows))


@pytest.mark.parametrize("use_cache", [False, True])
def test_another_kind_of_model_and_a_cache_that_must_not_be_filled_twice(use_cache):
    models, ids = (make_model("gpt2"), make_model("gpt2")), torch.arange(3, 20)[None]
    assert recompute_layers(models[0]) == 2
    losses = [model(input_ids=ids, use_cache=use_cache).logits.logsumexp(2).sum() for model in models]
    grads = [torch.autograd.grad(loss, list(model.parameters())) for loss, model in zip(losses, models, strict=True)]
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_a_model_without_such_layers_is_one_line():
    with pytest.raises(ModelError, match=r"train\.gradient_checkpointing: this model has no layers"):
        recompute_layers(torch.nn.Linear(2, 2))
