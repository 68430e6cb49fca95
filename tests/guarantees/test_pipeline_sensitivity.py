"""One unit less in the raw data, noise off, the same draws: every step's sum moves by at most the clip norm, through the whole pipeline.

Every run here is the real one, `run_stages` on a file of reviews. Three things are taken from it. The noise: there are zeros in its place, and the
self-checks, which would find that out, are left out. Chance: whether a unit is drawn in a step is decided by a hash of its name, so that units keep
their draws when others come and go; and the noisy count of units, a release of its own, is a constant. The path: each step of the second run begins
with the weights that the first run had there.
"""

import functools
import json
import random
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from penname.config import Config
from penname.ingest import duplicates
from penname.pipeline import run_stages
from penname.privacy import marginals, mechanism
from penname.privacy.accounting import calibrate_noise
from penname.privacy.clipping import BoundedSum, clip_and_sum
from penname.privacy.mechanism import DpSgd, GaussianRelease
from penname.privacy.selfcheck import CheckResult
from penname.privacy.unit import keyed_fraction
from penname.run_dir import read_rows
from penname.train import layout, train

CLIP_NORM = 0.05
NUM_STEPS = 5
EXPECTED_BATCH_SIZE, NOISY_NUM_UNITS = 8, 20
# Of a float64 sum of some tens of vectors that are no longer than the clip norm, relative to it.
SUMMATION_ERROR = 1e-12
WORDS = ("charger", "hums", "case", "yellows", "after", "weeks", "screen", "cracked", "fast", "cheap", "sturdy", "loose", "cable", "broke", "fits", "well")


def make_rows():
    """Reviews of 18 users in 8 households, one to fourteen a user. `copycat` wrote what `user-13` wrote; a row of `user-5` is there twice."""
    generator = random.Random(4)

    def write(user, household):
        title, body = (" ".join(generator.choices(WORDS, k=num)) for num in (2, generator.randint(2, 9)))
        return {"user": user, "household": household, "stars": generator.randint(1, 5), "head": title, "body": body, "kind": generator.choice("AB")}

    rows = [write(f"user-{i}", f"household-{i // 2}") for i in range(16) for _ in range(generator.randint(1, 4))]
    rows += [write("hoarder", f"household-{generator.randrange(8)}") for _ in range(14)]
    rows += [{**row, "user": "copycat"} for row in rows if row["user"] == "user-13"]
    rows.append(next(row for row in rows if row["user"] == "user-5"))
    generator.shuffle(rows)
    return rows


ROWS = make_rows()


@dataclass(frozen=True)
class Step:
    """What a run was about to add noise to, in one step."""

    drawn: frozenset[str]
    total: BoundedSum
    update: torch.Tensor
    """(P,) what came out of `release`, noise off."""


@dataclass(frozen=True)
class Run:
    """What a run leaves."""

    train_units: frozenset[str]
    test_units: frozenset[str]
    steps: tuple[Step, ...]


def train_on(rows, settings, folder, *, path=None, only=None):
    """Runs ingest, records and train on `rows`, along the path of another run where one is given; draws no other units than `only` where given."""
    folder.mkdir()
    (folder / "reviews.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sections = {**settings, "data": {**settings["data"], "reviews": str(folder / "reviews.jsonl")}}
    steps: list[Step] = []
    drawn: list[list[str]] = []
    release = DpSgd.release

    def read_units(split):
        return list(dict.fromkeys(row["unit_id"] for row in read_rows(folder / f"run/1_records/{split}.jsonl")))

    def draw_by_name(keystream, *, step, num_units, sampling_prob):
        names = read_units("train")
        assert len(names) == num_units
        is_drawn = [keyed_fraction(0, f"step {step}", name) < sampling_prob and (only is None or name in only) for name in names]
        drawn.append([name for name, is_in in zip(names, is_drawn, strict=True) if is_in])
        return np.flatnonzero(is_drawn)

    def watch(self, step, total):
        assert (step, self.sampling_prob) == (len(steps), EXPECTED_BATCH_SIZE / NOISY_NUM_UNITS)
        assert total.l2_sensitivity == settings["privacy"]["l2_clip_norm"]
        update = release(self, step, total)
        assert torch.equal(update, total.value.float()), "something other than noise is added"
        steps.append(Step(frozenset(drawn[step]), total, update))
        return path[step].update if path else update

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mechanism, "draw_poisson_units", draw_by_name)
        patch.setattr(mechanism, "draw_gaussian", lambda *args, size, **more: np.zeros(size))
        patch.setattr(GaussianRelease, "release", lambda self, value: np.full_like(value, NOISY_NUM_UNITS))
        patch.setattr(DpSgd, "release", watch)
        for module in (mechanism, marginals):
            patch.setattr(module, "calibrate_noise", remember_noise())
        patch.setattr(train, "run_self_checks", lambda *args, **more: [])
        patch.setattr(train, "check_adapters_moved", lambda *args: CheckResult("adapters_moved", True, "left out"))
        run_stages(Config.model_validate(sections), folder / "run", ("ingest", "records", "train"))
    assert len(steps) == NUM_STEPS
    return Run(frozenset(read_units("train")), frozenset(read_units("test")), tuple(steps))


