"""The loss of a record: its own mean, whatever it is packed with, and the gradient of the full computation."""

import pytest
import torch
from torch.nn import functional

from penname.config import ModelConfig
from penname.model import loss as module
from penname.model.adapter import attach_adapter
from penname.model.loss import record_losses
from penname.model.packing import PackedRows, enable_packing
from penname.model.tokenize import TokenizedRecord
from penname.privacy.gradients import trainable_parameters
from tests.conftest import make_tiny_llama

M = 96


def make_records(lengths, *, prompt=3):
    generator = torch.Generator().manual_seed(5)
    return [TokenizedRecord(torch.randint(3, 259, (length,), generator=generator).tolist(), prompt) for length in lengths]


def pack(records, *, num_tokens=M, pad_id=2):
    return PackedRows.pack(records, num_tokens=num_tokens, pad_id=pad_id)


def slow_losses(tied, records):
    """One record at a time through the full logits of transformers, by a model whose attention is its own."""
    model = make_adapted(tied)
    losses = []
    for record in records:
        logits = model(input_ids=torch.tensor([record.token_ids])).logits[0].float()
        first = record.num_prompt_tokens
        losses.append(functional.cross_entropy(logits[first - 1 : -1], torch.tensor(record.token_ids[first:])))
    return torch.stack(losses), model


def make_adapted(tied, *, packs=False):
    base = make_tiny_llama(tied=tied).requires_grad_(False)
    if packs:
        assert enable_packing(base, max_tokens=64)
    model = attach_adapter(base, ModelConfig(lora_rank=2), seed=0)
    for _, parameter in trainable_parameters(model):
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return model


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def tied(request):
    return request.param


def gradient(model, losses):
    return torch.cat([grad.reshape(-1) for grad in torch.autograd.grad(losses.sum(), [p for _, p in trainable_parameters(model)])])


def test_losses_equal_a_plain_cross_entropy_a_record(tied):
    records = make_records([5, 31, 4, 17])
    expected, _ = slow_losses(tied, records)
    torch.testing.assert_close(record_losses(make_adapted(tied, packs=True), pack(records)), expected, rtol=1e-5, atol=1e-6)


def test_a_record_alone_needs_no_attention_of_ours(tied):
    records = make_records([5, 31])
    expected, model = slow_losses(tied, records)
    alone = torch.cat([record_losses(model, PackedRows.alone(record)) for record in records])
    torch.testing.assert_close(alone, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 7, 512])
def test_gradient_equals_autograd_through_full_logits(tied, monkeypatch, chunk):
    monkeypatch.setattr(module, "_CHUNK_TOKENS", chunk)
    records, model = make_records([6, 19, 11]), make_adapted(tied, packs=True)
    ours = gradient(model, record_losses(model, pack(records)))
    losses, slow = slow_losses(tied, records)
    torch.testing.assert_close(ours, gradient(slow, losses), rtol=1e-4, atol=1e-6)
    assert float(ours.norm()) > 0


def test_weighted_losses_get_weighted_gradients(tied):
    records, weights, model = make_records([6, 12]), torch.tensor([0.25, 3.0]), make_adapted(tied, packs=True)
    losses, slow = slow_losses(tied, records)
    torch.testing.assert_close(gradient(model, record_losses(model, pack(records)) * weights), gradient(slow, losses * weights), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("pad_id", [0, 2, 200])
def test_mates_place_and_filling_change_no_bit(tied, pad_id):
    model = make_adapted(tied, packs=True)
    one, *mates = make_records([23, 40, 7, 19])
    alone = record_losses(model, pack([one]))[0]
    for batch in ([one, mates[0]], [mates[0], one], [mates[1], mates[2], one, mates[0]]):
        assert torch.equal(record_losses(model, pack(batch, pad_id=pad_id))[batch.index(one)], alone)


def test_a_frozen_model_gives_losses_without_a_graph():
    losses = record_losses(make_tiny_llama().requires_grad_(False), PackedRows.alone(make_records([9])[0]))
    assert not losses.requires_grad
    assert losses.dtype == torch.float32
