"""Fixtures that several test folders use: a two-layer random Llama and a byte-level tokenizer, made here, no download."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from penname.model.device import settle_products

# One thread for a worker, and for a process that it starts: on two cores, the threads of two workers spin while they wait for each other, and that takes as
# long as all else. Set here, before anything imports torch. What is about threads sets their number itself (`two_threads`), and those sleep while they wait.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1", OMP_WAIT_POLICY="passive")
# As every process of the program does before its first product; here it must be before any test's.
settle_products()

CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make_byte_tokenizer():
    """One token a byte, and the three chat tokens of SmolLM2."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {symbol: i for i, symbol in enumerate(["<unk>", "<|im_start|>", "<|im_end|>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>")
    fast.chat_template = CHAT_TEMPLATE
    return fast


def make_tiny_llama(*, seed: int = 0, tied: bool = True, **changes):
    """Two layers, 32 wide, random weights; `changes` are those of its LlamaConfig."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {
        "vocab_size": 259,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
    }
    config = LlamaConfig(**{**sizes, "tie_word_embeddings": tied, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, **changes})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).float().eval()


def make_four_bit_llama(*, dtype=None, **changes):
    """`make_tiny_llama` with its frozen linear layers in four bits, as a run trains on them."""
    import tempfile

    import torch

    from penname.config import ModelConfig
    from penname.model.base import load_base_model

    with tempfile.TemporaryDirectory() as folder:
        make_tiny_llama(**changes).save_pretrained(folder)
        make_byte_tokenizer().save_pretrained(folder)
        name = "bfloat16" if dtype == torch.bfloat16 else "float32"
        return load_base_model(ModelConfig(name=folder, dtype=name, device="cpu", quantization="nf4"), trains=True)[0]


def charged(mechanism):
    """The mechanism with a receipt for its own event, as a ledger gives it."""
    from penname.privacy.ledger import Receipt

    return replace(mechanism, receipt=Receipt("test", mechanism.event, mechanism.keystream.commitment))


@pytest.fixture
def two_threads():
    """For tests of what must not depend on how a matrix product is shared out among threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def byte_tokenizer():
    return make_byte_tokenizer()


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder that the real program can load."""
    folder = tmp_path_factory.mktemp("tiny_llama")
    make_tiny_llama().save_pretrained(folder)
    make_byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def letter_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama whose texts parse without any training."""
    return save_letter_model(make_tiny_llama(tied=False), tmp_path_factory.mktemp("letter_llama"))


def save_letter_model(model, folder: Path) -> Path:
    """Makes an untied Llama write letters about as often as English does, and `|` often."""
    import torch

    frequent = {" ": 18, "e": 10, "t": 7, "a": 7, "o": 6, "n": 6, "s": 5, "r": 5, "i": 5, "h": 4, "d": 3, "l": 3, "u": 2, ".": 2, "|": 6}
    tokenizer, (vocab_size, width) = make_byte_tokenizer(), model.lm_head.weight.shape
    # All other tokens together as often as one letter in a few hundred.
    logits = torch.full((vocab_size,), math.log(0.259 / vocab_size))
    for letter, weight in frequent.items():
        logits[tokenizer(letter)["input_ids"][0]] = math.log(weight)
    logits[tokenizer.eos_token_id] = math.log(1.0)
    with torch.no_grad():
        # A constant in the first channel of every token survives the norms; the head reads the letter's logit from it.
        model.model.embed_tokens.weight[:, 0] = 0.5
        # What the context adds: more of it in a wider model.
        model.lm_head.weight[:, 1:] *= 15 * (32 / width) ** 2
        model.lm_head.weight[:, 0] = logits / math.sqrt(width)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