@functools.cache
def remember_noise():
    """`calibrate_noise`, which keeps its answers: each is sought once, however often a run on the same promise asks."""
    known = {}

    def ask(make_events, **more):
        key = json.dumps([make_events(1.0), more])
        if key not in known:
            known[key] = calibrate_noise(make_events, **more)
        return known[key]

    return ask


def check_neighbours(whole, less, *, gone, rounding=0.0):
    """The claim: without `gone` (one unit, or none) a step that draws it moves by at most the clip norm, and any other by `rounding` times that."""
    assert whole.train_units - less.train_units == gone, "another unit went with it"
    assert less.train_units <= whole.train_units, "a unit came in its place"
    for number, (before, after) in enumerate(zip(whole.steps, less.steps, strict=True)):
        assert after.drawn == before.drawn - gone
        assert after.total.num_units == len(after.drawn)
        bound, moved = before.total.l2_sensitivity, float((before.total.value - after.total.value).norm())
        if before.drawn & gone:
            assert 0 < moved <= bound, f"step {number} moves by {moved:.17g}, more than the clip norm"
        else:
            assert moved <= bound * rounding, f"step {number} moves by {moved:.3g} and does not draw the unit"


def check_own_part(whole, less, alone):
    """Stronger: what went is what the unit adds when it is drawn alone; all others add the same bits with it and without."""
    for before, after, own in zip(whole.steps, less.steps, alone.steps, strict=True):
        error = float((before.total.value - after.total.value - own.total.value).norm())
        assert error <= own.total.l2_sensitivity * SUMMATION_ERROR, f"the other units' part changes by {error:.3g}"


# --- users ------------------------------------------------------------------------------------------------------------


def make_settings(model_dir, *, l2_clip_norm=CLIP_NORM, unit="user", dtype="float32", gradients="lora", physical_batch_tokens=512, with_user_ids=True, **more):
    columns = {"rating": "stars", "title": "head", "text": "body", "category": "kind"} | ({"user_id": "user"} if with_user_ids else {})
    return {
        "data": {"format": "table", "columns": columns, "categories": ["A", "B"]},
        "records": {
            "prompt_template": "{category} {rating}:",
            "completion_template": " {title}|{text}",
            "heldout_frac": 0,
            "test_frac": 0.1,
            "max_records_per_user": 3,
            "seed": 23,
        },
        "model": {"name": str(model_dir), "dtype": dtype, "lora_rank": 2},
        "privacy": {
            "unit": unit,
            "unit_column": "household" if unit == "column" else None,
            "target_epsilon": 0.2,
            "l2_clip_norm": l2_clip_norm,
            "noise_seed": 3,
        },
        "train": {
            "arms": ["with_dp"],
            "expected_batch_size": EXPECTED_BATCH_SIZE,
            "num_steps": NUM_STEPS,
            "learning_rate": 1e-2,
            "max_record_tokens": 64,
            "gradients": gradients,
            "physical_batch_tokens": physical_batch_tokens,
            **more,
        },
    }


def without(unit):
    return [row for row in ROWS if unit not in (row["user"], row["household"])]


def without_row(number):
    return [row for i, row in enumerate(ROWS) if i != number]


def find_rows(user):
    return [i for i, row in enumerate(ROWS) if row["user"] == user]


CASES = {
    "float32, lora, large batches": {"physical_batch_tokens": 2048},
    "float32, lora, small batches": {"physical_batch_tokens": 80},
    "bfloat16, lora, large batches": {"dtype": "bfloat16", "physical_batch_tokens": 2048},
    "bfloat16, lora, small batches": {"dtype": "bfloat16", "physical_batch_tokens": 80},
    "bfloat16, lora, records alone": {"dtype": "bfloat16", "layout": "alone"},
    "float32, opacus": {"gradients": "opacus"},
    "bfloat16, opacus": {"dtype": "bfloat16", "gradients": "opacus"},
}
# The most reviews; those of another; those that another has too; one review twice.
USERS = {"bfloat16, lora, small batches": ["hoarder", "copycat", "user-13", "user-5"]}


