"""With our loss one record or one user moves a step's sum by at most the bound; with the loss of transformers it does not hold."""

import pytest
import torch
from torch.nn import functional

from penname.config import ModelConfig, TrainConfig
from penname.model.adapter import attach_adapter
from penname.model.loss import PaddedBatch, record_losses
from penname.model.tokenize import TokenizedRecord
from penname.privacy.clipping import clip_and_sum
from penname.privacy.gradients import trainable_parameters
from penname.privacy.keystream import Keystream
from penname.privacy.mechanism import DpSgd
from penname.train.arms import PrivateArm
from penname.train.loop import run_step, sum_physical_batch
from tests.conftest import make_tiny_llama

PAD = 2
BOUND = 0.5


def make_record(length, seed):
    generator = torch.Generator().manual_seed(seed)
    return TokenizedRecord(torch.randint(3, 259, (length,), generator=generator).tolist(), 3)


def make_model(*, dropout=0.0):
    model = attach_adapter(make_tiny_llama().requires_grad_(False), ModelConfig(lora_rank=2, lora_dropout=dropout), seed=1)
    generator = torch.Generator().manual_seed(2)
    for _, parameter in trainable_parameters(model):
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


def batch_mean_gradients(model, records):
    """What hooks see when the loss is the mean over the batch's tokens: each record's share of it, times the number of records."""
    num_tokens = sum(record.num_completion_tokens for record in records)
    rows = []
    for record in records:
        loss = record_losses(model, PaddedBatch.from_records([record], pad_id=PAD)).sum() * record.num_completion_tokens / num_tokens
        grads = torch.autograd.grad(loss * len(records), [parameter for _, parameter in trainable_parameters(model)])
        rows.append(torch.cat([grad.reshape(-1) for grad in grads]))
    return torch.stack(rows)


def test_the_shares_of_the_batch_mean_are_those_of_transformers():
    model, records = make_model(), [make_record(12, 1), make_record(30, 2)]
    batch = PaddedBatch.from_records(records, pad_id=PAD)
    labels = torch.where(functional.pad(batch.predicts, (1, 0))[:, :-1], batch.token_ids, -100)
    losses = record_losses(model, batch)
    counts = batch.predicts.sum(1)
    torch.testing.assert_close(model(input_ids=batch.token_ids, labels=labels).loss, (losses * counts).sum() / counts.sum(), rtol=1e-4, atol=1e-5)


def test_one_long_record_among_short_ones():
    model = make_model()
    short, long = [make_record(6, seed) for seed in range(31)], make_record(195, 99)
    arm = PrivateArm.build(model, DpSgd(1.0, 1.0, 1, BOUND, Keystream.from_seed(1)), engine_name="lora")
    ours = [sum_physical_batch(model, [[record] for record in records], arm, pad_id=PAD)[0].value for records in ([*short, long], short)]
    assert float((ours[0] - ours[1]).norm()) <= BOUND * (1 + 1e-4)
    # Short of the bound, so that rescaling is not hidden by clipping.
    norms = batch_mean_gradients(model, short).norm(dim=1)
    bound = float(norms.median())
    theirs = [clip_and_sum(batch_mean_gradients(model, records), l2_clip_norm=bound).value for records in ([*short, long], short)]
    assert float((theirs[0] - theirs[1]).norm()) > 1.5 * bound


@pytest.mark.parametrize("engine_name", ["lora", "opacus"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("physical_batch_tokens", [40, 4096])
def test_one_user_moves_a_whole_step_by_at_most_the_bound(engine_name, dropout, physical_batch_tokens, monkeypatch):
    """Everybody drawn, noise off: what is left of a step is its clipped sum."""
    users = [[make_record(8 + 3 * (i % 4), 10 * i + j) for j in range(1 + i % 3)] for i in range(6)]
    if dropout:
        # The masks follow the batch, so with dropout only the unit alone is comparable: nothing may be longer than the bound.
        users = users[:1]
    monkeypatch.setattr("penname.privacy.mechanism.draw_gaussian", lambda *args, size, **kwargs: torch.zeros(size).double().numpy())
    config = TrainConfig(expected_batch_size=1, physical_batch_tokens=physical_batch_tokens)

    def take_step(units):
        model = make_model(dropout=dropout)
        model.train()
        arm = PrivateArm.build(model, DpSgd(1.0, 1.0, 1, BOUND, Keystream.from_seed(1)), engine_name=engine_name)
        parameters = [parameter for _, parameter in trainable_parameters(model)]
        before = torch.cat([parameter.detach().reshape(-1).clone() for parameter in parameters])
        row = run_step(model, units, arm, config, torch.optim.SGD(parameters, lr=1.0), step=0, pad_id=PAD)
        assert row["num_units"] == len([unit for unit in units if unit])
        return before - torch.cat([parameter.detach().reshape(-1) for parameter in parameters])

    whole = take_step(users)
    for left_out in range(len(users)):
        moved = float((whole - take_step([unit for i, unit in enumerate(users) if i != left_out])).norm())
        assert moved <= BOUND * (1 + 1e-3)
        assert moved > 0


def test_dropout_masks_come_from_the_key_and_not_from_the_config():
    """A known seed would let one unit's presence shift the masks of the others beyond what noise covers."""
    users = [[make_record(10, i)] for i in range(2)]

    def take_step(*, key, seed):
        model = make_model(dropout=0.5)
        model.train()
        arm = PrivateArm.build(model, DpSgd(1.0, 1.0, 1, BOUND, Keystream.from_seed(key)), engine_name="lora")
        optimizer = torch.optim.SGD([parameter for _, parameter in trainable_parameters(model)], lr=1.0)
        return run_step(model, users, arm, TrainConfig(expected_batch_size=1, seed=seed), optimizer, step=0, pad_id=PAD)["loss"]

    assert take_step(key=1, seed=1) == take_step(key=1, seed=2)
    assert take_step(key=1, seed=1) != take_step(key=2, seed=1)
