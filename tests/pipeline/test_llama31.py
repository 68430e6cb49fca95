"""configs/amazon_llama31_8b.yaml on a random model of Llama 3.1's architecture, its sizes made small: scaled rotation, grouped heads, its vocabulary."""

from pathlib import Path

import pytest
import torch

from penname.config import ModelConfig, TrainConfig, load_config
from penname.generate.decode import Request, Rules, find_prefix
from penname.generate.nucleus import Sampling
from penname.generate.slots import SlotDecoder
from penname.ingest.sample_data import METADATA_FILE, REVIEWS_FILE, write_sample_data
from penname.model.adapter import attach_adapter
from penname.model.base import load_base_model
from penname.model.tokenize import TokenizedRecord
from penname.plan.known_models import KNOWN_MODELS
from penname.privacy.gradients import LoraEngine, trainable_parameters
from penname.run_dir import read_json, read_rows
from penname.train.prepare import prepare_model
from tests.conftest import make_tiny_llama, save_letter_model

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "amazon_llama31_8b.yaml"
VOCABULARY = 128_256


def make_llama31():
    """What meta-llama/Llama-3.1-8B is but for its width and depth."""
    rotation = {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    return make_tiny_llama(
        seed=5,
        tied=False,
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=224,
        num_hidden_layers=3,
        num_attention_heads=8,
        max_position_embeddings=131_072,
        rope_parameters=rotation,
        rms_norm_eps=1e-5,
    )


@pytest.fixture(scope="module")
def llama31(tmp_path_factory):
    model = make_llama31()
    return save_letter_model(model.bfloat16(), tmp_path_factory.mktemp("llama31"))


def test_it_has_the_proportions_of_the_real_one():
    config, real = make_llama31().config, KNOWN_MODELS["llama-3.1-8b"]
    assert config.vocab_size == real.vocabulary == VOCABULARY
    assert config.num_attention_heads // config.num_key_value_heads == real.num_heads // real.num_key_heads
    assert config.intermediate_size * real.hidden == real.intermediate * config.hidden_size
    assert real.has_own_head
    assert not config.tie_word_embeddings
    # The rotation is really another one than without scaling.
    plain = 500_000.0 ** -(torch.arange(0, 8, 2) / 8)
    assert not torch.allclose(make_llama31().model.rotary_emb.inv_freq, plain)


def make_adapted(folder, dtype, quantization, *, prepared):
    config = ModelConfig(name=str(folder), dtype=dtype, quantization=quantization, device="cpu", top_layers=None, lora_rank=4)
    base, tokenizer = load_base_model(config, trains=prepared)
    model, layout = attach_adapter(base, config, seed=1), None
    if prepared:
        base, _ = load_base_model(config, trains=True)
        model, layout = prepare_model(base, config, TrainConfig(max_record_tokens=64), pad_id=tokenizer.eos_token_id)
    generator = torch.Generator().manual_seed(2)
    for _, parameter in trainable_parameters(model):
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)
    return model.train(), layout


def own_gradient(model, record):
    """By transformers and autograd alone: the mean cross-entropy over the completion."""
    tokens = torch.tensor([record.token_ids])
    logits = model(input_ids=tokens).logits[0, record.num_prompt_tokens - 1 : -1].float()
    loss = torch.nn.functional.cross_entropy(logits, tokens[0, record.num_prompt_tokens :])
    return torch.cat([grad.flatten() for grad in torch.autograd.grad(loss, [parameter for _, parameter in trainable_parameters(model)])])


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("bfloat16", 0.05)])
@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_gradients_are_those_of_the_model_itself(llama31, dtype, quantization, tolerance):
    """With nf4 the other model has the same values unpacked."""
    model, layout = make_adapted(llama31, dtype, quantization, prepared=True)
    plain, _ = make_adapted(llama31, dtype, quantization, prepared=False)
    assert layout.tile_tokens is not None
    units = [[TokenizedRecord(list(range(3 + place, 3 + place + size)), 4)] for place, size in enumerate((9, 30, 17))]
    grads, _ = LoraEngine(model).unit_gradients(layout.lay_out(model, units), len(units))
    for unit, grad in zip(units, grads, strict=True):
        expected = own_gradient(plain, unit[0])
        assert (grad - expected).norm() <= tolerance * expected.norm()


def test_texts_are_written_in_slots(llama31, monkeypatch):
    monkeypatch.setattr("penname.generate.slots.ROWS", 16)
    model, tokenizer = load_base_model(ModelConfig(name=str(llama31), dtype="bfloat16", device="cpu"))
    rules = Rules(Sampling(1.0, 0.9, 12), tokenizer.eos_token_id)
    requests = [Request((1, i), tuple(tokenizer(f"Rating: {i}{'!' * i}")["input_ids"])) for i in range(5)]
    texts = []
    for num_slots in (1, 4):
        decoder = SlotDecoder.open(model, rules, num_slots=num_slots, longest=40)
        assert decoder is not None
        texts.append({})
        decoder.decode(requests, lambda request, text, found=texts[-1]: found.__setitem__(request.key, text), prefix=find_prefix([r.prompt for r in requests]))
    assert texts[0] == texts[1]
    assert len(texts[0]) == 5


@pytest.mark.slow
@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_the_run_of_the_config_ends_and_verifies(penname, llama31, tmp_path, quantization):
    data = tmp_path / "data"
    write_sample_data(data, num_reviews=250, seed=4)
    # Smaller, and on the processor; all else is the config's: its dropout, its rank, its layers, its promise, the form of its data.
    settings = [
        f"data.reviews={data / REVIEWS_FILE}", f"data.catalogue={data / METADATA_FILE}", "records.keep_frac=1", f"model.name={llama31}", "model.device=cpu",
        f"model.quantization={quantization}",
        r'records.prompt_template="{product_title}\n{category} {rating}:"', 'records.completion_template=" {title}|{text}"', "train.expected_batch_size=6",
        "train.num_steps=2", "train.learning_rate=1e-6", "generate.num_records=6", "generate.max_new_tokens=40", "generate.max_draws_per_record=40",
        "generate.redraw_faults=[]",
        "evaluate.num_bootstrap=20", "evaluate.max_records=30", "evaluate.metrics=[well_formed_frac, jensen_shannon_divergence]",
    ]  # fmt: skip
    root = tmp_path / "run"
    penname.succeed("run", CONFIG, *settings, "--out", root)
    assert "VERIFIED" in penname.succeed("verify", root).stdout
    certificate = read_json(root / "release/certificate.json")
    assert certificate["privacy_unit"] == "user"
    assert certificate["epsilon_spent"] <= load_config(CONFIG).privacy.target_epsilon == 8
    assert len(list(read_rows(root / "release/generated_sequences_with_dp.jsonl"))) == 6
