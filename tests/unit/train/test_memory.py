"""Out of memory: smaller tiles, the same sum, and an end in one line where nothing smaller helps; and how large a tile is at first."""

import pytest
import torch

from penname.config import ModelConfig, TrainConfig
from penname.errors import ModelError
from penname.model.free_memory import ModelShape, estimate_training_memory
from penname.model.tokenize import TokenizedRecord
from penname.privacy.gradients import trainable_parameters
from penname.privacy.keystream import Keystream
from penname.privacy.mechanism import DpSgd
from penname.train import prepare
from penname.train.arms import PrivateArm
from penname.train.layout import Layout
from penname.train.loop import run_step
from penname.train.memory import TileFile, UnitSummer, choose_tile_tokens
from tests.conftest import charged, make_tiny_llama
from tests.unit.train.test_loop import CONFIG, UNITS, assert_equal, make_arm


class NarrowArm:
    """An arm on a machine that has memory for so many tokens at once; more end as torch's own allocator ends."""

    def __init__(self, arm, room):
        self._arm, self._room = arm, room
        self.num_asked = 0

    def __getattr__(self, name):
        return getattr(self._arm, name)

    def sum_batch(self, passes, num_units):
        self.num_asked += 1
        if sum(sum(row_pass.row_lengths) for row_pass in passes) > self._room:
            torch.empty(1 << 60, dtype=torch.uint8)
        return self._arm.sum_batch(passes, num_units)


def step_with(room, layout):
    model, arm = make_arm()
    optimizer = torch.optim.SGD([parameter for _, parameter in trainable_parameters(model)], lr=1.0)
    summer = UnitSummer(model, NarrowArm(arm, room) if room else arm, layout)
    row = run_step(model, UNITS, arm, CONFIG, optimizer, summer, step=0)
    return {name: parameter.detach() for name, parameter in trainable_parameters(model)}, {**row, "secs": None}, summer.layout


def test_a_step_that_runs_out_of_memory_goes_on_in_smaller_tiles_and_is_the_same_step(capsys):
    expected, row, _ = step_with(None, Layout(64, 2))
    weights, narrow_row, layout = step_with(64, Layout(512, 2))
    assert layout.tile_tokens < 512
    assert_equal(weights, step_with(None, layout)[0])
    for name, weight in weights.items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-4, atol=1e-6)
    assert narrow_row["num_units"] == row["num_units"] > 2
    assert "train: out of memory; goes on with train.physical_batch_tokens=256" in capsys.readouterr().err


def test_the_smaller_tile_stays():
    model, arm = make_arm()
    narrow = NarrowArm(arm, 64)
    summer = UnitSummer(model, narrow, Layout(256, 2))
    summer.sum(UNITS)
    narrow.num_asked = 0
    summer.sum(UNITS[:1])
    assert narrow.num_asked == 1


@pytest.mark.parametrize(("layout", "words"), [(Layout(256, 2), "physical_batch_tokens=64.*max_record_tokens"), (Layout(None, 2), "one record at a time")])
def test_where_nothing_smaller_helps_it_ends_in_one_line_that_names_the_setting(layout, words):
    model, arm = make_arm()
    with pytest.raises(ModelError, match=words):
        UnitSummer(model, NarrowArm(arm, 5), layout).sum(UNITS)


def test_a_smaller_tile_is_kept_at_once():
    model, arm = make_arm()
    kept = []
    UnitSummer(model, NarrowArm(arm, 64), Layout(512, 2), keep_tile=kept.append).sum(UNITS)
    assert kept == [256, 128, 64]


# --- the tile of a run ------------------------------------------------------------------------------------------------


def test_a_tile_is_read_back_by_the_same_run_and_by_no_other(tmp_path):
    file = TileFile(tmp_path / "checkpoint" / "tile.json", "a")
    assert file.read() is None
    file.write(256)
    file.write(128)
    assert (file.read(), TileFile(file.path, "b").read()) == (128, None)
    assert [path.name for path in file.path.parent.iterdir()] == ["tile.json"]


SHAPE = ModelShape(32, 4096, 14336, 32, 8, 128, 128256, has_own_head=True)


