"""Does `penname plan` say what a run takes? Predictions against real runs, and what the plan says of models on paper.

For each config in turn, repeated: a plan in a process of its own, then `penname run` in a fresh folder and process; tokens, seconds by stage and
peak resident memory of the run over the plan's. The report's seconds are in no plan and are left out. Nothing else should run on the machine.
--paper loads no model: it writes the arithmetic for Llama-3.1-8B on 24 GB and 80 GB, and its table in docs/plan.md.

  python benchmarks/plan.py [--quick] [--repeats R] [--real FILE] [--only demo|clothing] [--paper]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any

from resumable import describe_machine, replace_between_markers
from sample_data_variety import REAL_FILE, environment

from penname.config import Config, load_config
from penname.run_dir import RunDir, read_json, read_rows, write_json

if TYPE_CHECKING:
    from penname.plan.paper import PaperPlan

ROOT = Path(__file__).resolve().parents[1]
RESULT_FILE = ROOT / "benchmarks" / "results" / "plan.json"
PAPER_FILE = ROOT / "benchmarks" / "results" / "plan_paper.json"
DOCUMENT = ROOT / "docs" / "plan.md"
PACKAGES = ("penname", "torch", "transformers", "peft")
# The number that the help of `penname plan` names; the run's own is counted after it.
CLOTHING_UNITS = 1400
PAPER_MODEL = "llama-3.1-8b"
PAPER_RUN = ROOT / "configs" / "amazon_llama31_8b.yaml"
QUICK = ["data.sample_num_reviews=800", "train.num_steps=2", "train.expected_batch_size=6", "generate.num_records=12", "evaluate.max_records=20"]
GB = 1e9

# A process inherits the peak of the one that it was forked from, so a small one stands between this and the measured one.
_WATCH = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"code": done.returncode, "output": done.stdout, "error": done.stderr.strip().splitlines()[-1:], "peak_rss_bytes": peak}))
"""


def watch(command: list[str]) -> dict[str, Any]:
    """Runs a command in a fresh process; its output, and the most that was resident."""
    done = subprocess.run([sys.executable, "-c", _WATCH, *command], capture_output=True, text=True, check=True)  # noqa: S603
    result = json.loads(done.stdout)
    if result["code"]:
        raise RuntimeError(f"{' '.join(command)}: {' '.join(result['error'])}")
    return result


def list_cases(real_file: Path, *, quick: bool) -> dict[str, tuple[list[str], int | None]]:
    """Arguments of `penname run`, and the number of units that the plan is told."""
    more = QUICK if quick else []
    cases: dict[str, tuple[list[str], int | None]] = {"demo": ([str(ROOT / "configs" / "demo.yaml"), *more], None)}
    if real_file.is_file() and not quick:
        cases["clothing"] = ([str(ROOT / "configs" / "clothing_small.yaml"), f"data.reviews={real_file}"], CLOTHING_UNITS)
    return cases


def print_prediction(arguments: list[str], num_units: int | None) -> None:
    """Makes a plan in this process and prints its figures as JSON."""
    from penname.plan.plan import make_plan

    plan = make_plan(load_config(Path(arguments[0]), arguments[1:]), num_units=num_units, reads_lengths=True)
    stages = plan.stage_secs()
    ranges = {name: sum(plan.stage_secs(choose).values()) for name, choose in (("fastest", min), ("slowest", max))}
    figures = {
        "stage_secs": stages,
        "total_secs": sum(stages.values()),
        "total_secs_range": ranges,
        "training_tokens": plan.training.tokens,
        "generated_texts": plan.passes.num_draws,
        "peak_rss_gb": plan.predicted_peak_bytes / GB,
        "plan_peaks_rss_gb": {name: size / GB for name, size in plan.peaks.items()},
        "training_memory_gb": {name: size / GB for name, size in asdict(plan.training_memory).items()},
        "generation_memory_gb": {name: size / GB for name, size in asdict(plan.generation_memory).items()},
        "library_gb": plan.library_bytes / GB,
    }
    print(json.dumps(figures))


