"""Private prediction from end to end: written, evaluated, certified, verified."""

import json

import pytest

from penname.run_dir import read_rows
from tests.pipeline.conftest import write_config

pytestmark = pytest.mark.slow


def test_a_run_without_training_is_certified_for_its_draws(penname, settings, tmp_path):
    predicting = settings | {
        "train": {"method": "private_prediction", "arms": ["with_dp", "no_dp"]},
        "predict": {"num_texts": 40, "max_new_tokens": 48, "max_example_tokens": 60},
    }
    config, root = write_config(tmp_path / "predicting.yaml", predicting), tmp_path / "run"
    penname.succeed("run", config, "--out", root)
    assert "epsilon" in penname.succeed("verify", root / "release").stdout
    released = {path.relative_to(root / "release").as_posix() for path in (root / "release").rglob("*") if path.is_file()}
    assert released == {"README.md", "certificate.json", "ledger.jsonl", "population.jsonl", "generated_sequences_with_dp.jsonl"}
    card = (root / "release/README.md").read_text(encoding="utf-8")
    assert "private prediction, at most 48 a text" in card
    assert "embedding model" not in card
    certificate = json.loads((root / "release/certificate.json").read_text(encoding="utf-8"))
    assert "exponential" in certificate["epsilon_method"]
    assert certificate["epsilon_spent"] <= certificate["promise"]["target_epsilon"]
    assert len(list(read_rows(root / "3_generate/generated_sequences_with_dp.jsonl"))) > 0
    # Nothing is left to do, and nothing is paid twice.
    ledger = (root / "ledger.jsonl").read_bytes()
    penname.succeed("run", config, "--out", root)
    assert (root / "ledger.jsonl").read_bytes() == ledger
