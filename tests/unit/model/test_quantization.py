"""Weights in four bits: what is packed, what it computes, and that nothing is fetched."""

import subprocess
import sys

import pytest
import torch

from penname.config import ModelConfig
from penname.errors import ModelError
from penname.model.base import load_base_model
from penname.model.free_memory import ModelShape
from penname.model.quantization import is_quantized

ROWS = torch.arange(3, 40)[None]


def load(folder, **given):
    return load_base_model(ModelConfig(name=str(folder), device="cpu", quantization="nf4", **given.pop("config", {})), **given)[0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_linear_layers_are_packed_where_it_trains_and_nothing_else(tiny_model_dir, dtype):
    model = load(tiny_model_dir, trains=True, config={"dtype": dtype})
    packed = {name for name, parameter in model.named_parameters() if is_quantized(parameter)}
    assert packed == {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and ".layers." in name}
    assert len(packed) == 14
    others = {parameter.dtype for name, parameter in model.named_parameters() if name not in packed}
    assert others == {getattr(torch, dtype)}
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.training


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_unpacked_it_is_the_same_model_and_another_than_without(tiny_model_dir, dtype):
    config = {"dtype": dtype}
    packed, unpacked = load(tiny_model_dir, trains=True, config=config), load(tiny_model_dir, config=config)
    assert not any(is_quantized(parameter) for parameter in unpacked.parameters())
    assert {type(module) for module in unpacked.modules() if isinstance(module, torch.nn.Linear)} == {torch.nn.Linear}
    assert {parameter.dtype for parameter in unpacked.parameters()} == {getattr(torch, dtype)}
    with torch.no_grad():
        logits = [model(input_ids=ROWS).logits for model in (packed, unpacked)]
        torch.testing.assert_close(logits[0], logits[1], rtol=0, atol=1e-6 if dtype == "float32" else 1e-2)
        whole, _ = load_base_model(ModelConfig(name=str(tiny_model_dir), device="cpu", dtype=dtype))
        assert (whole(input_ids=ROWS).logits - logits[1]).abs().max() > 1e-3


def test_a_pass_without_gradients_leaves_the_weights_as_they_are(tiny_model_dir):
    model = load(tiny_model_dir, trains=True)
    before = {name: parameter.data.clone() for name, parameter in model.named_parameters()}
    with torch.no_grad():
        first = model(input_ids=ROWS).logits
        assert torch.equal(first, model(input_ids=ROWS).logits)
    assert all(torch.equal(before[name], parameter.data) for name, parameter in model.named_parameters())
    assert torch.equal(first, model.train()(input_ids=ROWS).logits)


def test_its_size_is_the_one_that_is_planned(tmp_path):
    from tests.conftest import make_byte_tokenizer, make_tiny_llama

    made = make_tiny_llama(hidden_size=128, intermediate_size=512, tied=False)
    made.save_pretrained(tmp_path)
    make_byte_tokenizer().save_pretrained(tmp_path)
    model = load(tmp_path, trains=True, config={"dtype": "float32"})
    held = 0
    for parameter in model.parameters():
        held += parameter.numel() * parameter.element_size()
        if is_quantized(parameter):
            state = parameter.quant_state
            held += sum(part.numel() * part.element_size() for part in (state.absmax, state.state2.absmax))
    config = ModelConfig(quantization="nf4")
    planned = ModelShape.read(made.config).count_base_bytes(config, weight_bytes=4)
    assert held == pytest.approx(planned, rel=0.01)
    assert planned < 0.4 * ModelShape.read(made.config).count_base_bytes(ModelConfig(), weight_bytes=4)


def test_without_the_extra_one_line_names_it(tiny_model_dir, monkeypatch):
    monkeypatch.setattr("penname.model.quantization.import_bitsandbytes", lambda: False)
    with pytest.raises(ModelError, match=r"model\.quantization: nf4 needs the extra quantization: pip install"):
        load(tiny_model_dir)


IMPORTS = """
import sys, types, logging
logging.basicConfig()
calls = []
kernels = types.ModuleType("kernels")
def get_kernel(*args, **more):
    calls.append(args)
    raise RuntimeError("no network")
kernels.get_kernel = get_kernel
kernels.__spec__ = types.SimpleNamespace(name="kernels", origin="fake")
sys.modules["kernels"] = kernels
{first}
import peft
assert sys.modules["kernels"] is kernels
print(len(calls), "bitsandbytes" in sys.modules)
"""


@pytest.mark.parametrize("is_first", [True, False], ids=["by penname", "by PEFT"])
def test_no_code_is_fetched_when_it_is_imported(is_first):
    first = "from penname.model.quantization import import_bitsandbytes; import_bitsandbytes()" if is_first else ""
    ran = subprocess.run([sys.executable, "-c", IMPORTS.format(first=first)], capture_output=True, text=True, check=False)
    num_calls, is_there = ran.stdout.split()
    assert is_there == "True", ran.stderr
    if is_first:
        assert num_calls == "0"
        assert ran.stderr == ""
    elif torch.cpu._is_avx512_bf16_supported():
        # What would happen otherwise: else the other case could not fail.
        assert num_calls != "0"


def test_nothing_is_imported_where_it_is_not_installed(monkeypatch):
    from penname.model import quantization

    monkeypatch.setattr(quantization, "_LIBRARY", "no_such_library")
    assert not quantization.import_bitsandbytes()
