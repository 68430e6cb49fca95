"""Other programs that train with differential privacy, each in its own environment and process, on the same records."""

from __future__ import annotations

import json
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from peers.make_environments import PACKAGES, find_python, make_environment
from training_workload import MODEL

from penname.config import TrainConfig
from penname.model.base import find_base_model
from penname.model.tokenize import TokenizedRecord

HERE = Path(__file__).resolve().parent
_LIMIT_SECS = 560

CASES: dict[str, dict[str, Any]] = {
    **{f"dptrainer_hooks_{size}": {"peer": "dptrainer", "mode": "hooks", "batch_size": size} for size in (2, 8)},
    "dptrainer_ghost_8": {"peer": "dptrainer", "mode": "ghost", "batch_size": 8},
    **{f"mostlyai_{size}": {"peer": "mostlyai", "mode": "hooks", "batch_size": size} for size in (2, 8)},
}


def has_environment(case: dict[str, Any]) -> bool:
    """Whether the environment of this case's peer is there."""
    return find_python(case["peer"]).exists()


def measure_peer(case: dict[str, Any], records: list[TokenizedRecord], *, num_steps: int, seed: int) -> dict[str, Any]:
    """Real tokens a second inside the peer's training loop; or the error that it ended with."""
    from transformers import AutoTokenizer

    make_environment(case["peer"])
    model = find_base_model(MODEL.name)
    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    rows = [{"token_ids": record.token_ids, "text": tokenizer.decode(record.token_ids, skip_special_tokens=True)} for record in records]
    work = {
        **case,
        "model": model,
        "records": rows,
        "lora_rank": MODEL.lora_rank,
        "modules": MODEL.target_modules,
        "logical_batch_size": TrainConfig().expected_batch_size,
        "num_steps": num_steps,
        "seed": seed,
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "work.json"
        file.write_text(json.dumps(work), encoding="utf-8")
        command = [str(find_python(case["peer"])), str(HERE / "peers" / f"{case['peer']}_steps.py"), str(file)]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_LIMIT_SECS, check=False)  # noqa: S603
        except subprocess.TimeoutExpired:
            return {**case, "error": f"no figure within {_LIMIT_SECS} seconds"}
    described = {**case, "package": PACKAGES[case["peer"]][0], "shares_libraries_of": "the benchmark's own environment, by a .pth file"}
    if done.returncode:
        return {**described, "error": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return {**described, **json.loads(done.stdout.strip().splitlines()[-1]), "torch": version("torch")}
