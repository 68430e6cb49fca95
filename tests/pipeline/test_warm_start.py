"""A run that starts from the adapter of another: trained, certified with what it started from, verified."""

import json

import pytest

from penname.run_dir import hash_path
from tests.pipeline.conftest import write_config

pytestmark = pytest.mark.slow


def test_a_run_starts_from_a_public_adapter_and_its_certificate_says_so(penname, settings, finished_run, tmp_path):
    start = finished_run / "2_train/no_dp/adapter"
    train = settings["train"] | {"arms": ["with_dp"], "start_adapter": str(start)}
    undeclared = write_config(tmp_path / "undeclared.yaml", settings | {"train": train})
    penname("run", undeclared, "--out", tmp_path / "undeclared").fails(2, "start_adapter_is_public")
    declared = settings | {"train": train | {"start_adapter_is_public": True}}
    penname.succeed("run", write_config(tmp_path / "warm.yaml", declared), "--out", tmp_path / "warm")
    penname.succeed("verify", tmp_path / "warm/release")
    certificate = json.loads((tmp_path / "warm/release/certificate.json").read_text(encoding="utf-8"))
    (line,) = [line for line in certificate["assumed_public"] if "training started from" in line]
    assert hash_path(start) in line
    assert str(start) not in json.dumps(certificate)
    missing = declared | {"train": declared["train"] | {"start_adapter": str(tmp_path / "nowhere")}}
    penname("run", write_config(tmp_path / "missing.yaml", missing), "--out", tmp_path / "missing").fails(1, "train.start_adapter")
