"""The reference run: configs/reviews_eps8.yaml with three seeds, and with one at epsilon 4 and 1, against what it must reach.

  python benchmarks/reference.py [--quick] [--only RUN ...] [--max-minutes M]

A run is named by epsilon and seed: 8-1, 8-2, 8-3, 4-1, 1-1. It stands in runs/reference/ and goes on where it was stopped, as `penname run` does; each that is
finished leaves results/reference/RUN.json, and the tables of docs/reference.md are written anew from all that are there. Those at epsilon 8 train both arms and
tune a language model on each set (downstream_llm_accuracy_score), the others train the arm with DP alone. --quick makes one small run in a temporary
folder and writes nothing. Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clothing_small import CONFIG as CLOTHING_SMALL
from clothing_small import QUICK, collect
from resumable import WORK_IS_LEFT, add_arguments, describe_machine, replace_between_markers
from sample_data_variety import environment

from penname.config import load_config
from penname.pipeline import run_stages
from penname.run_dir import RunDir, write_json

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "reviews_eps8.yaml"
RESULTS = ROOT / "benchmarks" / "results" / "reference"
DOCUMENT = ROOT / "docs" / "reference.md"
PACKAGES = ("penname", "torch", "transformers", "peft", "trl", "dp-accounting", "scikit-learn", "numpy")
RUNS = ((8, 1), (8, 2), (8, 3), (4, 1), (1, 1))
QUICK_RUN = [*QUICK, "records.keep_frac=0.1"]
_SEEDS = ("records.seed", "train.seed", "generate.seed", "evaluate.seed")


def make_overrides(epsilon: int, seed: int) -> list[str]:
    """What a run changes of the config. One seed of every kind; noise and sampling have a secret key of their own."""
    overrides = [*(f"{name}={seed}" for name in _SEEDS), f"privacy.target_epsilon={epsilon}"]
    if epsilon < 8:
        return [*overrides, "train.arms=[with_dp]"]
    return [*overrides, "evaluate.metrics=[default, downstream_llm_accuracy_score]", f"evaluate.downstream_seeds=[{seed}]"]


def make_run(epsilon: int, seed: int, out: Path, more: list[str]) -> dict[str, Any]:
    """One run from start to end, or from where it was stopped."""
    run_stages(load_config(CONFIG, [*make_overrides(epsilon, seed), *more]), out)
    return {"script": "benchmarks/reference.py", "epsilon": epsilon, "seed": seed, **environment(PACKAGES), **describe_machine(), **collect(RunDir(out), None)}


def read_results() -> dict[str, dict[str, Any]]:
    """Of every finished run, by its name, those at epsilon 8 first."""
    files = {f"{epsilon}-{seed}": RESULTS / f"{epsilon}-{seed}.json" for epsilon, seed in RUNS}
    return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.is_file()}


@dataclass(frozen=True)
class Target:
    """One figure that the run at epsilon 8 must reach."""

    name: str
    metric: str
    combine: Callable[[dict[str, float]], float]
    """Arm -> value of the metric, to the figure; KeyError or ZeroDivisionError where an arm that it needs is missing or says nothing."""
    bound: float
    at_least: bool = False

    def read(self, metrics: list[dict[str, Any]]) -> float | None:
        """The figure of a run, or None where it was not computed."""
        try:
            return self.combine({row["arm"]: row["value"] for row in metrics if row["name"] == self.metric})
        except (KeyError, ZeroDivisionError):
            return None

    def is_reached(self, figure: float) -> bool:
        return figure >= self.bound if self.at_least else figure <= self.bound


def _of_dp(values: dict[str, float]) -> float:
    return values["with_dp"]


def _lost(values: dict[str, float]) -> float:
    return values["real"] - values["with_dp"]


TARGETS = (
    Target("accuracy lost, TF-IDF classifier (train on synthetic, test on real)", "tstr_accuracy_score", _lost, 0.02),
    Target("accuracy lost, tuned language model", "downstream_llm_accuracy_score", _lost, 0.02),
    Target("MAUVE, with DP over without", "mauve_score", lambda values: values["with_dp"] / values["no_dp"], 0.9, at_least=True),
    Target("Fréchet distance, synthetic over real against real", "frechet_distance", lambda values: values["with_dp"] / values["real"], 4.0),
    Target("Jensen-Shannon divergence of words", "jensen_shannon_divergence", _of_dp, 0.10),
    Target("Jaccard of the 20 most important features", "feature_importance_jaccard_score_20", _of_dp, 0.5, at_least=True),
    Target("well-formed records", "well_formed_frac", _of_dp, 0.95, at_least=True),
    Target("texts that repeat another of their set", "repeated_in_set_frac", _of_dp, 0.001),
    Target("personal values replayed", "replayed_pii_num", _of_dp, 0.0),
)


def format_targets(results: dict[str, dict[str, Any]]) -> list[str]:
    """Each target with its figure in every run at epsilon 8, and their median."""
    runs = {name: result["metrics"] for name, result in results.items() if result["epsilon"] == 8}
    lines = [f"| figure | wanted | median | {' | '.join(f'seed {name[2:]}' for name in runs)} |", f"| --- | --- | --- |{' --- |' * len(runs)}"]
    for target in TARGETS:
        figures = [target.read(metrics) for metrics in runs.values()]
        found = [figure for figure in figures if figure is not None]
        median = statistics.median(found) if found else None
        verdict = "not measured" if median is None else f"{median:.3f}, {'reached' if target.is_reached(median) else 'missed'}"
        cells = ["" if figure is None else f"{figure:.3f}" for figure in figures]
        lines.append(f"| {target.name} | {'at least' if target.at_least else 'at most'} {target.bound:g} | {verdict} | {' | '.join(cells)} |")
    return lines


def format_epsilons(results: dict[str, dict[str, Any]]) -> list[str]:
    """The same metrics at every epsilon, the first seed, and without DP."""
    columns = {f"epsilon {result['epsilon']}": (result["metrics"], "with_dp") for name, result in results.items() if name.endswith("-1")}
    if "8-1" in results:
        columns |= {"no DP": (results["8-1"]["metrics"], "no_dp"), "real": (results["8-1"]["metrics"], "real")}
    lines = [f"| metric | {' | '.join(columns)} |", f"| --- |{' --- |' * len(columns)}"]
    for name in dict.fromkeys(target.metric for target in TARGETS):
        values = [next((row["value"] for row in metrics if (row["name"], row["arm"]) == (name, arm)), None) for metrics, arm in columns.values()]
        lines.append(f"| `{name}` | {' | '.join('' if value is None else f'{value:.3f}' for value in values)} |")
    return lines


def write_tables(results: dict[str, dict[str, Any]]) -> None:
    """Into docs/reference.md."""
    replace_between_markers(DOCUMENT, "reference:targets", format_targets(results))
    replace_between_markers(DOCUMENT, "reference:epsilons", format_epsilons(results))


def summarise(results: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Median over the runs at epsilon 8 of each target's figure."""
    runs = [result["metrics"] for result in results.values() if result["epsilon"] == 8]
    figures = {target.name: [figure for metrics in runs if (figure := target.read(metrics)) is not None] for target in TARGETS}
    return {name: round(statistics.median(found), 4) for name, found in figures.items() if found}


