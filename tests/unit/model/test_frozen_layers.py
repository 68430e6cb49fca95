"""What the frozen layers make of a record: the same bits kept or computed again, on disk and not in memory, for models that can be cut."""

import pytest
import torch

from penname.config import ModelConfig
from penname.model import frozen_layers
from penname.model.adapter import attach_adapter
from penname.model.frozen_layers import keep_frozen_layers
from penname.model.fused_layer import fuse_layers
from penname.model.packing import enable_packing
from penname.model.tokenize import TokenizedRecord
from penname.privacy.errors import SelfCheckError
from penname.privacy.gradients import LoraEngine, trainable_parameters
from penname.privacy.keystream import Keystream
from penname.privacy.mechanism import DpSgd
from penname.train.arms import PrivateArm
from penname.train.layout import Layout
from penname.train.train import run_self_checks
from tests.conftest import make_tiny_llama
from tests.unit.model.test_packing import make_model

UNITS = [[TokenizedRecord([(5 * i + n) % 250 + 3 for i in range(n)], 2)] for n in (9, 14, 30, 3, 21)]
RECORDS = [unit[0] for unit in UNITS]
TILE = 32


def make_adapted(dtype=torch.float32, *, top_layers=1, fuses=True):
    base = make_tiny_llama().to(dtype).requires_grad_(False)
    assert enable_packing(base, max_tokens=TILE)
    model = attach_adapter(base, ModelConfig(lora_rank=3, top_layers=top_layers), seed=1)
    generator = torch.Generator().manual_seed(2)
    for _, parameter in trainable_parameters(model):
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    assert not fuses or fuse_layers(model) == 2
    return model


def keep(model, folder):
    frozen = keep_frozen_layers(model, folder, tile_tokens=TILE, pad_id=0)
    assert frozen is not None
    assert frozen.num_layers == 1
    return frozen


def gradients(model, units, frozen):
    layout, engine, rows = Layout(TILE, 0), LoraEngine(model), {}
    if frozen is not None:
        frozen.compute([record for unit in units for record in unit])
    for batch in layout.cut(units):
        grads, losses = engine.unit_gradients(layout.lay_out(model, batch, frozen), len(batch))
        rows |= {id(unit): (row, loss) for unit, row, loss in zip(batch, grads.clone(), losses, strict=True)}
    return rows


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("fuses", [True, False])
def test_gradients_from_kept_states_are_the_same_bits(tmp_path, dtype, fuses):
    model = make_adapted(dtype, fuses=fuses)
    frozen = keep(model, tmp_path)
    expected = gradients(model, UNITS, None)
    # Some are kept from before, computed beside others; one is drawn for the first time.
    frozen.compute([RECORDS[3], RECORDS[1]])
    for key, (row, loss) in gradients(model, UNITS, frozen).items():
        assert torch.equal(row, expected[key][0])
        assert torch.equal(loss, expected[key][1])


def test_a_kept_record_is_not_computed_again(tmp_path, monkeypatch):
    frozen = keep(make_adapted(), tmp_path)
    frozen.compute(RECORDS)
    first = frozen.read(RECORDS)
    monkeypatch.setattr(frozen_layers, "decode_rows", lambda *args: pytest.fail("computed again"))
    frozen.compute(RECORDS[::-1])
    assert torch.equal(frozen.read(RECORDS), first)
    assert len(first) == sum(len(record.token_ids) for record in RECORDS)


def test_what_is_forgotten_is_computed_anew(tmp_path, monkeypatch):
    frozen = keep(make_adapted(), tmp_path)
    frozen.compute(RECORDS)
    first = frozen.read(RECORDS)
    frozen.forget()
    passes = []
    decode_rows = frozen_layers.decode_rows
    monkeypatch.setattr(frozen_layers, "decode_rows", lambda decoder, rows: passes.append(rows) or decode_rows(decoder, rows))
    frozen.compute(RECORDS)
    assert passes
    assert torch.equal(frozen.read(RECORDS), first)


def test_a_record_longer_than_a_tile_is_kept_too(tmp_path):
    frozen = keep(make_adapted(), tmp_path)
    long = TokenizedRecord(list(range(3, 80)), 2)
    frozen.compute([long, *RECORDS])
    assert frozen.read([long]).shape == (77, 32)


def test_the_file_has_no_name_and_leaves_nothing(tmp_path):
    frozen = keep(make_adapted(), tmp_path)
    frozen.compute(RECORDS)
    assert list(tmp_path.iterdir()) == []


def test_without_a_frozen_layer_there_is_nothing_to_keep(tmp_path):
    assert keep_frozen_layers(make_adapted(top_layers=None), tmp_path, tile_tokens=TILE, pad_id=0) is None


def test_a_model_that_cannot_be_cut_is_left_whole(tmp_path, monkeypatch):
    base = make_model("gpt2").requires_grad_(False)
    base.transformer.h[1].attn.c_attn.weight.requires_grad_(True)
    assert keep_frozen_layers(base, tmp_path, tile_tokens=TILE, pad_id=0) is None
    # A decoder that does something to the embeddings before its first layer would do it twice.
    model = make_adapted()
    decoder = model.get_base_model().model
    original = type(decoder).forward
    monkeypatch.setattr(
        type(decoder),
        "forward",
        lambda self, input_ids=None, inputs_embeds=None, **more: original(
            self, inputs_embeds=2 * (self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds), **more
        ),
    )
    assert keep_frozen_layers(model, tmp_path, tile_tokens=TILE, pad_id=0) is None


def test_something_trainable_outside_of_the_layers_is_noticed(tmp_path):
    model = make_adapted()
    model.get_base_model().model.embed_tokens.weight.requires_grad_(True)
    assert keep_frozen_layers(model, tmp_path, tile_tokens=TILE, pad_id=0) is None


def test_the_self_check_sees_what_batch_mates_do_in_the_frozen_layers(tmp_path, monkeypatch):
    model, config = make_adapted(), ModelConfig(lora_rank=3, top_layers=1)
    frozen = keep(model, tmp_path)
    mechanism = DpSgd(0.7, 0.4, 6, 1.0, Keystream.from_seed(5))
    arm = PrivateArm.build(model, mechanism, engine_name="lora")
    run_self_checks(model, UNITS, arm, Layout(TILE, 0), config, frozen)
    decode_rows = frozen_layers.decode_rows
    monkeypatch.setattr(frozen_layers, "decode_rows", lambda decoder, rows: decode_rows(decoder, rows) + 0.01 * len(rows.row_lengths))
    with pytest.raises(SelfCheckError, match="batch_mates"):
        run_self_checks(model, UNITS, arm, Layout(TILE, 0), config, frozen)
