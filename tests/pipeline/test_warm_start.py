"""A run that starts from the adapter of another: trained, certified with what it started from, verified."""

import json
import shutil
from pathlib import Path

import pytest

from penname.run_dir import hash_path
from tests.pipeline.conftest import write_config

pytestmark = pytest.mark.slow


def test_a_run_starts_from_a_public_adapter_and_its_certificate_says_so(penname, settings, finished_run, tmp_path):
    start = Path(shutil.copytree(finished_run / "2_train/no_dp/adapter", tmp_path / "public"))
    train = settings["train"] | {"arms": ["with_dp"], "start_adapter": str(start)}
    undeclared = write_config(tmp_path / "undeclared.yaml", settings | {"train": train})
    penname("run", undeclared, "--out", tmp_path / "undeclared").fails(2, "start_adapter_is_public")
    declared = settings | {"train": train | {"start_adapter_is_public": True}}
    config, sha256 = write_config(tmp_path / "warm.yaml", declared), hash_path(start)
    penname.succeed("run", config, "--out", tmp_path / "warm")
    # What it started from is known, even if it is gone when the release is made again.
    shutil.rmtree(start)
    shutil.rmtree(tmp_path / "warm/release")
    penname.succeed("report", config, "--out", tmp_path / "warm")
    penname.succeed("verify", tmp_path / "warm/release")
    certificate = json.loads((tmp_path / "warm/release/certificate.json").read_text(encoding="utf-8"))
    (line,) = [line for line in certificate["assumed_public"] if "training started from" in line]
    assert sha256 in line
    assert str(start) not in json.dumps(certificate)
    missing = declared | {"train": declared["train"] | {"start_adapter": str(tmp_path / "nowhere")}}
    penname("run", write_config(tmp_path / "missing.yaml", missing), "--out", tmp_path / "missing").fails(1, "train.start_adapter")
