"""Runs the default audit and keeps what it took and what it found: python benchmarks/audit.py [--quick] [--original] [--out DIR]

Writes results/audit.json: seconds of each stage, the headline figures of both arms with their intervals, and whether the audit did what it must: without DP
the canaries of 64 repetitions leak and are exposed; with DP no more leaks than of left-out canaries, AUROC intervals hold 0.5, and the lower bound stays under
the claim. --original runs configs/audit_original.yaml instead and writes results/audit_original.json: one string in three shares of the reviews, which has to
come out of the arm without DP at the full share. --quick plants few and trains one step, in a temporary folder, and keeps nothing. Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from sample_data_variety import environment

from penname.audit.audit import DEFAULT_CONFIG, run_audit
from penname.audit.twins import list_twins
from penname.config import load_config
from penname.run_dir import RunDir, read_json, write_json

HERE = Path(__file__).resolve().parent
PACKAGES = ("penname", "torch", "transformers", "peft", "dp-accounting", "numpy", "scipy")
QUICK = [
    "data.sample_num_reviews=200", "audit.canaries={1: 8, 4: 4}", "audit.num_references=4", "audit.max_records_scored=10", "train.num_steps=1",
    "train.expected_batch_size=2", "generate.num_records=6", "generate.max_draws_per_record=40",
]  # fmt: skip
MAX_MINUTES = 30
LOUDEST = 64
SIGNALS = ("calibrated", "ngram_echo")
"""One attack on the model and one on the text, whose chance is 0.5: of a dozen intervals some would miss it by chance."""


def main() -> None:
    """Runs, collects, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one training step, no result file")
    parser.add_argument("--original", action="store_true", help="the experiment of the system that penname set out from")
    parser.add_argument("--out", type=Path, help="the audit folder (default: runs/audit, runs/audit_original); where it is done, nothing runs again")
    args = parser.parse_args()
    name = "audit_original" if args.original else "audit"
    config = load_config(HERE.parent / "configs/audit_original.yaml" if args.original else DEFAULT_CONFIG, QUICK if args.quick else [])
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "audit" if args.quick else args.out or HERE.parent / "runs" / name
        run_audit(config, root)
        secs = collect_secs(config, RunDir(root))
        found = collect_findings(RunDir(root))
    minutes = round(sum(secs.values()) / 60, 1)
    held = check_original(found) if args.original else check(found) | {"within_minutes": minutes <= MAX_MINUTES}
    if not args.quick:
        write_json(HERE / "results" / f"{name}.json", {**environment(PACKAGES), "config": config.model_dump(mode="json"), "secs": secs, **found, "held": held})
    print(json.dumps({"minutes": minutes, **held}))


def collect_secs(config: Any, run_dir: RunDir) -> dict[str, float]:
    """Seconds of each stage of the audit and of its twin; of a stage that was stopped and went on, those of its last part."""
    secs = {name: entry["secs"] for name, entry in run_dir.read_manifest()["stages"].items()}
    for twin in list_twins(config, run_dir):
        secs |= {f"{twin.name}/{name}": entry["secs"] for name, entry in twin.run_dir.read_manifest()["stages"].items()}
    return secs


def collect_findings(run_dir: RunDir) -> dict[str, Any]:
    """What the audit says of itself, without a word of its records or canaries."""
    attacks = read_json(run_dir.path("attacks"))
    tables = {
        name: [{key: value for key, value in row.items() if key != "threshold_note"} for row in rows]
        for name, rows in attacks["tables"].items()
        if name != "curves"
    }
    return {
        "promise": attacks["promise"],
        "canaries": attacks["canaries"],
        "failures": attacks["failures"],
        "tables": tables,
        "metrics": read_json(run_dir.path("metrics")),
        "num_left_out": len(read_json(run_dir.path("left_out"))),
    }


def check(found: dict[str, Any]) -> dict[str, bool]:
    """Whether the audit did what it must; False also where a figure is not there."""
    leaks = [row for row in found["tables"].get("leaks", []) if row["match"] == "exact" and row["part"] == "any"]
    exposed = [row for row in found["tables"].get("exposure", []) if row["way"] == "rank" and row["num_repetitions"] == LOUDEST and row["arm"] == "no_dp"]
    private = [row for row in leaks if row["arm"] == "with_dp"]
    chance = {row["way"]: row["num_leaked"] / row["num_canaries"] for row in private if row["num_repetitions"] == 0}
    aurocs = [row for row in found["tables"].get("membership", []) if row["arm"] == "with_dp" and row["signal"] in SIGNALS]
    bounds = [row for row in found["tables"].get("bounds", []) if row["arm"] == "with_dp" and row["method"] == "one_run"]
    return {
        "no_dp_leaks": any(row["num_leaked"] for row in leaks if row["arm"] == "no_dp" and row["num_repetitions"] == LOUDEST),
        "no_dp_is_exposed": any(row["ci95"][0] > 1.4427 for row in exposed),
        "with_dp_leaks_like_chance": bool(private) and all(row["leaked_ci95"][0] <= chance.get(row["way"], 0.0) for row in private),
        "with_dp_aurocs_hold_chance": bool(aurocs) and all(row["ci95"][0] <= row["reference"] <= row["ci95"][1] for row in aurocs),
        "with_dp_bound_under_claim": bool(bounds) and all(row["epsilon"] <= row["claimed_epsilon"] for row in bounds),
    }


def check_original(found: dict[str, Any]) -> dict[str, bool]:
    """Whether the string came out where every review held it and nothing was done against it."""
    rows = [row for row in found["tables"].get("originals", []) if row["part"] == "whole" and row["share"] == 1.0 and row["arm"] == "no_dp"]
    return {"no_dp_leaks_at_full_share": any(row["num_texts"] for row in rows)}


if __name__ == "__main__":
    main()
