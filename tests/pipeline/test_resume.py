"""A run that is killed at any moment goes on where it was, ends as if nothing had happened, and has never released what it had not paid for."""

import json
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from safetensors import safe_open

from penname.pipeline import STAGE_NAMES
from penname.privacy.ledger import Ledger
from penname.run_dir import read_json, read_rows
from tests.pipeline.conftest import TARGET_EPSILON, snapshot, wait_until, write_config

pytestmark = pytest.mark.slow

NUM_STEPS = 12
NUM_KILLS, KILLS_A_FOLDER = 20, 10
DATA_FILES = {"reviews": "Cell_Phones_and_Accessories", "catalogue": "meta_Cell_Phones_and_Accessories"}
CHECKPOINT = "2_train/with_dp/checkpoint/state.safetensors"
# What is released, and the event that pays for it.
PAID_BY = {
    "2_train/unit_count.json": "count_units",
    CHECKPOINT: "train/with_dp",
    "2_train/with_dp/adapter": "train/with_dp",
    "3_generate/conditioning.json": "histogram/rating_category",
}
# How long it took stands in these; every other file of a run must be the same, byte by byte.
TIMED = {"run.json", ".lock", "2_train/with_dp/metrics.jsonl", "2_train/no_dp/metrics.jsonl", "5_report/report.html"}

SPENT: dict[bytes, float] = {}
"""Epsilon of a ledger, by its bytes: a few ledgers come up again and again."""


@pytest.fixture(scope="module")
def seeded_config(penname, settings, tmp_path_factory):
    """A checkpoint after every step."""
    folder = tmp_path_factory.mktemp("seeded")
    penname.succeed("sample-data", folder / "market", "--reviews", 300)
    seeded = settings | {
        "data": {"format": "amazon_reviews_2023", **{key: str(folder / "market" / f"{name}.jsonl") for key, name in DATA_FILES.items()}},
        "privacy": {**settings["privacy"], "noise_seed": 7},
        "train": {**settings["train"], "num_steps": NUM_STEPS, "checkpoint_every_secs": 0.0},
        "evaluate": {**settings["evaluate"], "metrics": ["well_formed_frac"]},
    }
    return write_config(folder / "seeded.yaml", seeded)


@pytest.fixture(scope="module")
def uninterrupted(penname, seeded_config, tmp_path_factory):
    """The folder of a run that nobody killed, and its time line: what was done when, as (stage, seconds)."""
    root, began = tmp_path_factory.mktemp("uninterrupted") / "run", time.monotonic()
    penname.succeed("run", seeded_config, "--out", root)
    secs = {name: entry["secs"] for name, entry in read_json(root / "run.json")["stages"].items()}
    return root, [("", max(0.0, time.monotonic() - began - sum(secs.values()))), *secs.items()]


def test_a_seeded_run_has_no_release_and_says_why(penname, uninterrupted):
    root, _ = uninterrupted
    assert not (root / "release").exists()
    certificate = (root / "5_report/certificate.json").read_text()
    assert '"releasable": false' in certificate
    assert "come from a seed" in certificate
    assert "seed" in (root / "5_report/report.html").read_text()
    penname("verify", root).fails(1, "holds no certificate.json")


def assert_same_run(root: Path, whole: Path) -> None:
    """Every file of the one is in the other and the same: weights, ledger, certificate, synthetic sets; nothing is left over."""
    names = [sorted(path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()) for run in (root, whole)]
    assert names[0] == names[1]
    assert {"ledger.jsonl", "5_report/certificate.json", "2_train/with_dp/adapter/adapter_model.safetensors"} < set(names[0]) - TIMED
    assert [name for name in names[0] if name not in TIMED and (root / name).read_bytes() != (whole / name).read_bytes()] == []
    for arm in ("with_dp", "no_dp"):
        rows = [[{**row, "secs": 0} for row in read_rows(run / f"2_train/{arm}/metrics.jsonl")] for run in (root, whole)]
        assert len(rows[0]) == NUM_STEPS
        assert rows[0] == rows[1]


def assert_nothing_is_out_unpaid(root: Path, whole: Path) -> int:
    """What a killed run leaves: a ledger that is a beginning of the whole one's, and no release without its event. Returns the steps kept."""
    lines = (root / "ledger.jsonl").read_bytes().splitlines(keepends=True) if (root / "ledger.jsonl").exists() else []
    ledger = b"".join(line for line in lines if line.endswith(b"\n"))
    assert (whole / "ledger.jsonl").read_bytes().startswith(ledger)
    paid = set()
    if ledger:
        book = Ledger.read(root / "ledger.jsonl")
        paid = {entry["event_id"] for entry in book.entries}
        if ledger not in SPENT:
            SPENT[ledger] = book.epsilon_spent()
        assert 0 <= SPENT[ledger] <= book.promise.target_epsilon == TARGET_EPSILON
    assert [name for name, event_id in PAID_BY.items() if (root / name).exists() and event_id not in paid] == []
    return read_step(root / CHECKPOINT)


def read_step(path: Path) -> int:
    """Steps done in a checkpoint; 0 where there is none."""
    if not path.exists():
        return 0
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["penname"])["step"]


