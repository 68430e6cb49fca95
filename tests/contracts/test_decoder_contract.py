"""One contract for everything that writes texts: every request once, from its own random numbers alone, redrawn where that is asked for.

vLLM needs a GPU, so its decoder meets a small stand-in of vLLM's documented interface here, which writes with our plain decoder: what is checked is
what we hand over and how we read what comes back, not vLLM.
"""

import shutil
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from penname.config import GenerateConfig
from penname.errors import ModelError
from penname.generate import openvino_decoder
from penname.generate.alone import AloneDecoder
from penname.generate.decode import Decoded, Request, Rules, find_prefix
from penname.generate.engines import open_decoder
from penname.generate.nucleus import Sampling
from penname.generate.openvino_decoder import OpenvinoDecoder
from penname.generate.slots import SlotDecoder
from penname.generate.vllm_decoder import VllmDecoder
from tests.conftest import make_tiny_llama

# Its converter takes seconds for each model.
OPENVINO = pytest.param("openvino", marks=pytest.mark.slow)
EOS, LIMIT, SIZES = 2, 24, {"vocab_size": 259, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def make_gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(vocab_size=259, n_embd=32, n_layer=2, n_head=4, n_positions=256, bos_token_id=1, eos_token_id=EOS))


def make_qwen3():
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(Qwen3Config(**SIZES, intermediate_size=48, num_key_value_heads=2, head_dim=16, max_position_embeddings=256))