def main() -> int:
    """Makes the runs that are not finished, and the tables of those that are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small run, no result file")
    add_arguments(parser, parts=", ".join(f"{epsilon}-{seed}" for epsilon, seed in RUNS))
    args = parser.parse_args()
    if not Path(str(load_config(CONFIG).data.reviews)).is_file():
        print(f"{load_config(CONFIG).data.reviews}: the clothing reviews are not here; nothing was run", file=sys.stderr)
        print(json.dumps({}))
        return 0
    if args.quick:
        with tempfile.TemporaryDirectory() as folder:
            # One step does not teach the form: the example in this prompt shows it.
            template = load_config(CLOTHING_SMALL).records.prompt_template
            result = make_run(1, 1, Path(folder) / "run", [*QUICK_RUN, f"records.prompt_template={json.dumps(template)}"])
        print(json.dumps(summarise({"8-1": {**result, "epsilon": 8}})))
        return 0
    deadline = time.monotonic() + 60 * args.max_minutes
    for epsilon, seed in RUNS:
        name = f"{epsilon}-{seed}"
        if (args.only and name not in args.only) or (RESULTS / f"{name}.json").is_file():
            continue
        if time.monotonic() > deadline:
            return WORK_IS_LEFT
        write_json(RESULTS / f"{name}.json", make_run(epsilon, seed, ROOT / "runs" / "reference" / name, []))
        write_tables(read_results())
    print(json.dumps(summarise(read_results())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
