"""A run whose work is done by a Ray cluster is the run that one process makes, also when a worker is killed in the midst of it."""

import re
import shutil
from pathlib import Path

import psutil
import pytest

from penname.run_dir import read_rows
from tests.pipeline.conftest import wait_until, write_config

pytestmark = pytest.mark.cluster

ON_RAY = ["engine.kind=ray", "engine.num_workers=2"]
ADAPTER = "2_train/with_dp/adapter/adapter_model.safetensors"


@pytest.fixture(scope="module")
def config(settings, tmp_path_factory) -> Path:
    many = settings | {
        "privacy": {**settings["privacy"], "noise_seed": 7},
        "train": {**settings["train"], "arms": ["with_dp"], "expected_batch_size": 4, "num_steps": 150, "checkpoint_every_secs": 0},
        # More than a shard.
        "generate": {**settings["generate"], "num_records": 10, "batch_size": 4},
    }
    return write_config(tmp_path_factory.mktemp("config") / "ray.yaml", many)


@pytest.fixture(scope="module")
def local(penname, config, tmp_path_factory) -> tuple[Path, Path]:
    """A run by one process, as far as the records and as far as the texts."""
    root = tmp_path_factory.mktemp("local")
    for stage in ("ingest", "records"):
        penname.succeed(stage, config, "--out", root / "whole")
    shutil.copytree(root / "whole", root / "records")
    for stage in ("train", "generate"):
        penname.succeed(stage, config, "--out", root / "whole")
    return root / "records", root / "whole"


def find_ranks(pid: int) -> list[psutil.Process]:
    """The processes of Ray Train's workers below ours."""
    found = psutil.Process(pid).children(recursive=True)
    return [process for process in found if re.match(r"ray::\w*TrainWorker", " ".join(process.cmdline()))]


def test_a_run_on_ray_is_the_run_of_one_process(penname, config, local, tmp_path):
    records, whole = local
    root, home = Path(shutil.copytree(records, tmp_path / "run")), tmp_path / "home"
    home.mkdir()
    outcome = penname("ingest", config, *ON_RAY, "--out", tmp_path / "ingested", env={"HOME": str(home)}, secs=120)
    assert outcome.code == 0, outcome.stderr
    for part in (whole / "0_ingest/reviews").iterdir():
        assert (tmp_path / "ingested/0_ingest/reviews" / part.name).read_bytes() == part.read_bytes()
    started = penname.start("train", config, *ON_RAY, "--out", root, env={"HOME": str(home)})
    metrics = root / "2_train/with_dp/metrics.jsonl"
    wait_until(lambda: metrics.is_file() and metrics.read_bytes().count(b"\n") > 2, secs=120)
    ranks = find_ranks(started.pid)
    assert len(ranks) == 2
    ranks[0].kill()
    outcome = started.wait(120)
    assert outcome.code == 0, outcome.stderr
    assert (root / "ledger.jsonl").read_bytes() == (whole / "ledger.jsonl").read_bytes()
    assert (root / ADAPTER).read_bytes() == (whole / ADAPTER).read_bytes()
    assert [row["step"] for row in read_rows(metrics)] == list(range(150))
    assert not (root / "2_train/checkpoint").exists()
    outcome = penname("generate", config, *ON_RAY, "--out", root, env={"HOME": str(home)}, secs=120)
    assert outcome.code == 0, outcome.stderr
    for name in ("generated_sequences_with_dp.jsonl", "conditioning.json", "counts.json"):
        assert (root / "3_generate" / name).read_bytes() == (whole / "3_generate" / name).read_bytes()


def test_an_error_of_the_training_comes_back_as_it_is(penname, config, local, tmp_path):
    root = Path(shutil.copytree(local[0], tmp_path / "run"))
    outcome = penname("train", config, *ON_RAY, "privacy.delta=0.5", "--out", root, env={"HOME": str(tmp_path)}, secs=120)
    outcome.fails(1, "privacy.delta: 0.5 is too large")
    assert not (root / "ledger.jsonl").exists()