def make_gemma2():
    from transformers import Gemma2Config, Gemma2ForCausalLM

    # Capped products, and a window shorter than the texts: this one must fall back.
    sizes = {**SIZES, "intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 16, "max_position_embeddings": 256}
    return Gemma2ForCausalLM(Gemma2Config(**sizes))


def make_gemma3():
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    sizes = {**SIZES, "intermediate_size": 48, "num_key_value_heads": 1, "head_dim": 8, "sliding_window": 16, "max_position_embeddings": 256}
    return Gemma3ForCausalLM(Gemma3TextConfig(**sizes))


MODELS = {"llama": lambda: make_tiny_llama(tied=False), "gpt2": make_gpt2, "qwen3": make_qwen3, "gemma2": make_gemma2, "gemma3": make_gemma3}


def make_model(name):
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = MODELS[name]().float().eval().requires_grad_(False)
    with torch.no_grad():
        model.get_output_embeddings().weight *= 10
    return model


# --- a stand-in for vLLM ----------------------------------------------------------------------------------------------


@dataclass
class SamplingParams:
    """The fields of vLLM's class that we use, so that a misspelt one fails."""

    temperature: float = 1.0
    top_p: float = 1.0
    min_p: float = 0.0
    max_tokens: int | None = 16
    seed: int | None = None
    stop_token_ids: list[int] | None = None
    stop: list[str] | None = None
    include_stop_str_in_output: bool = False
    logit_bias: dict[int, float] | None = None


@dataclass
class LLM:
    """Loads the folder that it is given, and writes as long as vLLM would: it ends at the end token, the end text or the limit."""

    model: str
    dtype: str
    max_model_len: int
    max_num_seqs: int
    enable_prefix_caching: bool
    calls: list[int] = field(default_factory=list)

    def __post_init__(self):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.network = AutoModelForCausalLM.from_pretrained(self.model, dtype=self.dtype).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(self.model)

    def generate(self, prompts: list[dict[str, list[int]]], params: list[SamplingParams], *, use_tqdm: bool) -> list[Any]:
        assert len(prompts) == len(params)
        assert not use_tqdm
        self.calls.append(len(prompts))
        return [self._write(prompt["prompt_token_ids"], each) for prompt, each in zip(prompts, params, strict=True)]

    def _write(self, prompt: list[int], params: SamplingParams) -> Any:
        assert len(prompt) + params.max_tokens <= self.max_model_len
        seen: list[Decoded] = []
        rules = Rules(
            Sampling(params.temperature, params.top_p, params.max_tokens, params.min_p),
            params.stop_token_ids[0],
            tuple(token for token, bias in params.logit_bias.items() if bias <= -100),
            lambda ids: any(stop in self.tokenizer.decode(ids) for stop in params.stop or []),
        )
        AloneDecoder(self.network, rules).decode([Request((params.seed,), tuple(prompt))], lambda _, text: seen.append(text))
        ended = seen[0].finish_reason == "stop" and not rules.is_ended(seen[0].token_ids)
        # vLLM's token ids hold the end token.
        token_ids = [*seen[0].token_ids, *([rules.eos_id] if ended else [])]
        return types.SimpleNamespace(outputs=[types.SimpleNamespace(token_ids=token_ids, finish_reason=seen[0].finish_reason)])


@pytest.fixture
def vllm(monkeypatch):
    module = types.ModuleType("vllm")
    module.LLM, module.SamplingParams = LLM, SamplingParams
    monkeypatch.setitem(sys.modules, "vllm", module)
    return module


# --- the contract -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def convert_once(tmp_path_factory):
    """OpenVINO's converter, which takes seconds, once for each set of ruled-out tokens of the one model that it gets here."""
    convert, folders = openvino_decoder._convert, dict[tuple[int, ...], Path]()

    def copy(model, rules, folder):
        if rules.suppressed_ids not in folders:
            folders[rules.suppressed_ids] = tmp_path_factory.mktemp("converted")
            convert(model, rules, folders[rules.suppressed_ids])
        shutil.copytree(folders[rules.suppressed_ids], folder, dirs_exist_ok=True)

    return copy


@pytest.fixture
def open_each(vllm, convert_once, byte_tokenizer, tmp_path, monkeypatch):
    """Opens the decoder of this name for the model `llama`."""
    monkeypatch.setattr("penname.generate.slots.ROWS", 16)
    monkeypatch.setattr(openvino_decoder, "_convert", convert_once)

    def open_one(name, model, rules, requests):
        longest = max(len(request.prompt) for request in requests) + rules.sampling.max_new_tokens
        if name == "vllm":
            return VllmDecoder.open(model, byte_tokenizer, rules, num_slots=2, longest=longest, scratch=tmp_path)
        if name == "openvino":
            return OpenvinoDecoder.open(model, rules, num_slots=3, longest=longest, scratch=tmp_path)
        decoder = SlotDecoder.open(model, rules, num_slots=3, longest=longest) if name == "penname" else AloneDecoder(model, rules)
        assert decoder is not None
        return decoder

    return open_one


def make_requests(byte_tokenizer):
    prompts = [f"Rating: {i % 5}\nTitle:{'!' * (i * 3 % 7)}" for i in range(11)]
    return [Request((7, i, 1), tuple(byte_tokenizer(prompt)["input_ids"])) for i, prompt in enumerate(prompts)]


def find_end(free, byte_tokenizer):
    """A letter that some of these texts hold in the middle, so that it can stand for an end mark."""
    letters = [byte_tokenizer.decode([token]) for text in free.values() for token in text.token_ids[3 : LIMIT // 2]]
    return next(letter for letter in letters if letter.isascii() and letter.isalnum())


def make_rules(byte_tokenizer, *, end="z"):
    return Rules(Sampling(1.0, 0.95, LIMIT), EOS, (0, 1), lambda ids: end in byte_tokenizer.decode(ids), end)


def write(decoder, requests):
    texts: dict[tuple[int, ...], Decoded] = {}

    def take(request, text):
        assert request.key not in texts
        texts[request.key] = text

    decoder.decode(requests, take, prefix=find_prefix([request.prompt for request in requests]))
    return texts


@pytest.mark.parametrize("name", ["penname", "alone", "vllm", OPENVINO])
def test_the_contract_of_a_decoder(name, open_each, byte_tokenizer):
    model, requests = make_model("llama"), make_requests(byte_tokenizer)
    end = find_end(write(open_each(name, model, make_rules(byte_tokenizer, end="\0"), requests), requests), byte_tokenizer)
    rules = make_rules(byte_tokenizer, end=end)
    decoder = open_each(name, model, rules, requests)
    texts = write(decoder, requests)
    assert set(texts) == {request.key for request in requests}
    for text in texts.values():
        assert text.finish_reason in {"stop", "length"}
        assert not {0, 1, EOS} & set(text.token_ids)
        written = byte_tokenizer.decode(text.token_ids)
        # The end mark stays in the text, and nothing comes after it.
        assert end not in written[:-1]
        assert text.finish_reason == "stop" or len(text.token_ids) == LIMIT
    assert {text.finish_reason for text in texts.values()} == {"stop", "length"}
    # The same again, in another order and fewer of them; other keys, other texts; no requests, no texts.
    prefix = find_prefix([request.prompt for request in requests])
    again: dict[tuple[int, ...], Decoded] = {}
    decoder.decode(requests[6:2:-1], lambda request, text: again.__setitem__(request.key, text), prefix=prefix)
    assert again == {request.key: texts[request.key] for request in requests[3:7]}
    others = write(decoder, [Request((8, *request.key[1:]), request.prompt) for request in requests])
    assert [text.token_ids for text in others.values()] != [texts[7, *key[1:]].token_ids for key in others]
    assert write(decoder, []) == {}


@pytest.mark.parametrize("is_ahead", [False, True])
@pytest.mark.parametrize("name", ["penname", "alone", "vllm", OPENVINO])
def test_what_is_asked_for_instead_is_drawn(name, is_ahead, open_each, byte_tokenizer):
    model, rules, requests = make_model("llama"), make_rules(byte_tokenizer), make_requests(byte_tokenizer)
    decoder = open_each(name, model, rules, requests)
    second = write(decoder, [Request((7, i, 2), request.prompt) for i, request in enumerate(requests)])
    texts: dict[tuple[int, ...], Decoded] = {}

    def next_draw(request):
        return Request((7, request.key[1], 2), request.prompt) if request.key[2] == 1 else None

    def take(request, text):
        assert request.key not in texts
        texts[request.key] = text
        return next_draw(request) if request.key[1] % 2 else None

    decoder.decode(requests, take, prefix=find_prefix([request.prompt for request in requests]), next_draw=next_draw if is_ahead else None)
    redrawn = {key: text for key, text in texts.items() if key[2] == 2}
    assert redrawn == {key: text for key, text in second.items() if key[1] % 2}
    assert len(texts) == 11 + 5


def compute_law(model, prompt, sampling, suppressed):
    """Probability of every token, in order of likelihood, by the words of the definition."""
    logits = model(input_ids=torch.tensor([prompt])).logits[0, -1].double()
    logits[list(suppressed)] = -torch.inf
    probs = (logits / sampling.temperature).softmax(0).numpy()
    nucleus, total = dict[int, float](), 0.0
    for token in np.argsort(-probs):
        if total >= sampling.top_p or probs[token] < sampling.min_p * probs.max():
            break
        nucleus[int(token)] = float(probs[token])
        total += probs[token]
    return {token: prob / sum(nucleus.values()) for token, prob in nucleus.items()}


def find_p_value(drawn, law):
    """p-value of counts under a law; 0 where something was drawn that it rules out."""
    if set(drawn) - set(law):
        return 0.0
    frequent = [token for token, prob in law.items() if prob * len(drawn) >= 5]
    counts = [drawn.count(token) for token in frequent]
    probs = [law[token] for token in frequent]
    rest = 1 - sum(probs)
    if rest * len(drawn) >= 5:
        counts, probs = [*counts, len(drawn) - sum(counts)], [*probs, rest]
    counts, probs = np.array(counts), np.array(probs)
    return float(chisquare(counts, probs / probs.sum() * counts.sum()).pvalue)


@pytest.mark.parametrize("sampling", [Sampling(0.7, 0.8, 1), Sampling(1.3, 1.0, 1, min_p=0.1)], ids=["nucleus", "min_p"])
@pytest.mark.parametrize("name", ["penname", "alone", OPENVINO])
def test_tokens_are_drawn_by_the_law_that_is_asked_for(name, sampling, open_each):
    model, prompt, suppressed = make_model("llama"), (40, 41, 42), (0, 1)
    likeliest = next(iter(compute_law(model, prompt, sampling, suppressed)))
    # The likeliest is ruled out, which moves the law most.
    suppressed = (*suppressed, likeliest)
    rules = Rules(sampling, EOS, suppressed)
    requests = [Request((5, i), prompt) for i in range(1500)]
    law = compute_law(model, prompt, sampling, suppressed)
    others = [Sampling(0.85 * sampling.temperature, sampling.top_p, 1, sampling.min_p), Sampling(sampling.temperature, 0.6, 1, 0.25)]
    # Neither by another temperature, nor another cut, nor with what was ruled out.
    wrong = [*(compute_law(model, prompt, other, suppressed) for other in others), compute_law(model, prompt, sampling, (0, 1))]
    # Opening may exchange what the model computes with.
    decoder = open_each(name, model, rules, requests)
    drawn: list[int] = []
    decoder.decode(requests, lambda _, text: drawn.append(text.token_ids[0] if text.token_ids else EOS))
    assert 5 < len(law) < 200
    assert find_p_value(drawn, law) > 1e-4
    assert all(find_p_value(drawn, other) < 1e-6 for other in wrong)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_gets_a_decoder_that_writes_what_it_would_write_alone(name, byte_tokenizer, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("penname.generate.slots.ROWS", 16)
    model, rules, requests = make_model(name), make_rules(byte_tokenizer), make_requests(byte_tokenizer)
    expected = write(AloneDecoder(model, rules), requests)
    config = GenerateConfig(max_new_tokens=LIMIT, batch_size=4)
    decoder = open_decoder(config, model, byte_tokenizer, rules, prompts=[request.prompt for request in requests], scratch=tmp_path)
    assert write(decoder, requests) == expected
    is_slow = name.startswith("gemma")
    assert isinstance(decoder, AloneDecoder if is_slow else SlotDecoder)
    assert ("one at a time" in capsys.readouterr().err) == is_slow


def test_vllm_gets_the_merged_model_a_seed_for_each_text_and_leaves_nothing_behind(vllm, byte_tokenizer, tmp_path):
    model, rules, requests = make_model("llama"), make_rules(byte_tokenizer), make_requests(byte_tokenizer)
    decoder = VllmDecoder.open(model, byte_tokenizer, rules, num_slots=2, longest=80, scratch=tmp_path)
    engine = decoder._engine
    assert (engine.dtype, engine.max_model_len, engine.max_num_seqs) == ("float32", 80, 2)
    seeds = [decoder._params(request).seed for request in requests]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    # The key as a whole: (1, 2, 3) is not (1, 23).
    assert decoder._params(Request((1, 2, 3), (5,))).seed != decoder._params(Request((1, 23), (5,))).seed
    write(decoder, requests)
    assert engine.calls == [8, 3]
    assert Path(engine.model).parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_a_vllm_that_cannot_start_is_one_line_and_leaves_nothing_behind(vllm, byte_tokenizer, tmp_path):
    def fail(**settings):
        raise RuntimeError("no GPU was found\nand a long story")

    vllm.LLM = fail
    with pytest.raises(ModelError, match=r"generate\.engine: vllm cannot start with this model \(no GPU was found\)") as caught:
        VllmDecoder.open(make_model("llama"), byte_tokenizer, make_rules(byte_tokenizer), num_slots=2, longest=80, scratch=tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_vllm_is_one_line(monkeypatch, byte_tokenizer, tmp_path):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ModelError, match=r"generate\.engine: vllm is not installed; install penname\[vllm\]"):
        VllmDecoder.open(make_model("llama"), byte_tokenizer, make_rules(byte_tokenizer), num_slots=2, longest=80, scratch=tmp_path)


@pytest.mark.parametrize(
    ("prompt", "limit", "message"),
    [(200, 100, r"generate\.max_new_tokens: a prompt of 200 tokens .* set at most 56"), (256, 4, r"records\.prompt_template: a prompt has 256 tokens")],
)
def test_a_prompt_that_does_not_fit_is_one_line(prompt, limit, message, byte_tokenizer, tmp_path):
    config = GenerateConfig(max_new_tokens=limit)
    with pytest.raises(ModelError, match=message) as caught:
        open_decoder(config, make_model("qwen3"), byte_tokenizer, make_rules(byte_tokenizer), prompts=[(5,) * prompt, (5,)], scratch=tmp_path)
    assert "\n" not in str(caught.value)
