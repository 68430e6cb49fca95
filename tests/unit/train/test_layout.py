"""Where records go: every unit once, whole, in tiles of one size; and the layout that a model can have."""

import math

import pytest
import torch

from penname.config import ModelConfig, TrainConfig
from penname.errors import ModelError
from penname.model.adapter import attach_adapter
from penname.model.frozen_layers import keep_frozen_layers
from penname.model.fused_layer import fuse_layers
from penname.model.packing import enable_packing
from penname.model.recompute import recompute_layers
from penname.model.tokenize import TokenizedRecord
from penname.privacy.keystream import Keystream
from penname.privacy.mechanism import DpSgd, NonPrivateSum
from penname.train.arms import NonPrivateArm, PrivateArm
from penname.train.layout import Layout, choose_layout, count_tokens, sum_units
from penname.train.prepare import prepare_model
from tests.conftest import charged, make_tiny_llama


def make_units(*lengths):
    return [[TokenizedRecord([5] * n, 2) for n in unit] for unit in lengths]


def make_many(num, *, least=4, most=40):
    generator = torch.Generator().manual_seed(0)
    return make_units(*([int(torch.randint(least, most, (1,), generator=generator)) for _ in range(1 + i % 3)] for i in range(num)))


@pytest.mark.parametrize("tile_tokens", [8, 64, 200, 10_000, None])
def test_every_unit_is_in_one_batch_and_a_batch_fits_its_tile(tile_tokens):
    units, layout = make_many(50), Layout(tile_tokens, 0)
    batches = layout.cut(units)
    assert sorted(id(unit) for batch in batches for unit in batch) == sorted(map(id, units))
    for batch in batches:
        assert len(batch) == 1 or (tile_tokens is not None and sum(map(count_tokens, batch)) <= tile_tokens)


def test_tiles_are_filled_well():
    """Of records of ordinary lengths, prompt included, no more is wasted than the rest of the last tile."""
    units = make_many(400, least=20, most=80)
    assert len(Layout(512, 0).cut(units)) == math.ceil(sum(map(count_tokens, units)) / 512)


def test_a_tile_takes_those_that_fill_it_best():
    """The longest first, each into the first tile with room, would need three."""
    assert len(Layout(512, 0).cut(make_units([200], [200], [160], [160], [150], [150]))) == 2


def test_a_tile_has_no_more_units_than_their_gradients_may_take():
    batches = Layout(512, 0).cut(make_units(*([2] for _ in range(100))))
    assert [len(batch) for batch in batches] == [16] * 6 + [4]


def test_all_passes_have_the_size_of_the_tile_or_of_their_own_unit_alone():
    layout = Layout(64, 0)
    sizes = []
    for batch in layout.cut(make_units([30], [20, 10], [50, 50], [5])):
        (row_pass,) = layout.lay_out(None, batch)
        sizes.append((len(batch), sum(row_pass.row_lengths)))
    # 100 tokens of one unit need two tiles; nobody else moves in, though there is room.
    assert sizes == [(1, 100), (2, 60), (1, 5)]


def test_records_alone_have_a_pass_each_and_keep_their_unit():
    passes = Layout(None, 0).lay_out(None, make_units([3, 4], [5]))
    assert [(row_pass.row_lengths, row_pass.row_units) for row_pass in passes] == [((3,), [0]), ((4,), [0]), ((5,), [1])]


def test_no_units_make_no_batch():
    assert Layout(10, 0).cut([]) == Layout(None, 0).cut([]) == []


def choose(**settings):
    return choose_layout(make_tiny_llama(), TrainConfig(**settings), pad_id=7)


def test_the_layout_follows_model_engine_and_wish():
    assert choose(physical_batch_tokens=99) == Layout(99, 7)
    assert choose(layout="packed", physical_batch_tokens=99) == Layout(99, 7)
    assert choose(layout="alone") == choose(gradients="opacus") == Layout(None, 7)
    with pytest.raises(ModelError, match=r"train\.layout.*opacus takes one record at a time"):
        choose(layout="packed", gradients="opacus")


def test_a_model_that_cannot_be_packed_is_computed_alone_or_refused(monkeypatch):
    monkeypatch.setattr("penname.train.layout.enable_packing", lambda model, *, max_tokens: False)
    assert choose() == Layout(None, 7)
    with pytest.raises(ModelError, match=r"train\.layout: this model does not"):
        choose(layout="packed")


# --- where tensors are made -------------------------------------------------------------------------------------------


def build_arm(kind, model):
    keystream = Keystream.from_seed(5)
    if kind == "with_dp":
        return PrivateArm.build(model, charged(DpSgd(0.7, 0.4, 6, 1.0, keystream)), engine_name="lora")
    return NonPrivateArm.build(model, NonPrivateSum(0.4, 6, keystream))


@pytest.mark.parametrize("kind", ["with_dp", "no_dp"])
@pytest.mark.parametrize("layout_name", ["packed", "alone"])
@pytest.mark.parametrize("recomputes", [False, True])
def test_every_tensor_is_made_where_the_model_is(tmp_path, kind, layout_name, recomputes):
    """No CUDA here: the model is on the processor, and a tensor whose maker names no device falls where it can meet no other."""
    config = TrainConfig(layout=layout_name, physical_batch_tokens=64, gradient_checkpointing=recomputes, max_record_tokens=40)
    base = make_tiny_llama().requires_grad_(False)
    expected_model, layout = prepare_model(make_tiny_llama().requires_grad_(False), ModelConfig(lora_rank=2, top_layers=1), config, pad_id=7)
    units = make_units([9, 12], [30], [5, 5, 8], [40])
    expected = sum_units(expected_model, units, build_arm(kind, expected_model), layout)
    adapted = attach_adapter(base, ModelConfig(lora_rank=2, top_layers=1), seed=config.seed)
    with torch.device("meta"):
        assert layout_name == "alone" or (enable_packing(base, max_tokens=40) and fuse_layers(adapted) == 2)
        frozen = keep_frozen_layers(adapted, tmp_path, tile_tokens=64, pad_id=7) if layout_name == "packed" else None
        if recomputes:
            recompute_layers(adapted)
        arm = build_arm(kind, adapted)
        total, losses = sum_units(adapted, units, arm, layout, frozen)
        update = arm.mechanism.release(0, total)
    assert (frozen is None) == (layout_name == "alone")
    assert {total.value.device.type, losses.device.type, update.device.type} == {"cpu"}
    assert torch.equal(total.value, expected[0].value)
    assert torch.equal(losses, expected[1])
