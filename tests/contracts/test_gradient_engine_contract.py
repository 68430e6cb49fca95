"""One body over every gradient engine: each gives what the slow loop, one row at a time, gives."""

from __future__ import annotations

import pytest
import torch

from penname.config import ModelConfig
from penname.model.adapter import attach_adapter
from penname.model.loss import PaddedBatch, record_losses
from penname.model.tokenize import TokenizedRecord
from penname.privacy.errors import PrivacyError
from penname.privacy.gradients import GRADIENT_ENGINES, LoraEngine, trainable_parameters
from tests.conftest import make_tiny_llama

ENGINES = sorted(GRADIENT_ENGINES)


def make_records(lengths, *, prompt=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [TokenizedRecord(torch.randint(3, 259, (length,), generator=generator).tolist(), prompt) for length in lengths]


def make_adapted(*, tied=True, dtype=torch.float32):
    model = make_tiny_llama(tied=tied).to(dtype).requires_grad_(False)
    adapted = attach_adapter(model, ModelConfig(lora_rank=4), seed=1)
    generator = torch.Generator().manual_seed(2)
    for _, parameter in trainable_parameters(adapted):
        # B starts at zero, where half of the gradients vanish: move it.
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return adapted


def slow_gradients(model, records):
    rows = []
    for record in records:
        losses = record_losses(model, PaddedBatch.from_records([record], pad_id=2))
        grads = torch.autograd.grad(losses.sum(), [p for _, p in trainable_parameters(model)])
        rows.append(torch.cat([grad.reshape(-1) for grad in grads]))
    return torch.stack(rows)


def test_the_list_of_engines_is_not_empty():
    assert set(ENGINES) == {"lora", "opacus"}


@pytest.mark.parametrize("engine_name", ENGINES)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("lengths", [[9], [7, 12, 30, 4], [20, 20]])
def test_row_gradients_equal_the_slow_loop(engine_name, tied, lengths):
    model, records = make_adapted(tied=tied), make_records(lengths)
    expected = slow_gradients(model, records)
    engine = GRADIENT_ENGINES[engine_name](model)
    batch = PaddedBatch.from_records(records, pad_id=2)
    grads, losses = engine.row_gradients(lambda: record_losses(model, batch))
    assert grads.shape == (len(lengths), engine.num_params)
    assert grads.dtype == torch.float32
    torch.testing.assert_close(grads, expected, rtol=1e-4, atol=1e-6)
    assert losses.shape == (len(lengths),)


@pytest.mark.parametrize("engine_name", ENGINES)
def test_an_engine_can_be_used_again_and_leaves_nothing_behind(engine_name):
    model, untouched = make_adapted(), make_adapted()
    engine = GRADIENT_ENGINES[engine_name](model)
    for lengths in ([8, 9, 10], [11]):
        records = make_records(lengths, seed=len(lengths))
        batch = PaddedBatch.from_records(records, pad_id=2)
        grads, _ = engine.row_gradients(lambda batch=batch: record_losses(model, batch))
        torch.testing.assert_close(grads, slow_gradients(untouched, records), rtol=1e-4, atol=1e-6)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("engine_name", ENGINES)
def test_bf16_base_stays_near_float32(engine_name):
    records = make_records([14, 22])
    batch = PaddedBatch.from_records(records, pad_id=2)
    expected = slow_gradients(make_adapted(), records)
    model = make_adapted(dtype=torch.bfloat16)
    grads, _ = GRADIENT_ENGINES[engine_name](model).row_gradients(lambda: record_losses(model, batch))
    error = (grads - expected).norm(dim=1) / expected.norm(dim=1)
    assert float(error.max()) < 0.1


@pytest.mark.parametrize("engine_name", ENGINES)
def test_a_mean_over_the_batch_is_refused(engine_name):
    model = make_adapted()
    batch = PaddedBatch.from_records(make_records([8, 9]), pad_id=2)
    with pytest.raises(PrivacyError, match="one loss a row"):
        GRADIENT_ENGINES[engine_name](model).row_gradients(lambda: record_losses(model, batch).mean())


def test_lora_engine_refuses_parameters_it_cannot_bound():
    model = make_tiny_llama().requires_grad_(False)
    model.model.norm.weight.requires_grad_(True)
    with pytest.raises(PrivacyError, match="norm"):
        LoraEngine(model)
