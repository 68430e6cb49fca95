"""One body over every gradient engine: each gives a unit what the slow loop, one record at a time, gives it."""

from __future__ import annotations

import itertools

import pytest
import torch

from penname.config import ModelConfig
from penname.model.adapter import attach_adapter
from penname.model.fused_layer import fuse_layers
from penname.model.loss import record_losses
from penname.model.packing import PackedRows, enable_packing
from penname.model.recompute import recompute_layers
from penname.model.tokenize import TokenizedRecord
from penname.privacy.errors import PrivacyError
from penname.privacy.gradients import GRADIENT_ENGINES, LoraEngine, RowPass, SummedEngine, trainable_parameters
from penname.train.layout import Layout
from tests.conftest import make_four_bit_llama, make_tiny_llama

# Which engine can have which layout: opacus knows rows by the batch axis and takes one at a time.
# "again": with gradient checkpointing.
WAYS = [
    (engine, layout + again) for again in ("", " again") for engine, layout in (("lora", "fused"), ("lora", "packed"), ("lora", "alone"), ("opacus", "alone"))
]
WITH_DROPOUT = [way for way in WAYS if not way[1].startswith("fused")]
TILE = 64
UNITS = {
    "one record": [[9]],
    "one record each": [[7], [12], [30], [4]],
    "several records": [[7, 12], [30], [5, 5, 6], [20, 41, 12]],
    "larger than a tile": [[40, 40], [8]],
}


