"""Runs configs/clothing_small.yaml on 2,000 real reviews and keeps the report's figures: python benchmarks/clothing_small.py [--quick]

Writes results/clothing_small.json, and the table of docs/log.md to standard output. --quick trains one step and writes a few records into
a temporary folder: it shows that the run works, and keeps no figures. Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from sample_data_variety import environment

from penname.config import load_config
from penname.pipeline import run_stages
from penname.run_dir import RunDir, read_json, read_rows, write_json

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CONFIG = ROOT / "configs" / "clothing_small.yaml"
PACKAGES = ("penname", "torch", "transformers", "peft", "dp-accounting", "scikit-learn", "numpy")
QUICK = ["train.num_steps=1", "train.expected_batch_size=4", "generate.num_records=12", "generate.max_draws_per_record=20"]


def main() -> None:
    """Runs, collects, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one training step, no result file")
    quick = parser.parse_args().quick
    config = load_config(CONFIG, QUICK if quick else [])
    if config.data.reviews is None or not Path(config.data.reviews).is_file():
        print(f"{config.data.reviews}: the clothing reviews are not here; nothing was run", file=sys.stderr)
        print(json.dumps({}))
        return
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "run" if quick else ROOT / "runs" / "clothing_small"
        began = time.monotonic()
        has_run = run_stages(config, out)
        secs = time.monotonic() - began if has_run else None
        result = collect(RunDir(out), secs)
    if not quick:
        write_json(HERE / "results" / "clothing_small.json", {**environment(PACKAGES), **result})
        print(format_table(result["metrics"]))
    print(json.dumps({"epsilon_spent": result["epsilon_spent"], **result["headline"]}))


def collect(run_dir: RunDir, secs: float | None) -> dict:
    """What the run says of itself, without a word of its records."""
    metrics = read_json(run_dir.path("metrics"))
    # A run without the arm with DP promises nothing.
    certificate = read_json(path) if (path := run_dir.path("certificate")).is_file() else {"epsilon_spent": None, "events": []}
    stages = {name: entry["secs"] for name, entry in run_dir.read_manifest()["stages"].items()}
    config = run_dir.read_manifest()["config"]
    # Where the file lay is nobody's business.
    config["data"]["reviews"] = Path(config["data"]["reviews"]).name
    tstr = {row["arm"]: row["value"] for row in metrics if row["name"] == "tstr_accuracy_score"}
    return {
        "config": config,
        "epsilon_spent": certificate["epsilon_spent"],
        "events": certificate["events"],
        "num_units": read_json(run_dir.path("records_counts"))["num_units"],
        "stage_secs": stages,
        "run_secs": secs,
        "generate_counts": read_json(run_dir.path("generate_counts")),
        "training": {arm: read_training(run_dir.path(f"train_metrics_{arm}")) for arm in config["train"]["arms"]},
        "headline": {f"tstr_{arm}_over_real": value / tstr["real"] for arm, value in tstr.items() if arm != "real"},
        "metrics": metrics,
    }


def read_training(path: Path) -> dict[str, list[float | None]]:
    """Of every step: the loss, how many units, the share of them that was clipped, the lengths of their sum and of what Adam got. PRIVATE where the data is."""
    rows = list(read_rows(path)) if path.is_file() else []
    return {name: [row[name] for row in rows] for name in ("loss", "num_units", "clipped_frac", "sum_norm", "update_norm", "learning_rate", "secs")}


def format_table(metrics: list[dict]) -> str:
    """The table of docs/log.md: value and interval of each arm."""
    arms = ("real", "no_dp", "with_dp")
    lines = ["| metric | real | no DP | with DP |", "| --- | --- | --- | --- |"]
    for name in dict.fromkeys(row["name"] for row in metrics):
        rows = {row["arm"]: row for row in metrics if row["name"] == name}
        cells = [f"{rows[arm]['value']:.3f} ({rows[arm]['ci95'][0]:.3f} to {rows[arm]['ci95'][1]:.3f})" if arm in rows else "" for arm in arms]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
