"""The loss of a record: its own mean, whatever else is in the batch, and the gradient of the full computation."""

import pytest
import torch
from torch.nn import functional

from penname.config import ModelConfig
from penname.model import loss as module
from penname.model.adapter import attach_adapter
from penname.model.loss import PaddedBatch, record_losses
from penname.model.tokenize import TokenizedRecord
from penname.privacy.gradients import trainable_parameters
from tests.conftest import make_tiny_llama


def make_records(lengths, *, prompt=3):
    generator = torch.Generator().manual_seed(5)
    return [TokenizedRecord(torch.randint(3, 259, (length,), generator=generator).tolist(), prompt) for length in lengths]


def slow_losses(model, records):
    """One record at a time through the full logits of transformers."""
    losses = []
    for record in records:
        logits = model(input_ids=torch.tensor([record.token_ids])).logits[0].float()
        first = record.num_prompt_tokens
        losses.append(functional.cross_entropy(logits[first - 1 : -1], torch.tensor(record.token_ids[first:])))
    return torch.stack(losses)


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def adapted(request):
    model = attach_adapter(make_tiny_llama(tied=request.param).requires_grad_(False), ModelConfig(lora_rank=2), seed=0)
    for _, parameter in trainable_parameters(model):
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return model


def gradient(model, losses):
    return torch.cat([grad.reshape(-1) for grad in torch.autograd.grad(losses.sum(), [p for _, p in trainable_parameters(model)])])


def test_losses_equal_a_plain_cross_entropy_a_record(adapted):
    records = make_records([5, 31, 4, 17])
    torch.testing.assert_close(record_losses(adapted, PaddedBatch.from_records(records, pad_id=2)), slow_losses(adapted, records), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 7, 512])
def test_gradient_equals_autograd_through_full_logits(adapted, monkeypatch, chunk):
    monkeypatch.setattr(module, "_CHUNK_TOKENS", chunk)
    records = make_records([6, 19, 11])
    ours = gradient(adapted, record_losses(adapted, PaddedBatch.from_records(records, pad_id=2)))
    torch.testing.assert_close(ours, gradient(adapted, slow_losses(adapted, records)), rtol=1e-4, atol=1e-6)
    assert float(ours.norm()) > 0


def test_weighted_losses_get_weighted_gradients(adapted):
    records, weights = make_records([6, 12]), torch.tensor([0.25, 3.0])
    ours = gradient(adapted, record_losses(adapted, PaddedBatch.from_records(records, pad_id=2)) * weights)
    torch.testing.assert_close(ours, gradient(adapted, slow_losses(adapted, records) * weights), rtol=1e-4, atol=1e-6)


def test_padding_and_its_token_change_nothing(adapted):
    short, long = make_records([6, 40])
    alone = record_losses(adapted, PaddedBatch.from_records([short], pad_id=2))[0]
    for pad_id in (0, 2, 200):
        torch.testing.assert_close(record_losses(adapted, PaddedBatch.from_records([short, long], pad_id=pad_id))[0], alone, rtol=1e-6, atol=1e-6)


def test_only_completion_tokens_count():
    batch = PaddedBatch.from_records([TokenizedRecord([7, 8, 9, 10], 2), TokenizedRecord([7, 8], 1)], pad_id=0)
    assert batch.token_ids.tolist() == [[7, 8, 9, 10], [7, 8, 0, 0]]
    assert batch.predicts.tolist() == [[False, True, True, False], [True, False, False, False]]


def test_a_frozen_model_gives_losses_without_a_graph():
    losses = record_losses(make_tiny_llama().requires_grad_(False), PaddedBatch.from_records(make_records([9]), pad_id=2))
    assert not losses.requires_grad
    assert losses.dtype == torch.float32