def make_units(lengths, *, prompt=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [[TokenizedRecord(torch.randint(3, 259, (n,), generator=generator).tolist(), prompt) for n in unit] for unit in lengths]


def make_adapted(*, tied=True, dtype=torch.float32, dropout=0.0, layout_name="alone", freeze_a=False, quantized=False):
    base = make_four_bit_llama(tied=tied, dtype=dtype) if quantized else make_tiny_llama(tied=tied).to(dtype).requires_grad_(False)
    layout_name, _, again = layout_name.partition(" ")
    if layout_name != "alone":
        assert enable_packing(base, max_tokens=64)
    adapted = attach_adapter(base, ModelConfig(lora_rank=4, lora_dropout=dropout, freeze_lora_a=freeze_a), seed=1)
    generator = torch.Generator().manual_seed(2)
    for _, parameter in trainable_parameters(adapted):
        # B starts at zero, where half of the gradients vanish: move it.
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    if layout_name == "fused":
        assert fuse_layers(adapted) == base.config.num_hidden_layers
    if again:
        recompute_layers(adapted)
    return adapted.train()


def make_layout(name):
    return Layout(None if name.startswith("alone") else TILE, pad_id=2)


def flat_gradient(model, loss, **options):
    grads = torch.autograd.grad(loss, [p for _, p in trainable_parameters(model)], **options)
    return torch.cat([grad.reshape(-1) for grad in grads])


def slow_gradients(model, units):
    """The oracle: every record by itself through autograd, and the mean over a unit's records."""
    losses = [[record_losses(model, PackedRows.alone(record)).sum() for record in unit] for unit in units]
    return torch.stack([torch.stack([flat_gradient(model, loss) for loss in unit]).mean(0) for unit in losses])


def engine_gradients(engine, model, units, layout):
    grads, losses = [], []
    for batch in layout.cut(units):
        part, part_losses = engine.unit_gradients(layout.lay_out(model, batch), len(batch))
        grads.extend((next(i for i, unit in enumerate(units) if unit is owner), row) for owner, row in zip(batch, part.clone(), strict=True))
        losses.append(part_losses)
    return torch.stack([row for _, row in sorted(grads, key=lambda pair: pair[0])]), torch.cat(losses)


def test_every_engine_is_here():
    assert {engine for engine, _ in WAYS} == set(GRADIENT_ENGINES)


@pytest.mark.parametrize(("engine_name", "layout_name"), WAYS)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("freeze_a", [False, True], ids=["A and B", "B alone"])
@pytest.mark.parametrize("lengths", UNITS.values(), ids=UNITS.keys())
def test_unit_gradients_equal_the_slow_loop(engine_name, layout_name, tied, freeze_a, lengths):
    units = make_units(lengths)
    expected = slow_gradients(make_adapted(tied=tied, freeze_a=freeze_a), units)
    model = make_adapted(tied=tied, freeze_a=freeze_a, layout_name=layout_name)
    engine = GRADIENT_ENGINES[engine_name](model)
    grads, losses = engine_gradients(engine, model, units, make_layout(layout_name))
    assert grads.shape == (len(units), engine.num_params)
    assert grads.dtype == torch.float32
    torch.testing.assert_close(grads, expected, rtol=1e-4, atol=1e-6)
    assert losses.shape == (sum(map(len, lengths)),)


@pytest.mark.parametrize(("engine_name", "layout_name"), WITH_DROPOUT)
@pytest.mark.parametrize("lengths", UNITS.values(), ids=UNITS.keys())
def test_on_frozen_weights_in_four_bits_too(engine_name, layout_name, lengths):
    units = make_units(lengths)
    expected = slow_gradients(make_adapted(quantized=True), units)
    model = make_adapted(quantized=True, layout_name=layout_name)
    grads, _ = engine_gradients(GRADIENT_ENGINES[engine_name](model), model, units, make_layout(layout_name))
    torch.testing.assert_close(grads, expected, rtol=1e-4, atol=1e-6)
    # They are another model's than those of the whole weights.
    whole = slow_gradients(make_adapted(), units)
    assert float((grads - whole).norm() / whole.norm()) > 0.01


def test_layers_in_four_bits_are_not_fused():
    assert fuse_layers(make_adapted(quantized=True, layout_name="packed")) == 0


@pytest.mark.parametrize(("engine_name", "layout_name"), WITH_DROPOUT)
def test_with_dropout_it_is_the_gradient_under_the_same_masks(engine_name, layout_name):
    """Masks follow the place in a pass, so the oracle is autograd through the very same pass, one loss at a time."""
    units, layout = make_units(UNITS["several records"]), make_layout(layout_name)
    model = make_adapted(dropout=0.4, layout_name=layout_name)
    plain = make_adapted(dropout=0.4, layout_name=layout_name)
    torch.manual_seed(11)
    grads, _ = engine_gradients(GRADIENT_ENGINES[engine_name](model), model, units, layout)
    torch.manual_seed(11)
    expected = {}
    for batch in layout.cut(units):
        sums = torch.zeros(len(batch), grads.shape[1])
        for row_pass in layout.lay_out(plain, batch):
            losses = row_pass.compute_losses()
            for loss, unit in zip(losses, row_pass.row_units, strict=True):
                sums[unit] += flat_gradient(plain, loss, retain_graph=True) / len(batch[unit])
        expected |= {id(unit): row for unit, row in zip(batch, sums, strict=True)}
    torch.testing.assert_close(grads, torch.stack([expected[id(unit)] for unit in units]), rtol=1e-4, atol=1e-6)
    without = slow_gradients(make_adapted(), units)
    assert float((grads - without).norm() / without.norm()) > 0.1


@pytest.mark.parametrize(
    ("engine_name", "layout_name", "quantized"),
    [*((*way, False) for way in WAYS), *((*way, True) for way in WITH_DROPOUT)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_a_units_gradient_is_the_same_bits_whatever_its_batch_mates(engine_name, layout_name, quantized, dtype, two_threads):
    units = make_units([[23], [40], [7, 19], [11], [64], [5], [33, 9]])
    model, layout = make_adapted(dtype=dtype, layout_name=layout_name, quantized=quantized), make_layout(layout_name)
    engine = GRADIENT_ENGINES[engine_name](model)
    alone = [engine_gradients(engine, model, [unit], layout)[0][0] for unit in units]
    for order in ([0, 1, 2, 3, 4, 5, 6], [6, 3, 0], [2, 0], [5, 4, 3, 2, 1, 0]):
        grads, _ = engine_gradients(engine, model, [units[i] for i in order], layout)
        for place, unit in enumerate(order):
            assert torch.equal(grads[place], alone[unit]), f"unit {unit} among {order}"


@pytest.mark.parametrize(("engine_name", "layout_name"), WAYS)
def test_an_engine_can_be_used_again_and_leaves_nothing_behind(engine_name, layout_name):
    model, untouched = make_adapted(layout_name=layout_name), make_adapted()
    engine = GRADIENT_ENGINES[engine_name](model)
    for lengths in ([[8], [9], [10]], [[11, 4]]):
        units = make_units(lengths, seed=len(lengths))
        grads, _ = engine_gradients(engine, model, units, make_layout(layout_name))
        torch.testing.assert_close(grads, slow_gradients(untouched, units), rtol=1e-4, atol=1e-6)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules() if isinstance(module, torch.nn.Linear) and module.weight.requires_grad) or (
        engine_name == "opacus"
    )


@pytest.mark.parametrize(("engine_name", "layout_name"), WAYS)
def test_bf16_base_stays_near_float32(engine_name, layout_name):
    units = make_units([[14], [22, 9]])
    expected = slow_gradients(make_adapted(), units)
    model = make_adapted(dtype=torch.bfloat16, layout_name=layout_name)
    grads, _ = engine_gradients(GRADIENT_ENGINES[engine_name](model), model, units, make_layout(layout_name))
    error = (grads - expected).norm(dim=1) / expected.norm(dim=1)
    assert float(error.max()) < 0.1


@pytest.mark.parametrize("layout_name", ["fused", "packed", "alone"])
def test_the_arm_without_dp_gets_the_sum_of_the_same_gradients(layout_name):
    units, layout = make_units(UNITS["several records"]), make_layout(layout_name)
    expected = slow_gradients(make_adapted(), units).sum(0)
    model = make_adapted(layout_name=layout_name)
    engine = SummedEngine(model)
    parts = [engine.summed_gradient(layout.lay_out(model, batch), len(batch))[0] for batch in layout.cut(units)]
    torch.testing.assert_close(torch.stack(parts).sum(0), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("engine_name", "layout_name"), WAYS)
def test_a_mean_over_the_batch_is_refused(engine_name, layout_name):
    model = make_adapted(layout_name=layout_name)
    records = make_units([[8, 9]])[0]
    rows = PackedRows.alone(records[0]) if layout_name.startswith("alone") else PackedRows.pack(records, num_tokens=TILE, pad_id=2)
    row_pass = RowPass(lambda: record_losses(model, rows).mean(), rows.row_lengths, range(len(rows.row_lengths)))
    with pytest.raises(PrivacyError, match="one loss a row"):
        GRADIENT_ENGINES[engine_name](model).unit_gradients([row_pass], len(rows.row_lengths))


@pytest.mark.parametrize("engine_name", sorted(GRADIENT_ENGINES))
def test_a_layer_that_the_loss_does_not_reach_is_refused(engine_name):
    """An adapter that gets no gradient would train on noise alone while epsilon is reported."""
    model = torch.nn.ModuleDict({name: torch.nn.Linear(3, 3, bias=False) for name in ("used", "forgotten")})
    row_pass = RowPass(lambda: model["used"](torch.ones(1, 4, 3)).sum()[None], [4], [0])
    with pytest.raises(PrivacyError, match="did not reach"):
        GRADIENT_ENGINES[engine_name](model).unit_gradients([row_pass], 1)


def test_lora_engine_refuses_parameters_it_cannot_bound():
    model = make_tiny_llama().requires_grad_(False)
    model.model.norm.weight.requires_grad_(True)
    with pytest.raises(PrivacyError, match="norm"):
        LoraEngine(model)


def test_lora_engine_refuses_rows_that_the_layers_do_not_have():
    layer = torch.nn.Linear(2, 2, bias=False)
    row_pass = RowPass(lambda: layer(torch.ones(1, 3, 2)).sum()[None], [4], [0])
    with pytest.raises(PrivacyError, match="did not reach an adapted layer"):
        LoraEngine(layer).unit_gradients([row_pass], 1)


def test_the_ways_cover_every_layout():
    assert {layout for _, layout in WAYS} == {layout + again for layout in ("fused", "packed", "alone") for again in ("", " again")}
    assert len(set(itertools.chain(WAYS))) == len(WAYS)
