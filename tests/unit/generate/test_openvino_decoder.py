"""OpenVINO's decoder: what it is asked, that it is checked, and what it says when it cannot. How it writes: tests/contracts/test_decoder_contract.py."""

import sys
import types
from dataclasses import replace

import pytest
import torch

from penname.config import GenerateConfig
from penname.errors import ModelError
from penname.generate import openvino_decoder
from penname.generate.decode import Request, Rules
from penname.generate.engines import check_engine
from penname.generate.nucleus import Sampling
from penname.generate.openvino_decoder import OpenvinoDecoder, check_openvino
from tests.conftest import make_tiny_llama

RULES = Rules(Sampling(1.0, 0.9, 12), eos_id=2, suppressed_ids=(0, 1))
PROMPT = (40, 41, 42)


@torch.no_grad()
def make_model(dtype=torch.float32):
    model = make_tiny_llama(tied=False).to(dtype).eval().requires_grad_(False)
    # So that it has opinions.
    model.get_output_embeddings().weight *= 10
    return model


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    scratch = tmp_path_factory.mktemp("scratch")
    opened = OpenvinoDecoder.open(make_model(), RULES, num_slots=4, longest=64, scratch=scratch)
    # The converted model holds the weights of an arm, with or without privacy.
    assert list(scratch.iterdir()) == []
    return opened


def write(decoder, requests):
    texts = {}
    decoder.decode(requests, lambda request, text: texts.__setitem__(request.key, text.token_ids))
    return texts


@pytest.mark.slow
def test_every_key_has_a_seed_of_its_own(decoder):
    texts = write(decoder, [Request(key, PROMPT) for key in [(1, 2, 3), (1, 23), (1, 2, 4), (2, 2, 3)]])
    assert len({tuple(text) for text in texts.values()}) == 4


@pytest.mark.slow
def test_after_an_error_in_the_middle_it_writes_as_before(decoder):
    requests = [Request((7, i), PROMPT) for i in range(9)]
    expected = write(decoder, requests)
    seen = []

    def stop(request, text):
        seen.append(request.key)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decoder.decode(requests, stop)
    assert write(decoder, requests) == expected


@pytest.mark.slow
def test_texts_end_where_their_mark_is(decoder):
    # The last texts to end are ended here, by their mark, and not by OpenVINO.
    ended = OpenvinoDecoder(decoder._pipe, replace(RULES, is_ended=lambda token_ids: len(token_ids) == 3), num_slots=4)
    assert {len(text) for text in write(ended, [Request((3, i), PROMPT) for i in range(5)]).values()} == {3}


@pytest.mark.slow
def test_bfloat16_is_computed_in_bfloat16_and_agrees_with_the_model(tmp_path):
    decoder = OpenvinoDecoder.open(make_model(torch.bfloat16), RULES, num_slots=4, longest=64, scratch=tmp_path)
    assert len(write(decoder, [Request((1, 1), PROMPT)])[1, 1]) > 0


@pytest.mark.slow
def test_what_computes_something_else_is_refused(tmp_path, monkeypatch):
    convert = openvino_decoder._convert

    def convert_another(model, rules, folder):
        other = make_model()
        other.model.layers[0].self_attn.v_proj.weight *= -1
        convert(other, rules, folder)

    monkeypatch.setattr(openvino_decoder, "_convert", convert_another)
    model = make_model()
    with pytest.raises(ModelError, match=r"openvino computes something else than this model .*set generate\.engine=penname"):
        OpenvinoDecoder.open(model, RULES, num_slots=4, longest=64, scratch=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_be_converted_is_one_line(tmp_path, monkeypatch):
    def fail(*_):
        raise TypeError("Exception from src/model.cpp:706:\nno such operator\nand a long story")

    monkeypatch.setattr(openvino_decoder, "_convert", fail)
    with pytest.raises(ModelError, match=r"^generate\.engine: openvino cannot write with this model \(no such operator\); set generate\.engine=penname$"):
        OpenvinoDecoder.open(make_model(), RULES, num_slots=4, longest=64, scratch=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_not_blamed_on_the_model(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(openvino_decoder, "_convert", fail)
    with pytest.raises(OSError, match="No space left"):
        OpenvinoDecoder.open(make_model(), RULES, num_slots=4, longest=64, scratch=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_step_that_fails_is_one_line():
    check_openvino()

    def fail():
        raise RuntimeError("Exception from src/infer.cpp:1:\nno memory")

    pipe = types.SimpleNamespace(add_request=lambda *_: types.SimpleNamespace(cancel=lambda: None), step=fail)
    with pytest.raises(ModelError, match=r"^generate\.engine: openvino failed \(no memory\); set a smaller generate\.batch_size, or set"):
        write(OpenvinoDecoder(pipe, RULES, num_slots=2), [Request((1,), PROMPT)])


def test_a_model_on_a_gpu_is_refused(tmp_path):
    model = types.SimpleNamespace(device=torch.device("cuda:0"))
    with pytest.raises(ModelError, match=r"openvino writes on processors, and the model is on cuda:0; set model\.device=cpu"):
        OpenvinoDecoder.open(model, RULES, num_slots=4, longest=64, scratch=tmp_path)


def test_a_text_that_is_given_up_is_one_line_and_no_endless_wait():
    check_openvino()
    import openvino_genai

    handle = types.SimpleNamespace(can_read=lambda: False, get_status=lambda: openvino_genai.GenerationStatus.IGNORED, cancel=lambda: None)
    pipe = types.SimpleNamespace(add_request=lambda *_: handle, step=lambda: None)
    with pytest.raises(ModelError, match=r"gave up a text after 0 tokens.*generate\.batch_size"):
        write(OpenvinoDecoder(pipe, RULES, num_slots=2), [Request((1,), PROMPT)])


@pytest.mark.slow
def test_nothing_is_told_to_its_maker(decoder, monkeypatch):
    from openvino.tools.ovc import convert_impl, telemetry_stub, telemetry_utils

    assert convert_impl.tm is telemetry_stub
    assert telemetry_utils.tm is telemetry_stub
    monkeypatch.setitem(sys.modules, "openvino_telemetry", types.ModuleType("openvino_telemetry"))
    with pytest.raises(ModelError, match="which sends reports"):
        check_engine(GenerateConfig(engine="openvino"))


@pytest.mark.parametrize("name", ["openvino_genai", "transformers.exporters.exporter_openvino"])
def test_what_is_missing_is_one_line_before_anything_is_begun(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModelError, match=r"generate\.engine: openvino is not installed .*install penname\[openvino\]"):
        check_engine(GenerateConfig(engine="openvino"))
    check_engine(GenerateConfig())
