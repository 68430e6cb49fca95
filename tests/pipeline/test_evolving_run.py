"""Private evolution from end to end: evolved, written, evaluated, certified, verified."""

import json

import pytest

from penname.run_dir import read_rows
from tests.pipeline.conftest import write_config

pytestmark = pytest.mark.slow


def test_a_run_without_training_is_certified_for_its_votes(penname, settings, tmp_path):
    evolving = settings | {
        "train": {"method": "private_evolution", "num_steps": 2, "expected_batch_size": 20, "arms": ["with_dp", "no_dp"]},
        "evolve": {"num_candidates": 60, "max_new_tokens": 40},
    }
    config, root = write_config(tmp_path / "evolving.yaml", evolving), tmp_path / "run"
    penname.succeed("run", config, "--out", root)
    assert "epsilon" in penname.succeed("verify", root / "release").stdout
    released = {path.relative_to(root / "release").as_posix() for path in (root / "release").rglob("*") if path.is_file()}
    assert released == {"README.md", "certificate.json", "ledger.jsonl", "population.jsonl", "generated_sequences_with_dp.jsonl"}
    card = (root / "release/README.md").read_text(encoding="utf-8")
    assert "private evolution, 2 rounds of 60" in card
    assert "adapter" not in card.partition("## What is assumed public")[0]
    assert "embedding model" in card
    assert "was trained on" not in card.partition("## The promise")[0]
    certificate = json.loads((root / "release/certificate.json").read_text(encoding="utf-8"))
    assert [event["mechanism"]["l2_sensitivity"] for event in certificate["events"] if event["name"] == "train/with_dp"] == [1.0]
    assert len(list(read_rows(root / "3_generate/generated_sequences_with_dp.jsonl"))) > 0
    # Nothing is left to do, and nothing is paid twice.
    ledger = (root / "ledger.jsonl").read_bytes()
    penname.succeed("run", config, "--out", root)
    assert (root / "ledger.jsonl").read_bytes() == ledger