@pytest.mark.parametrize("case", CASES)
def test_one_user_less(case, tiny_model_dir, tmp_path):
    settings = make_settings(tiny_model_dir, **CASES[case])
    whole = train_on(ROWS, settings, tmp_path / "whole")
    assert all(step.total.num_clipped > len(step.drawn) / 2 for step in whole.steps), "the bound must bind"
    for user in USERS.get(case, ["hoarder"]):
        assert 0 < sum(user in step.drawn for step in whole.steps) < NUM_STEPS
        less = train_on(without(user), settings, tmp_path / user, path=whole.steps)
        check_neighbours(whole, less, gone={user})
        check_own_part(whole, less, train_on(ROWS, settings, tmp_path / f"{user} alone", path=whole.steps, only={user}))


def test_a_user_of_another_split_moves_nothing(tiny_model_dir, tmp_path):
    settings = make_settings(tiny_model_dir)
    whole = train_on(ROWS, settings, tmp_path / "whole")
    less = train_on(without(min(whole.test_units)), settings, tmp_path / "less", path=whole.steps)
    assert less.test_units < whole.test_units
    check_neighbours(whole, less, gone=set())


# --- records, and values of a column ----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["float32, lora, small batches", "bfloat16, lora, large batches"])
def test_one_record_less(case, tiny_model_dir, tmp_path):
    settings = make_settings(tiny_model_dir, unit="record", **CASES[case])
    whole = train_on(ROWS, settings, tmp_path / "whole")
    for user in ("copycat", "user-13"):
        less = train_on(without_row(find_rows(user)[0]), settings, tmp_path / user, path=whole.steps)
        (gone,) = whole.train_units - less.train_units
        assert 0 < sum(gone in step.drawn for step in whole.steps) < NUM_STEPS
        check_neighbours(whole, less, gone={gone})


def test_one_copy_of_a_record_less_moves_nothing_but_the_order(tiny_model_dir, tmp_path):
    """Without user ids equal rows are one record: when the first of them goes, the second comes into the data at another place."""
    settings = make_settings(tiny_model_dir, unit="record", with_user_ids=False, physical_batch_tokens=80)
    whole = train_on(ROWS, settings, tmp_path / "whole")
    first = min(find_rows("copycat")[0], next(i for i in find_rows("user-13") if ROWS[i]["body"] == ROWS[find_rows("copycat")[0]]["body"]))
    less = train_on(without_row(first), settings, tmp_path / "less", path=whole.steps)
    check_neighbours(whole, less, gone=set(), rounding=SUMMATION_ERROR)


def test_one_household_less(tiny_model_dir, tmp_path):
    settings = make_settings(tiny_model_dir, unit="column", **CASES["bfloat16, lora, small batches"])
    whole = train_on(ROWS, settings, tmp_path / "whole")
    less = train_on(without("household-2"), settings, tmp_path / "less", path=whole.steps)
    assert any("household-2" in step.drawn for step in whole.steps)
    check_neighbours(whole, less, gone={"household-2"})


# --- the harness finds what it looks for ------------------------------------------------------------------------------


def compare_without(user, settings, folder):
    whole = train_on(ROWS, settings, folder / "whole")
    less = train_on(without(user), settings, folder / "less", path=whole.steps)
    check_neighbours(whole, less, gone={user})
    check_own_part(whole, less, train_on(ROWS, settings, folder / "alone", path=whole.steps, only={user}))


def test_a_clip_that_is_too_wide_is_found(tiny_model_dir, tmp_path, monkeypatch):
    def clip_wide(unit_grads, *, l2_clip_norm):
        return replace(clip_and_sum(unit_grads, l2_clip_norm=1.5 * l2_clip_norm), l2_sensitivity=l2_clip_norm)

    monkeypatch.setattr(mechanism, "clip_and_sum", clip_wide)
    with pytest.raises(AssertionError, match="more than the clip norm"):
        compare_without("hoarder", make_settings(tiny_model_dir), tmp_path)


def test_a_loss_that_depends_on_batch_mates_is_found(tiny_model_dir, tmp_path, monkeypatch):
    record_losses = layout.record_losses
    monkeypatch.setattr(layout, "record_losses", lambda model, rows, upper: record_losses(model, rows, upper) / len(rows.row_lengths))
    with pytest.raises(AssertionError, match="the other units' part changes"):
        compare_without("hoarder", make_settings(tiny_model_dir, l2_clip_norm=1e3), tmp_path)


def test_copies_dropped_across_users_are_found(tiny_model_dir, tmp_path, monkeypatch):
    """Whoever wrote it first keeps it: without them, it is the other's."""
    monkeypatch.setattr(duplicates, "CONTENT", tuple(name for name in duplicates.CONTENT if name != "user_id"))
    # A part holds whole users: all must be in one, or no copy of another's is met.
    monkeypatch.setattr("penname.ingest.ingest.choose_num_bits", lambda _: 0)
    with pytest.raises(AssertionError, match="does not draw the unit"):
        compare_without("copycat", make_settings(tiny_model_dir), tmp_path)
