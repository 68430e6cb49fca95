"""Peak resident memory of `penname train`, each time a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from penname.run_dir import RunDir, read_rows

ROOT = Path(__file__).resolve().parents[1]

# A process inherits the peak of the one that it was forked from, so a small one stands between this and the measured one.
_WATCH = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"code": done.returncode, "error": done.stderr.strip().splitlines()[-1:], "peak_rss_bytes": peak}))
"""

CASES: dict[str, dict[str, Any]] = {
    "no_dp": {"arm": "no_dp", "units": 24, "keep_frac": 0.1},
    "with_dp": {"arm": "with_dp", "units": 24, "keep_frac": 0.1},
    "with_dp_few_units": {"arm": "with_dp", "units": 6, "keep_frac": 0.1},
    "with_dp_many_units": {"arm": "with_dp", "units": 96, "keep_frac": 0.1},
    "with_dp_all_data": {"arm": "with_dp", "units": 24, "keep_frac": 1.0},
    "no_dp_all_data": {"arm": "no_dp", "units": 24, "keep_frac": 1.0},
}


def measure_memory(case: dict[str, Any], real_file: Path) -> dict[str, Any]:
    """One training step in a fresh process: adapters on all layers, and the default layout."""
    has_real = real_file.is_file()
    config = ROOT / "configs" / ("clothing_small.yaml" if has_real else "demo.yaml")
    overrides = [
        "model.top_layers=null",
        f"train.arms=[{case['arm']}]",
        "train.num_steps=1",
        f"train.expected_batch_size={case['units']}",
        f"records.keep_frac={case['keep_frac']}",
        *([f"data.reviews={real_file}"] if has_real else []),
    ]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        for stage in ("ingest", "records"):
            _watch(stage, config, overrides, out)
        done = _watch("train", config, overrides, out)
        run_dir = RunDir(out)
        num_records = sum(1 for _ in read_rows(run_dir.path("train_records")))
        num_drawn = [row["num_units"] for row in read_rows(run_dir.path(f"train_metrics_{case['arm']}"))]
    return {**case, "num_train_records": num_records, "num_units_drawn": num_drawn, "peak_rss_gb": done["peak_rss_bytes"] / 1e9}


def _watch(stage: str, config: Path, overrides: list[str], out: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "penname.cli", stage, str(config), *overrides, "--out", str(out)]
    done = subprocess.run([sys.executable, "-c", _WATCH, *command], capture_output=True, text=True, check=True)  # noqa: S603
    result = json.loads(done.stdout)
    if result["code"]:
        raise RuntimeError(f"penname {stage}: {' '.join(result['error'])}")
    return result