def choose(free_bytes, **train):
    config = TrainConfig(**train)
    return choose_tile_tokens(SHAPE, ModelConfig(top_layers=None), config, weight_bytes=2, is_fused=True, free_bytes=free_bytes)


def test_a_tile_is_as_large_as_half_of_the_free_memory_allows():
    found = [choose(tenths * 10**8) for tenths in range(200)]
    assert found == sorted(found)
    assert set(found) == {64, 128, 256, 512}
    need = estimate_training_memory(
        SHAPE, ModelConfig(top_layers=None), weight_bytes=2, tile_tokens=256, num_units=Layout(256, 0).max_units_a_batch, longest=224
    )
    beyond_weights = need.total - need.base_weights
    assert choose(2 * beyond_weights) == 256
    assert choose(2 * beyond_weights - 2) == 128


def test_with_less_to_keep_the_tile_is_larger():
    free = next(gigabytes * 10**8 for gigabytes in range(10, 200) if choose(gigabytes * 10**8) == 256)
    assert choose(free, gradient_checkpointing=True) == 512


@pytest.mark.parametrize(("given", "kept", "expected"), [(None, None, 128), (None, 64, 64), (96, None, 96), (96, 48, 48)])
def test_what_was_kept_wins_over_the_config_and_the_config_over_the_choice(monkeypatch, given, kept, expected):
    monkeypatch.setattr(prepare, "read_free_bytes", lambda device: 0)
    monkeypatch.setattr(prepare, "choose_tile_tokens", lambda *args, free_bytes, **more: 128)
    model = make_tiny_llama().requires_grad_(False)
    _, layout = prepare.prepare_model(model, ModelConfig(), TrainConfig(physical_batch_tokens=given), pad_id=2, tile_tokens=kept)
    assert layout.tile_tokens == expected


def test_records_that_the_model_cannot_read_are_one_line():
    model = make_tiny_llama().requires_grad_(False)
    with pytest.raises(ModelError, match=r"^train\.max_record_tokens: records of 513 tokens are longer than the 512 .* set at most 512$"):
        prepare.prepare_model(model, ModelConfig(), TrainConfig(max_record_tokens=513), pad_id=2)


@pytest.mark.parametrize("layout_name", ["packed", "alone"])
def test_a_step_that_computes_layers_again_is_the_same_step(layout_name):
    found = []
    for recomputes in (False, True):
        config = TrainConfig(layout=layout_name, gradient_checkpointing=recomputes, physical_batch_tokens=64)
        model, layout = prepare.prepare_model(make_tiny_llama().requires_grad_(False), ModelConfig(lora_rank=2), config, pad_id=2)
        mechanism = charged(DpSgd(0.7, 0.4, 6, 1.0, Keystream.from_seed(5)))
        arm = PrivateArm.build(model, mechanism, engine_name="lora")
        found.append(UnitSummer(model, arm, layout).sum(UNITS))
    assert torch.equal(found[0][0].value, found[1][0].value)
    assert torch.equal(found[0][1], found[1][1])


def test_another_error_is_no_lack_of_memory():
    model, arm = make_arm()
    wrong = PrivateArm(arm.mechanism, arm.engine, arm.num_params + 1)
    with pytest.raises(RuntimeError, match="size"):
        UnitSummer(model, wrong, Layout(256, 2)).sum(UNITS)


def test_trying_out_fills_a_tile_as_no_draw_can():
    model, arm = make_arm()
    seen = []

    class WatchedArm(NarrowArm):
        def sum_batch(self, passes, num_units):
            seen.append((sum(sum(row_pass.row_lengths) for row_pass in passes), num_units))
            return super().sum_batch(passes, num_units)

    summer = UnitSummer(model, WatchedArm(arm, 128), Layout(256, 2))
    summer.try_out()
    assert seen[0] == (256, 8)
    assert summer.layout.tile_tokens == 128
    short = [[TokenizedRecord([5] * 4, 2)] for _ in range(40)]
    assert max(map(len, Layout(256, 2).cut(short))) == 8
