"""Where the model computes: what is asked for and not there is one line, and nothing is set on a processor."""

import os

import pytest
import torch

from penname.config import ModelConfig
from penname.errors import ModelError
from penname.model.base import choose_dtype, load_base_model
from penname.model.device import choose_device, settle_kernels


@pytest.fixture
def with_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def without_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(("name", "expected"), [("auto", "cuda"), ("cpu", "cpu"), ("cuda", "cuda"), ("cuda:1", "cuda:1")])
def test_with_cuda(with_cuda, name, expected):
    assert choose_device(name) == torch.device(expected)


@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_without_cuda(without_cuda, name):
    assert choose_device(name) == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_cuda_that_is_not_there_is_one_line(without_cuda, tiny_model_dir, name):
    with pytest.raises(ModelError, match=rf"^model\.device: {name} is asked for, and torch finds no CUDA device here; set model\.device=cpu") as caught:
        load_base_model(ModelConfig(name=str(tiny_model_dir), device=name))
    assert "\n" not in str(caught.value)


def test_a_device_too_many_is_one_line(with_cuda):
    with pytest.raises(ModelError, match=r"^model\.device: there is no cuda:2; this machine has 2 CUDA devices"):
        choose_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cpu:0", "", "mps"])
def test_another_name_is_none(name):
    with pytest.raises(ValueError, match="device"):
        ModelConfig(device=name)


@pytest.mark.parametrize("is_native", [True, False])
def test_the_precision_is_what_the_device_multiplies(monkeypatch, is_native):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: is_native)
    assert choose_dtype("auto", torch.device("cuda")) == (torch.bfloat16 if is_native else torch.float32)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: is_native)
    assert choose_dtype("auto", torch.device("cpu")) == (torch.bfloat16 if is_native else torch.float32)


def test_a_loaded_model_lies_where_it_was_asked_for(tiny_model_dir):
    model, _ = load_base_model(ModelConfig(name=str(tiny_model_dir), device="cpu"))
    assert {parameter.device for parameter in model.parameters()} == {torch.device("cpu")}


def test_a_loaded_model_keeps_few_kernels_unless_the_user_says_otherwise(monkeypatch, tiny_model_dir):
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    load_base_model(ModelConfig(name=str(tiny_model_dir)))
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "64"
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "7")
    load_base_model(ModelConfig(name=str(tiny_model_dir)))
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "7"


def test_kernels_with_an_order_left_to_chance_are_given_up_on_cuda_alone(monkeypatch):
    calls = []
    monkeypatch.setattr(torch, "use_deterministic_algorithms", calls.append)
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    settle_kernels(torch.device("cpu"))
    assert not calls
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    settle_kernels(torch.device("cuda"))
    assert calls == [True]
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.backends.cudnn.benchmark
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
