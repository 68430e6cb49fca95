"""A run that is killed at any moment goes on where it was, and ends as if nothing had happened."""

import random
import signal
import time

import pytest

from penname.privacy.ledger import Ledger
from tests.pipeline.conftest import snapshot, wait_until, write_config

pytestmark = pytest.mark.slow

COMPARED = (
    "ledger.jsonl", "1_records/train.jsonl", "2_train/with_dp/adapter/adapter_model.safetensors", "2_train/no_dp/adapter/adapter_model.safetensors",
    "2_train/unit_count.json", "3_generate/conditioning.json", "3_generate/generated_sequences_with_dp.jsonl", "3_generate/generated_sequences_no_dp.jsonl",
)  # fmt: skip


@pytest.fixture(scope="module")
def seeded_config(settings, tmp_path_factory):
    seeded = settings | {"privacy": {"noise_seed": 7}}
    return write_config(tmp_path_factory.mktemp("seeded") / "seeded.yaml", seeded)


@pytest.fixture(scope="module")
def uninterrupted(penname, seeded_config, tmp_path_factory):
    root = tmp_path_factory.mktemp("uninterrupted") / "run"
    return root, penname.succeed("run", seeded_config, "--out", root)


def test_a_seeded_run_has_no_release_and_says_why(penname, uninterrupted):
    root, _ = uninterrupted
    assert not (root / "release").exists()
    certificate = (root / "5_report/certificate.json").read_text()
    assert '"releasable": false' in certificate
    assert "come from a seed" in certificate
    assert "seed" in (root / "5_report/report.html").read_text()
    penname("verify", root).fails(1, "holds no certificate.json")


# Moments of a run: what is there when the process is killed.
MOMENTS = (
    "run.json", "0_ingest/sample_data", "1_records/train.jsonl", "ledger.jsonl", "2_train/with_dp/metrics.jsonl", "2_train/with_dp/adapter",
    "2_train/no_dp/metrics.jsonl", "3_generate/conditioning.json", "3_generate/generated_sequences_with_dp.jsonl",
)  # fmt: skip


def test_killed_at_many_moments_it_ends_with_the_same_bytes(penname, seeded_config, uninterrupted, tmp_path):
    root, whole = tmp_path / "run", uninterrupted[0]
    generator = random.Random(11)
    num_killed = 0
    for moment in MOMENTS:
        if (root / moment).exists():
            continue
        started = penname.start("run", seeded_config, "--out", root)
        wait_until(lambda moment=moment: (root / moment).exists(), secs=60)
        time.sleep(generator.choice([0, 0, 0.005, 0.02, 0.1]))
        started.send(signal.SIGKILL)
        outcome = started.wait()
        num_killed += outcome.code == -signal.SIGKILL
        assert outcome.code in (0, -signal.SIGKILL), outcome
        if (root / "ledger.jsonl").exists() and b"\n" in (root / "ledger.jsonl").read_bytes():
            assert Ledger.read(root / "ledger.jsonl").epsilon_spent() <= 8
    assert num_killed >= 5
    for delay in (0.05, 0.3, generator.uniform(0.3, 2.0)):
        started = penname.start("run", seeded_config, "--out", root)
        time.sleep(delay)
        started.send(signal.SIGKILL)
        started.wait()
    for stage in ("train", "generate", "evaluate"):
        penname.succeed(stage, seeded_config, "--out", root)
    for name in COMPARED:
        assert (root / name).read_bytes() == (whole / name).read_bytes(), name
    assert penname.succeed("evaluate", seeded_config, "--out", root).stdout.startswith("Nothing to do")


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
