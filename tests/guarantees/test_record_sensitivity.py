"""With our loss one record or one user moves a step's sum by at most the bound; with the loss of transformers it does not hold."""

import pytest
import torch

from penname.config import ModelConfig, TrainConfig
from penname.model.adapter import attach_adapter
from penname.model.loss import record_losses
from penname.model.packing import PackedRows, enable_packing
from penname.model.tokenize import TokenizedRecord
from penname.privacy.clipping import clip_and_sum
from penname.privacy.gradients import trainable_parameters
from penname.privacy.keystream import Keystream
from penname.privacy.mechanism import DpSgd
from penname.train.arms import PrivateArm
from penname.train.layout import Layout, sum_units
from penname.train.loop import run_step
from penname.train.memory import UnitSummer
from tests.conftest import charged, make_four_bit_llama, make_tiny_llama

PAD = 2
BOUND = 0.5
SMALL_TILES, LARGE_TILES, ALONE = Layout(40, PAD), Layout(4096, PAD), Layout(None, PAD)
# Engine and layout: opacus takes one record at a time.
WAYS = [("lora", SMALL_TILES), ("lora", LARGE_TILES), ("lora", ALONE), ("opacus", ALONE)]


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def make_record(length, seed):
    generator = torch.Generator().manual_seed(seed)
    return TokenizedRecord(torch.randint(3, 259, (length,), generator=generator).tolist(), 3)


def make_model(*, dropout=0.0, packs=True, precision="fp32"):
    base = make_four_bit_llama() if precision == "nf4" else make_tiny_llama().to(DTYPES[precision]).requires_grad_(False)
    if packs:
        assert enable_packing(base, max_tokens=200)
    model = attach_adapter(base, ModelConfig(lora_rank=2, lora_dropout=dropout), seed=1)
    generator = torch.Generator().manual_seed(2)
    for _, parameter in trainable_parameters(model):
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


def make_arm(model, engine_name="lora"):
    return PrivateArm.build(model, charged(DpSgd(1.0, 1.0, 1, BOUND, Keystream.from_seed(1))), engine_name=engine_name)


def batch_mean_gradients(model, records):
    """What hooks see when the loss is the mean over the batch's tokens: each record's share of it, times the number of records."""
    num_tokens = sum(record.num_completion_tokens for record in records)
    rows = []
    for record in records:
        loss = record_losses(model, PackedRows.alone(record)).sum() * record.num_completion_tokens / num_tokens
        grads = torch.autograd.grad(loss * len(records), [parameter for _, parameter in trainable_parameters(model)])
        rows.append(torch.cat([grad.reshape(-1) for grad in grads]))
    return torch.stack(rows)


def test_the_shares_of_the_batch_mean_are_those_of_transformers():
    """What `batch_mean_gradients` stands for is what the library computes from a padded batch with labels."""
    model, records = make_model(packs=False), [make_record(12, 1), make_record(30, 2)]
    token_ids = torch.full((2, 30), PAD)
    labels = torch.full((2, 30), -100)
    for row, record in enumerate(records):
        ids = torch.tensor(record.token_ids)
        token_ids[row, : len(ids)] = ids
        labels[row, record.num_prompt_tokens : len(ids)] = ids[record.num_prompt_tokens :]
    losses = torch.cat([record_losses(model, PackedRows.alone(record)) for record in records])
    counts = torch.tensor([record.num_completion_tokens for record in records])
    torch.testing.assert_close(model(input_ids=token_ids, labels=labels).loss, (losses * counts).sum() / counts.sum(), rtol=1e-4, atol=1e-5)


def test_one_long_record_among_short_ones():
    model = make_model()
    short, long = [make_record(6, seed) for seed in range(31)], make_record(195, 99)
    ours = [sum_units(model, [[record] for record in records], make_arm(model), LARGE_TILES)[0].value for records in ([*short, long], short)]
    assert float((ours[0] - ours[1]).norm()) <= BOUND
    # Short of the bound, so that rescaling is not hidden by clipping.
    norms = batch_mean_gradients(model, short).norm(dim=1)
    bound = float(norms.median())
    theirs = [clip_and_sum(batch_mean_gradients(model, records), l2_clip_norm=bound).value for records in ([*short, long], short)]
    assert float((theirs[0] - theirs[1]).norm()) > 1.5 * bound


@pytest.mark.parametrize(("engine_name", "layout"), WAYS)
@pytest.mark.parametrize("precision", [*DTYPES, "nf4"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_one_user_moves_a_whole_step_by_at_most_the_bound(engine_name, layout, precision, dropout, monkeypatch, two_threads):
    """Everybody drawn, noise off: what is left of a step is its clipped sum."""
    users = [[make_record(8 + 3 * (i % 4), 10 * i + j) for j in range(1 + i % 3)] for i in range(6)]
    if dropout:
        # The masks follow the batch, so with dropout only the unit alone is comparable: nothing may be longer than the bound.
        users = users[:1]
    monkeypatch.setattr("penname.privacy.mechanism.draw_gaussian", lambda *args, size, **kwargs: torch.zeros(size).double().numpy())
    sums = []
    monkeypatch.setattr(DpSgd, "release", lambda self, step, total: sums.append(total.value) or total.value.float())

    def take_step(units):
        model = make_model(dropout=dropout, precision=precision, packs=layout.tile_tokens is not None)
        model.train()
        parameters = [parameter for _, parameter in trainable_parameters(model)]
        before = torch.cat([parameter.detach().reshape(-1).clone() for parameter in parameters])
        arm = make_arm(model, engine_name)
        row = run_step(model, units, arm, TrainConfig(expected_batch_size=1), torch.optim.SGD(parameters, lr=1.0), UnitSummer(model, arm, layout), step=0)
        assert row["num_units"] == len([unit for unit in units if unit])
        moved = before - torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
        # What the optimizer got is the sum, up to the rounding of the weights.
        torch.testing.assert_close(moved.double(), sums[-1], rtol=1e-3, atol=1e-5)
        return sums[-1]

    whole = take_step(users)
    for left_out in range(len(users)):
        moved = float((whole - take_step([unit for i, unit in enumerate(users) if i != left_out])).norm())
        assert 0 < moved <= BOUND


def test_dropout_masks_come_from_the_key_and_not_from_the_config():
    """A known seed would let one unit's presence shift the masks of the others beyond what noise covers."""
    users = [[make_record(10, i)] for i in range(2)]

    def take_step(*, key, seed):
        model = make_model(dropout=0.5)
        model.train()
        arm = PrivateArm.build(model, charged(DpSgd(1.0, 1.0, 1, BOUND, Keystream.from_seed(key))), engine_name="lora")
        optimizer = torch.optim.SGD([parameter for _, parameter in trainable_parameters(model)], lr=1.0)
        return run_step(model, users, arm, TrainConfig(expected_batch_size=1, seed=seed), optimizer, UnitSummer(model, arm, SMALL_TILES), step=0)["loss"]

    assert take_step(key=1, seed=1) == take_step(key=1, seed=2)
    assert take_step(key=1, seed=1) != take_step(key=2, seed=1)