def compare_once(arguments: list[str], num_units: int | None) -> dict[str, Any]:
    """One plan and one run."""
    told = ["--num-units", str(num_units)] if num_units else []
    planned = json.loads(watch([sys.executable, __file__, "--predict", json.dumps(arguments), *told])["output"].splitlines()[-1])
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        done = watch([sys.executable, "-m", "penname.cli", "run", *arguments, "--out", str(out)])
        taken = _read_run(RunDir(out), planned, done["peak_rss_bytes"])
    over = {name: taken[name] / planned[name] for name in ("total_secs", "training_tokens", "generated_texts", "peak_rss_gb")}
    over |= {f"{stage}_secs": taken["stage_secs"][stage] / planned["stage_secs"][stage] for stage in ("train", "generate")}
    return {"planned": planned, "taken": taken, "taken_over_planned": over}


def _read_run(run_dir: RunDir, planned: dict[str, Any], peak_rss_bytes: int) -> dict[str, Any]:
    stages = {name: entry["secs"] for name, entry in run_dir.read_manifest()["stages"].items()}
    arms = list(read_json(run_dir.path("generate_counts")).items())
    steps = [list(read_rows(run_dir.path(f"train_metrics_{arm}"))) for arm, _ in arms]
    return {
        "stage_secs": stages,
        # A stage that no plan counts (the ingest of a table whose rows nobody has read, the report) is in neither sum.
        "total_secs": sum(secs for name, secs in stages.items() if name in planned["stage_secs"]),
        "training_tokens": mean(sum(step["tokens"] for step in rows) for rows in steps),
        "generated_texts": mean(counts["num_draws"] for _, counts in arms),
        "peak_rss_gb": peak_rss_bytes / GB,
        "num_units": read_json(run_dir.path("records_counts"))["num_units"]["train"],
    }


