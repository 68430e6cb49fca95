"""Packed rows: what goes where, which models can have them, and that nothing passes from one row to another."""

import pytest
import torch

from penname.model.packing import PackedRows, attend_within_rows, decode_rows, enable_packing
from penname.model.tokenize import TokenizedRecord
from tests.conftest import make_tiny_llama


def test_rows_lie_end_to_end_and_only_completion_tokens_are_predicted():
    rows = PackedRows.pack([TokenizedRecord([7, 8, 9, 10], 2), TokenizedRecord([5, 6], 1)], num_tokens=8, pad_id=0)
    assert rows.token_ids.tolist() == [[7, 8, 9, 10, 5, 6, 0, 0]]
    assert rows.position_ids.tolist() == [[0, 1, 2, 3, 0, 1, 0, 0]]
    positions, targets, counts = rows.predicting()
    assert (positions.tolist(), targets.tolist(), counts) == ([1, 2, 4], [9, 10, 6], [2, 1])


def test_a_record_alone_is_a_row_without_filling():
    rows = PackedRows.alone(TokenizedRecord([7, 8, 9], 1))
    assert (rows.token_ids.tolist(), rows.row_lengths, rows.is_alone) == ([[7, 8, 9]], (3,), True)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="do not fit"):
        PackedRows.pack([TokenizedRecord([1] * 9, 1)], num_tokens=8, pad_id=0)


def make_model(kind):
    from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM, Qwen3Config, Qwen3ForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 259}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "qwen3":
            return Qwen3ForCausalLM(Qwen3Config(**sizes, head_dim=8)).eval()
        if kind == "gpt2":
            return GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=128, vocab_size=259, attn_pdrop=0.0)).eval()
        if kind == "mistral with a window":
            return MistralForCausalLM(MistralConfig(**sizes, sliding_window=16)).eval()
    return make_tiny_llama()


@pytest.mark.parametrize(("kind", "can"), [("llama", True), ("qwen3", True), ("mistral with a window", False)])
def test_a_model_can_be_packed_or_is_left_as_it_was(kind, can):
    model, untouched = make_model(kind), make_model(kind)
    assert enable_packing(model, max_tokens=64) == can
    record = TokenizedRecord(list(range(3, 60)), 2)
    assert torch.allclose(
        decode_rows(getattr(model, model.base_model_prefix), PackedRows.alone(record)),
        decode_rows(getattr(untouched, untouched.base_model_prefix), PackedRows.alone(record)),
        atol=1e-5,
    )
    if not can:
        assert model.config._attn_implementation == untouched.config._attn_implementation


def test_gpt2_is_packed_only_if_its_numbers_are_right():
    """Whatever the library does with other architectures, the measurement decides."""
    model = make_model("gpt2")
    if enable_packing(model, max_tokens=64):
        records = [TokenizedRecord(list(range(3, 30)), 2), TokenizedRecord(list(range(40, 90)), 2)]
        packed = decode_rows(model.transformer, PackedRows.pack(records, num_tokens=90, pad_id=0))
        alone = torch.cat([decode_rows(model.transformer, PackedRows.alone(record)) for record in records])
        assert torch.allclose(packed[: len(alone)], alone, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_passes_between_rows(dtype, two_threads):
    model = make_tiny_llama().to(dtype)
    assert enable_packing(model, max_tokens=64)
    generator = torch.Generator().manual_seed(0)
    first, second, other = (TokenizedRecord(torch.randint(3, 259, (n,), generator=generator).tolist(), 2) for n in (21, 34, 34))
    states = [decode_rows(model.model, PackedRows.pack([a, b], num_tokens=64, pad_id=2)) for a, b in ((first, second), (first, other), (second, first))]
    assert torch.equal(states[0][:21], states[1][:21])
    assert torch.equal(states[0][:21], states[2][34:55])
    assert not torch.equal(states[0][21:55], states[1][21:55])


def test_attention_that_is_not_plain_is_refused():
    query = torch.zeros(1, 2, 4, 8)
    for strange in ({"softcap": 30.0}, {"sliding_window": 4}, {"dropout": 0.1}):
        with pytest.raises(ValueError, match="not plain causal"):
            attend_within_rows(torch.nn.Identity(), query, query, query, None, row_lengths=(4,), **strange)
    with pytest.raises(ValueError, match="not plain causal"):
        attend_within_rows(torch.nn.Identity(), query, query, query, torch.zeros(4, 4), row_lengths=(4,))
