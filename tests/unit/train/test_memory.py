"""Out of memory: smaller tiles, the same sum; and an end in one line where nothing smaller helps."""

import pytest
import torch

from penname.errors import ModelError
from penname.model.tokenize import TokenizedRecord
from penname.privacy.gradients import trainable_parameters
from penname.train.arms import PrivateArm
from penname.train.layout import Layout
from penname.train.loop import run_step
from penname.train.memory import UnitSummer
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
