"""Fused layers: which models get them, that they compute what the model computes, and what they leave as it was."""

import copy

import pytest
import torch

from penname.config import ModelConfig
from penname.model import fused_layer
from penname.model.adapter import adapter_weights, attach_adapter
from penname.model.fused_layer import fuse_layers
from penname.model.loss import record_losses
from penname.model.packing import PackedRows, enable_packing
from penname.model.tokenize import TokenizedRecord
from penname.privacy.gradients import LoraEngine, SummedEngine, trainable_parameters
from tests.conftest import make_tiny_llama
from tests.unit.model.test_packing import make_model

ROWS = PackedRows.pack([TokenizedRecord(list(range(5, 5 + n)), 2) for n in (9, 14, 3)], num_tokens=32, pad_id=0)


def make_adapted(base=None, *, moves=True, **config):
    base = (base or make_tiny_llama()).requires_grad_(False)
    assert enable_packing(base, max_tokens=32)
    model = attach_adapter(base, ModelConfig(**{"lora_rank": 3, "top_layers": None, **config}), seed=1)
    generator = torch.Generator().manual_seed(2)
    for _, parameter in trainable_parameters(model):
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator) * moves
    return model.train()


def gradients(model):
    losses = record_losses(model, ROWS)
    return losses.detach(), dict(zip(adapter_weights(model), torch.autograd.grad(losses.sum(), [p for _, p in trainable_parameters(model)]), strict=True))


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"top_layers": 1},
        {"freeze_lora_a": True},
        {"target_modules": ["q_proj", "down_proj"]},
        {"target_modules": ["v_proj", "up_proj", "o_proj"], "lora_alpha": 5.0},
    ],
    ids=str,
)
def test_losses_and_gradients_are_those_of_the_model_itself(config):
    model, plain = make_adapted(**config), make_adapted(**config)
    assert fuse_layers(model) == 2
    for ours, own in zip(gradients(model), gradients(plain), strict=True):
        torch.testing.assert_close(ours, own, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_weights_keep_their_names_and_values_and_a_fresh_adapter_stays_fresh(dtype):
    model = make_adapted(make_tiny_llama().to(dtype), moves=False)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    trainable = [name for name, _ in trainable_parameters(model)]
    fuse_layers(model)
    after = dict(model.named_parameters())
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) and after[name].dtype == value.dtype for name, value in before.items())
    assert [name for name, _ in trainable_parameters(model)] == trainable


def test_bf16_stays_near_float32_though_the_adapters_products_are_bf16_too():
    exact = gradients(make_adapted())[1]
    errors = {}
    for name, fuse in (("own", False), ("fused", True)):
        model = make_adapted(make_tiny_llama().to(torch.bfloat16))
        assert not fuse or fuse_layers(model) == 2
        grads = gradients(model)[1]
        difference, size = (torch.cat([value.reshape(-1) for value in values]).norm() for values in ((grads[k] - exact[k] for k in exact), exact.values()))
        errors[name] = float(difference / size)
    # The model's own way keeps the adapters' products in float32.
    assert errors["own"] < 0.01
    assert errors["fused"] < 0.02


def test_what_is_not_packed_goes_the_models_own_way():
    model, plain = make_adapted(), make_adapted()
    fuse_layers(model)
    token_ids = torch.tensor([[5, 6, 7], [8, 9, 10]])
    mask = torch.tensor([[0, 1, 1], [1, 1, 1]])
    for model_ in (model, plain):
        model_.get_base_model().set_attn_implementation("sdpa")
    with torch.no_grad():
        ours, own = (m(input_ids=token_ids, attention_mask=mask).logits for m in (model, plain))
    assert torch.equal(ours, own)


@pytest.mark.parametrize("kind", ["qwen3", "gpt2"])
def test_layers_of_another_kind_stay_as_they_are(kind):
    base = make_model(kind).requires_grad_(False)
    targets = {"target_modules": ["q_proj", "v_proj"] if kind == "qwen3" else ["c_attn"]}
    if kind == "gpt2":
        # Its projections are no linear layers of torch's kind; there is nothing to adapt and nothing to fuse.
        layer = base.transformer.h[0]
        assert fused_layer._read_layer(layer) is None
        return
    model = make_adapted(base, **targets)
    before = gradients(model)
    assert fuse_layers(model) == 0
    for ours, own in zip(gradients(model), before, strict=True):
        torch.testing.assert_close(ours, own, rtol=0, atol=0)


def test_dropout_keeps_the_models_own_way():
    assert fuse_layers(make_adapted(lora_dropout=0.1)) == 0


@pytest.mark.parametrize("wrong", ["scaling", "epsilon"])
def test_a_layer_that_computes_anything_else_is_noticed(wrong):
    model = make_adapted()
    layer = model.get_base_model().model.layers[0]
    read = fused_layer._read_layer(copy.deepcopy(layer).float())
    if wrong == "scaling":
        object.__setattr__(read, "scaling", read.scaling * 1.01)
    else:
        object.__setattr__(read, "norms", tuple((weight, epsilon + 1e-2) for weight, epsilon in read.norms))
    assert not fused_layer._is_same(copy.deepcopy(layer).float(), read, model.get_base_model().model)


def test_engines_leave_nothing_behind_and_agree():
    model = make_adapted()
    fuse_layers(model)
    from penname.privacy.gradients import RowPass

    row_pass = RowPass(lambda: record_losses(model, ROWS), ROWS.row_lengths, [0, 1, 0])
    unit_grads, _ = LoraEngine(model).unit_gradients([row_pass], 2)
    total, _ = SummedEngine(model).summed_gradient([row_pass], 2)
    torch.testing.assert_close(unit_grads.sum(0), total, rtol=1e-4, atol=1e-6)
    assert all(layer.product_reporter.receive is None for layer in model.get_base_model().model.layers)