def kill(penname, config: Path, root: Path, *, when, secs: float) -> bool:
    """Starts or goes on with a run, and kills it `secs` after `when()` is true. False where it had ended before."""
    started = penname.start("run", config, "--out", root)
    wait_until(when, secs=60)
    time.sleep(secs)
    started.send(signal.SIGKILL)
    outcome = started.wait()
    assert outcome.code in (0, -signal.SIGKILL), outcome
    return outcome.code == -signal.SIGKILL


# --- as soon as something is there ------------------------------------------------------------------------------------

# Moments of a run: what is there when the process is killed.
MOMENTS = (
    "run.json", "0_ingest/reviews", "1_records/train.jsonl", "ledger.jsonl", "2_train/unit_count.json", CHECKPOINT, "2_train/with_dp/adapter",
    "2_train/no_dp/metrics.jsonl", "3_generate/conditioning.json", "3_generate/generated_sequences_with_dp.jsonl",
)  # fmt: skip


def test_killed_as_soon_as_something_is_there_it_ends_with_the_same_bytes(penname, seeded_config, uninterrupted, tmp_path):
    root, whole, generator = tmp_path / "run", uninterrupted[0], random.Random(11)
    num_killed, kept_steps = 0, []
    for moment in MOMENTS:
        if not (root / moment).exists():
            num_killed += kill(penname, seeded_config, root, when=(root / moment).exists, secs=generator.choice([0, 0, 0.005, 0.02, 0.1]))
            kept_steps.append(assert_nothing_is_out_unpaid(root, whole))
    assert num_killed >= 5
    assert any(0 < step < NUM_STEPS for step in kept_steps), "no kill between two steps of the training"
    for stage in ("train", "generate", "evaluate", "report"):
        penname.succeed(stage, seeded_config, "--out", root)
    assert_same_run(root, whole)
    assert penname.succeed("run", seeded_config, "--out", root).stdout.startswith("Nothing to do")


# --- at any time ------------------------------------------------------------------------------------------------------


def draw_moments(timeline: list[tuple[str, float]], generator: random.Random) -> list[tuple[str, float]]:
    """Twenty moments, one drawn in each twentieth of a whole run: the stage that is at work then, and the seconds since it began."""
    whole, moments = sum(secs for _, secs in timeline), []
    for number in range(NUM_KILLS):
        left = whole * generator.uniform(number, number + 1) / NUM_KILLS
        for stage, secs in timeline:
            if left < secs:
                moments.append((stage, left))
                break
            left -= secs
    return moments


def has_begun(root: Path, stage: str) -> bool:
    return not stage or ((root / "run.json").exists() and stage in read_json(root / "run.json")["stages"])


def stage_at_work(root: Path) -> str:
    stages = read_json(root / "run.json")["stages"] if (root / "run.json").exists() else {}
    return next((name for name in STAGE_NAMES if stages.get(name, {}).get("status") == "started"), "")


def test_killed_at_twenty_random_moments_it_ends_with_the_same_bytes(penname, seeded_config, uninterrupted, tmp_path):
    """Ten kills a folder, in the order of time; where a run ends before its kill comes, the kill is made up for in a folder more."""
    whole, timeline = uninterrupted
    moments = draw_moments(timeline, random.Random(20))
    num_folders = NUM_KILLS // KILLS_A_FOLDER
    killed_in: Counter[str] = Counter()
    for folder in range(num_folders + 2):
        root = tmp_path / f"run{folder}"
        for stage, secs in moments[folder % num_folders :: num_folders]:
            if killed_in.total() == NUM_KILLS:
                break
            if kill(penname, seeded_config, root, when=lambda stage=stage, root=root: has_begun(root, stage), secs=secs):
                killed_in[stage_at_work(root)] += 1
            assert_nothing_is_out_unpaid(root, whole)
        penname.succeed("run", seeded_config, "--out", root)
        assert_same_run(root, whole)
        if killed_in.total() == NUM_KILLS:
            break
    assert killed_in.total() == NUM_KILLS
    # Every stage that takes time was hit.
    assert {"train", "generate", "report"} <= set(killed_in)


# --- interrupted, and two at once ------------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_one_line_and_keeps_what_is_done(penname, config_file, tmp_path, signum):
    root = tmp_path / "run"
    started = penname.start("run", config_file, "--out", root)
    wait_until(lambda: (root / "ledger.jsonl").exists(), secs=60)
    started.send(signum)
    line = started.wait(30).fails(130, "interrupted", "run the same command again")
    assert "interrupted" in line
    before = snapshot(root)
    assert penname.succeed("records", config_file, "--out", root).stdout.startswith("Nothing to do")
    assert snapshot(root) == before
    assert not list(root.rglob("*.tmp"))


def test_two_processes_at_once(penname, config_file, tmp_path):
    root = tmp_path / "run"
    first = penname.start("run", config_file, "--out", root)
    wait_until(lambda: (root / "0_ingest/sample_data").exists(), secs=60)
    penname("run", config_file, "--out", root).fails(1, "another penname process is working in this folder")
    first.send(signal.SIGKILL)
    first.wait()
