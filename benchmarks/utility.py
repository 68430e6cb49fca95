"""What a team loses by learning from synthetic reviews: every utility metric on finished runs, with a language model tuned on each set.

  python benchmarks/utility.py [--quick] [--run NAME=DIR ...] [--steps N] [--seeds S ...]

Reads the records of finished runs (without --run: runs/clothing_small, made by benchmarks/clothing_small.py, and runs/demo, made by `make demo`; those that
are there) and changes nothing in them. Tunings are kept under runs/benchmarks/utility/, so a benchmark that was stopped goes on. Writes results/utility.json:
metrics, confusion, settings, seconds. --quick makes a small run of its own, tunes for two steps and keeps nothing. Ends with one line of JSON, each set
over real reviews.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sample_data_variety import environment

from penname.config import EvaluateConfig, load_config
from penname.evaluate.evaluate import evaluate_files
from penname.evaluate.registry import METRICS
from penname.pipeline import run_stages
from penname.run_dir import RunDir, read_json, read_rows, write_json, write_rows

ROOT = Path(__file__).resolve().parents[1]
RESULT_FILE = ROOT / "benchmarks" / "results" / "utility.json"
WORK = ROOT / "runs" / "benchmarks" / "utility"
DEFAULT_RUNS = ("clothing_small", "demo")
PACKAGES = ("penname", "torch", "transformers", "peft", "trl", "scikit-learn", "numpy")
ARMS = ("with_dp", "no_dp")
QUICK_RUN = ["data.sample_num_reviews=400", "train.num_steps=1", "train.expected_batch_size=4", "generate.num_records=24", "generate.max_draws_per_record=20"]
QUICK_TUNING = {"downstream_num_steps": 2, "downstream_max_records": 16, "downstream_max_test_records": 20, "downstream_seeds": [1], "num_bootstrap": 20}


def measure(root: Path, out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Every utility metric of one finished run; `real` is what was trained on, and test and heldout are the unseen rows."""
    run_dir = RunDir(root)
    unseen = out / "unseen.jsonl"
    write_rows(unseen, (row for name in ("test_records", "heldout_records") for row in read_rows(run_dir.path(name))))
    synthetic = {arm: path for arm in ARMS if (path := run_dir.path(f"synthetic_{arm}")).is_file()}
    config = EvaluateConfig(metrics=[metric.name for metric in METRICS if metric.family == "utility"], **settings)
    began = time.monotonic()
    evaluate_files(real=run_dir.path("train_records"), heldout=unseen, synthetic=synthetic, out=out, config=config)
    metrics = read_json(out / "metrics.json")
    return {
        "settings": {key: value for key, value in config.model_dump(mode="json").items() if key.startswith("downstream") or key in ("seed", "max_records")},
        "num_records": {arm: sum(1 for _ in read_rows(path)) for arm, path in synthetic.items()},
        # What was tuned before is not tuned again.
        "secs": round(time.monotonic() - began, 1),
        "confusion": read_json(out / "figure_data.json").get("downstream_confusion"),
        "left_out": read_json(out / "left_out.json"),
        "metrics": metrics,
    }


def compare(name: str, metrics: list[dict[str, Any]]) -> dict[str, float]:
    """Synthetic over real, of what says most."""
    ratios = {}
    for metric in ("downstream_llm_accuracy_score", "tstr_accuracy_score"):
        values = {row["arm"]: row["value"] for row in metrics if row["name"] == metric}
        ratios |= {
            f"{name}_{metric.removesuffix('_accuracy_score')}_{arm}_over_real": round(values[arm] / values["real"], 3) for arm in values if arm != "real"
        }
    return ratios


def format_table(metrics: list[dict[str, Any]]) -> str:
    """The table of docs/log.md: value and interval of each arm."""
    arms = ("real", *ARMS, "base")
    lines = [f"| metric | {' | '.join(arms)} |", "| --- | --- | --- | --- | --- |"]
    for name in dict.fromkeys(row["name"] for row in metrics):
        rows = {row["arm"]: row for row in metrics if row["name"] == name}
        cells = [f"{rows[arm]['value']:.3f} ({rows[arm]['ci95'][0]:.3f} to {rows[arm]['ci95'][1]:.3f})" if arm in rows else "" for arm in arms]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def measure_quickly() -> dict[str, Any]:
    """A small run of the marketplace, and every metric of it once."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "run"
        run_stages(load_config(None, QUICK_RUN), root, ("ingest", "records", "train", "generate"))
        return {"quick": measure(root, Path(name) / "out", QUICK_TUNING)}


def find_runs(given: list[str]) -> dict[str, Path]:
    """Finished runs by name; those of the defaults that are there."""
    if given:
        return {name: Path(folder) for name, _, folder in (option.partition("=") for option in given)}
    return {name: ROOT / "runs" / name for name in DEFAULT_RUNS if (ROOT / "runs" / name / "run.json").is_file()}


def main() -> None:
    """Measures, writes the result file, prints the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small run, two steps of tuning, no result file")
    parser.add_argument("--run", action="append", default=[], metavar="NAME=DIR", help="a finished run")
    parser.add_argument("--steps", type=int, default=EvaluateConfig().downstream_num_steps, help="of each tuning")
    parser.add_argument("--seeds", type=int, nargs="+", default=EvaluateConfig().downstream_seeds)
    args = parser.parse_args()
    settings = {"downstream_num_steps": args.steps, "downstream_seeds": args.seeds}
    results = measure_quickly() if args.quick else {name: measure(root, WORK / name, settings) for name, root in find_runs(args.run).items()}
    if not results:
        print("there is no finished run here; run `make demo` or benchmarks/clothing_small.py first", file=sys.stderr)
    for name, result in results.items():
        print(f"\n{name}\n{format_table(result['metrics'])}")
    if results and not args.quick:
        write_json(RESULT_FILE, {"script": "benchmarks/utility.py", **environment(PACKAGES), "runs": results})
    print(json.dumps({key: value for name, result in results.items() for key, value in compare(name, result["metrics"]).items()}))


if __name__ == "__main__":
    main()
