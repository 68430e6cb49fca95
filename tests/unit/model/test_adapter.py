"""The adapter: it alone trains, any PEFT reads it, and it names no path of this machine."""

import json

import pytest
import torch

from penname.config import ModelConfig
from penname.errors import ModelError
from penname.model.adapter import adapter_weights, attach_adapter, hash_start, load_start, merge_adapter, save_adapter
from tests.conftest import make_tiny_llama

IDS = torch.tensor([[5, 9, 30, 7]])


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


def move(model, *, seed=3):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def attach(model=None, **config):
    return attach_adapter((model or make_tiny_llama()).requires_grad_(False), ModelConfig(lora_rank=3, **config), seed=1)


def test_a_fresh_adapter_changes_nothing_and_alone_trains():
    adapted = attach()
    torch.testing.assert_close(logits(adapted), logits(make_tiny_llama()), rtol=0, atol=0)
    weights = adapter_weights(adapted)
    assert len(weights) == 2 * 7 * 2
    assert all(".lora_" in name for name in weights)
    assert {parameter.dtype for parameter in weights.values()} == {torch.float32}


def test_the_adapter_of_a_half_precision_base_is_float32():
    adapted = attach(make_tiny_llama().to(torch.bfloat16))
    assert {parameter.dtype for parameter in adapter_weights(adapted).values()} == {torch.float32}


def test_the_seed_decides_and_leaves_the_callers_random_numbers_alone():
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    first, second = adapter_weights(attach()), adapter_weights(attach())
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_top_layers_gets_the_last_layers_alone():
    names = adapter_weights(attach(top_layers=1))
    assert names
    assert all(".layers.1." in name for name in names)


def test_peft_loads_what_is_saved(tmp_path):
    from peft import PeftModel

    adapted = move(attach())
    save_adapter(adapted, tmp_path / "adapter", base_model_name="some/model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]
    assert sorted(path.name for path in (tmp_path / "adapter").iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"] == "some/model"
    loaded = PeftModel.from_pretrained(make_tiny_llama(), str(tmp_path / "adapter"))
    torch.testing.assert_close(logits(loaded), logits(adapted), rtol=0, atol=0)
    merged = merge_adapter(make_tiny_llama(), tmp_path / "adapter")
    torch.testing.assert_close(logits(merged), logits(adapted), rtol=1e-4, atol=1e-5)
    assert not any("lora" in name for name, _ in merged.named_parameters())


def test_the_same_weights_are_saved_as_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        save_adapter(move(attach()), tmp_path / name, base_model_name="m")
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_modules_that_the_model_lacks_are_named():
    with pytest.raises(ModelError, match=r"model\.target_modules: .* has no linear layer named c_attn, w1") as caught:
        attach(target_modules=["q_proj", "c_attn", "w1"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["gone", "cut", "other_rank"])
def test_a_folder_that_holds_no_adapter_is_one_line(tmp_path, damage):
    folder = tmp_path / "adapter"
    if damage != "gone":
        save_adapter(attach(), folder, base_model_name="m")
    if damage == "cut":
        weights = folder / "adapter_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:100])
    if damage == "other_rank":
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"r": 5}))
    with pytest.raises(ModelError, match="is no adapter for this model") as caught:
        merge_adapter(make_tiny_llama(), folder)
    assert "\n" not in str(caught.value)


def test_training_starts_from_the_adapter_that_is_named(tmp_path):
    before = move(attach())
    save_adapter(before, tmp_path / "adapter", base_model_name="m")
    fresh = attach()
    load_start(fresh, tmp_path / "adapter")
    for name, weights in adapter_weights(before).items():
        assert torch.equal(adapter_weights(fresh)[name], weights)
    torch.testing.assert_close(logits(fresh), logits(before), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("gone", "holds no adapter"), ("cut", "holds no adapter"), ("pickle", "holds no adapter"), ("other_rank", "lora_rank"), ("other_layers", "lora_rank"),
        ("other_alpha", "lora_alpha"), ("not_finite", "not finite"),
    ],
)  # fmt: skip
def test_an_adapter_that_nothing_can_start_from_is_one_line(tmp_path, damage, says):
    folder, fresh = tmp_path / "adapter", attach()
    other = {"other_rank": {"lora_rank": 4}, "other_layers": {"top_layers": 1}, "other_alpha": {"lora_alpha": 3.0}}.get(damage, {})
    given = attach_adapter(make_tiny_llama().requires_grad_(False), ModelConfig(**{"lora_rank": 3, **other}), seed=1)
    if damage == "not_finite":
        next(p for p in given.parameters() if p.requires_grad).data[0, 0] = float("nan")
    if damage != "gone":
        save_adapter(given, folder, base_model_name="m")
    weights = folder / "adapter_model.safetensors"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:100])
    if damage == "pickle":
        weights.rename(folder / "adapter_model.bin")
    with pytest.raises(ModelError, match=says) as caught:
        load_start(fresh, folder)
    assert "\n" not in str(caught.value)


def test_the_start_is_known_by_its_content(tmp_path):
    for name in ("a", "b"):
        save_adapter(move(attach()), tmp_path / name, base_model_name="m")
    assert hash_start(None) == {}
    assert hash_start(str(tmp_path / "a")) == hash_start(str(tmp_path / "b"))
    with pytest.raises(ModelError, match="is no folder"):
        hash_start(str(tmp_path / "c"))