def summarize(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Median, least and most of each ratio."""
    ratios = {name: [row["taken_over_planned"][name] for row in rounds] for name in rounds[0]["taken_over_planned"]}
    return {name: {"median": median(values), "min": min(values), "max": max(values), "num": len(values)} for name, values in ratios.items()}


def format_accuracy(result: dict[str, Any]) -> list[str]:
    """The table of what runs took over what was planned."""
    lines = [
        f"Commit {result['commit'][:10]}, torch {result['versions']['torch']}. Median (least to most) of what a run took over what was planned.",
        "",
        "| config | time | training | generation | training tokens | texts drawn | peak memory | runs |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    names = ("total_secs", "train_secs", "generate_secs", "training_tokens", "generated_texts", "peak_rss_gb")
    for case, found in result["cases"].items():
        cells = [f"{found['summary'][name]['median']:.2f} ({found['summary'][name]['min']:.2f} to {found['summary'][name]['max']:.2f})" for name in names]
        lines.append(f"| {case} | {' | '.join(cells)} | {len(found['rounds'])} |")
    return lines


def plan_paper() -> dict[str, Any]:
    """Writes the paper plan of the model, and its table."""
    from penname.plan.known_models import read_shape
    from penname.plan.paper import DEVICE_BYTES, DEVICE_SPEEDS, describe_assumptions, plan_on_paper

    def plan(config: Config) -> PaperPlan:
        return plan_on_paper(PAPER_MODEL, read_shape(PAPER_MODEL), config, record_tokens=config.train.max_record_tokens)

    made, run, packed = plan(load_config()), plan(load_config(PAPER_RUN)), plan(load_config(PAPER_RUN, ["model.quantization=nf4"]))
    result = {
        "script": "benchmarks/plan.py --paper",
        **environment(PACKAGES),
        "assumed": describe_assumptions(),
        "device_bytes": DEVICE_BYTES,
        "device_speeds": {device: asdict(speed) for device, speed in DEVICE_SPEEDS.items()},
        **made.to_json(),
        PAPER_RUN.name: run.to_json(),
        f"{PAPER_RUN.name} model.quantization=nf4": packed.to_json(),
    }
    write_json(PAPER_FILE, result)
    parts = ("base_weights", "adapter", "unit_gradients", "activations", "passing", "vocabulary")
    heads = ["adapters on", "kept of a layer", "P", *(part.replace("_", " ") for part in parts), "sum, GB", *(f"largest tile, {name}" for name in DEVICE_BYTES)]
    lines = [f"{made.model}, tiles of {made.example_tile_tokens} tokens, GB.", "", f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for training in made.trainings:
        sizes = asdict(training.at_example)
        kept = "its input" if training.gradient_checkpointing else "what its backward pass needs"
        cells = [f"{training.adapted_layers} layers", kept, f"{training.num_params:,}", *(f"{sizes[part] / GB:.2f}" for part in parts)]
        cells += [f"{training.at_example.total / GB:.2f}", *(f"{tile:,}" if tile else "none" for tile in training.largest_tile.values())]
        lines.append(f"| {' | '.join(cells)} |")
    writing = made.generation
    lines += [
        "",
        f"Writing {made.num_slots} texts at once, {made.tokens_a_text} tokens each with its prompt: {writing.total / GB:.2f} GB, of them weights "
        f"{writing.base_weights / GB:.2f}, keys and values {writing.keys_and_values / GB:.2f}, logits {writing.logits / GB:.2f}.",
    ]
    replace_between_markers(DOCUMENT, "plan:paper", lines)
    replace_between_markers(DOCUMENT, "plan:paper_run", format_paper_run(run, packed))
    return {f"largest_tile_{device}": {row["adapted_layers"]: row["largest_tile"][device] for row in result["trainings"]} for device in DEVICE_BYTES}


def format_paper_run(run: PaperPlan, packed: PaperPlan) -> list[str]:
    """The table of the run, and of its training in four bits: memory, and hours of an arm."""
    from penname.plan.paper import DEVICE_SPEEDS

    devices = " | ".join(f"{speed.name}, {device}" for device, speed in DEVICE_SPEEDS.items())
    lines = [f"| | memory, GB | {devices} |", "| --- | --- |" + " --- |" * len(DEVICE_SPEEDS)]
    for training, bits in [*((training, "") for training in run.trainings), *((training, ", frozen weights in four bits") for training in packed.trainings)]:
        kept = ("layer inputs kept" if training.gradient_checkpointing else "activations kept") + bits
        cells = [f"{training.secs[device] / 3600:.1f} h, tile of {training.largest_tile[device] or 0:,}" for device in DEVICE_SPEEDS]
        lines.append(f"| training, {kept} | {training.at_example.total / GB:.1f} at {run.example_tile_tokens} tokens | {' | '.join(cells)} |")
    cells = [f"{run.writing_secs[device] / 3600:.1f} h" for device in DEVICE_SPEEDS]
    lines.append(f"| writing, {run.num_slots} texts at once | {run.generation.total / GB:.1f} | {' | '.join(cells)} |")
    return lines


def compare(real_file: Path, *, only: str | None, repeats: int, quick: bool) -> dict[str, Any]:
    """Plans and runs every case, in turn; the result file after each round."""
    cases = {name: case for name, case in list_cases(real_file, quick=quick).items() if only in (None, name)}
    result: dict[str, Any] = {
        "script": "benchmarks/plan.py",
        **environment(PACKAGES),
        "cpu": describe_machine(),
        "cases": {name: {"rounds": []} for name in cases},
    }
    for count in range(repeats):
        for name, (arguments, num_units) in cases.items():
            found = result["cases"][name]
            found["rounds"].append({"num_units_told": num_units, **compare_once(arguments, num_units)})
            found["summary"] = summarize(found["rounds"])
            print(f"round {count + 1}, {name}: {json.dumps(found['rounds'][-1]['taken_over_planned'])}", file=sys.stderr, flush=True)
        if not quick and only is None:
            write_json(RESULT_FILE, result)
            replace_between_markers(DOCUMENT, "plan:accuracy", format_accuracy(result))
    return {f"{name}_{key}_taken_over_planned": value["median"] for name, found in result["cases"].items() for key, value in found["summary"].items()}


def main() -> None:
    """Measures, writes, prints the ratios as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small run, no result file")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--real", type=Path, default=REAL_FILE)
    parser.add_argument("--only", choices=["demo", "clothing"])
    parser.add_argument("--paper", action="store_true", help="memory on paper; nothing is measured")
    parser.add_argument("--predict", help=argparse.SUPPRESS)
    parser.add_argument("--num-units", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.predict:
        print_prediction(json.loads(args.predict), args.num_units)
    elif args.paper:
        print(json.dumps(plan_paper()))
    else:
        print(json.dumps(compare(args.real, only=args.only, repeats=1 if args.quick else args.repeats, quick=args.quick)))


if __name__ == "__main__":
    main()
