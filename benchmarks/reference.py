"""The reference run: configs/reviews_eps8.yaml with three seeds, and with one at epsilon 4 and 1, against what it must reach; and the other roads beside it.

  python benchmarks/reference.py [--quick] [--only RUN ...] [--max-minutes M]

A run is named by epsilon and seed: 8-1, 8-2, 8-3, 4-1, 1-1; or by what is other. no_dp-2, no_dp-3: the arm without DP of these seeds. users-1:
configs/marketplace_users_eps8.yaml, the fictional marketplace with users as units. warm-1: from an adapter that was trained on that marketplace.
evolution-1 and prediction-1: the same promise without training, in about the same time, with clothing_small.yaml's example in the prompt, since an
untrained model does not know the form. A run stands in runs/reference/ and goes on where it was stopped, as `penname run` does; each that is finished
leaves results/reference/RUN.json, and the tables of docs/reference.md and docs/deciding.md are written anew from all that are there. 8-1 makes both arms,
the others one, so that each ends within two hours or so; those at epsilon 8 that train on the reviews alone tune a language model on each set
(downstream_llm_accuracy_score). --quick makes one small run in a temporary folder and writes nothing. Ends with one
line of JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
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
USERS_CONFIG = ROOT / "configs" / "marketplace_users_eps8.yaml"
RESULTS = ROOT / "benchmarks" / "results" / "reference"
DOCUMENT, DECISION_DOCUMENT = ROOT / "docs" / "reference.md", ROOT / "docs" / "deciding.md"
PACKAGES = ("penname", "torch", "transformers", "peft", "trl", "dp-accounting", "scikit-learn", "numpy")
FIGURES = ("privacy_evaluation_result", "fidelity_evaluation_result", "utility_evaluation_result_1", "utility_confusion", "training_loss")
ROADS = {
    "dp_sgd": [],
    # All units vote in every round.
    "evolution": ["train.method=private_evolution", "train.num_steps=10", "train.expected_batch_size=100000", "evolve.num_candidates=1000"],
    "prediction": ["train.method=private_prediction", "predict.num_texts=1000", "predict.max_new_tokens=96"],
    "warm": ["train.start_adapter_is_public=true"],
    "no_dp": ["train.arms=[no_dp]"],
    "users": [],
}
_UNTRAINED = {"evolution": "evolve.seed", "prediction": "predict.seed"}
"""Roads without training, and their own seed."""
QUICK_RUN = [*QUICK, "records.keep_frac=0.1"]
_SEEDS = ("records.seed", "train.seed", "generate.seed", "evaluate.seed")


@dataclass(frozen=True)
class Run:
    """What is run."""

    epsilon: int
    seed: int
    road: str = "dp_sgd"

    @property
    def name(self) -> str:
        return f"{self.epsilon if self.road == 'dp_sgd' else self.road}-{self.seed}"

    @property
    def overrides(self) -> list[str]:
        """What it changes of the config. One seed of every kind; noise and sampling have a secret key of their own."""
        seeds = [*_SEEDS, _UNTRAINED[self.road]] if self.road in _UNTRAINED else _SEEDS
        overrides = [*(f"{name}={self.seed}" for name in seeds), f"privacy.target_epsilon={self.epsilon}", *ROADS[self.road]]
        if self.road in ("users", "no_dp"):
            return overrides
        if self.road in _UNTRAINED:
            overrides.append(f"records.prompt_template={json.dumps(load_config(CLOTHING_SMALL).records.prompt_template)}")
        if self.epsilon < 8 or self.road != "dp_sgd":
            return [*overrides, "train.arms=[with_dp]"]
        arms = [] if self.seed == 1 else ["train.arms=[with_dp]"]
        return [*overrides, *arms, "evaluate.metrics=[default, downstream_llm_accuracy_score]", f"evaluate.downstream_seeds=[{self.seed}]"]

    def make(self, out: Path, more: list[str]) -> dict[str, Any]:
        """Runs it from start to end, or from where it was stopped."""
        if self.road == "warm":
            more = [*more, f"train.start_adapter={make_public_adapter(out.with_name('warm_start'))}"]
        run_stages(load_config(USERS_CONFIG if self.road == "users" else CONFIG, [*self.overrides, *more]), out)
        about = {"epsilon": self.epsilon, "seed": self.seed, "road": self.road}
        return {"script": "benchmarks/reference.py", **about, **environment(PACKAGES), **describe_machine(), **collect(RunDir(out), None)}


def make_public_adapter(out: Path) -> Path:
    """Trains without privacy on the fictional marketplace, in the form of the clothing reviews; what a warm start begins with."""
    template = json.dumps(load_config(CONFIG).records.prompt_template)
    config = load_config(USERS_CONFIG, [f"records.prompt_template={template}", "train.arms=[no_dp]"])
    run_stages(config, out, ("ingest", "records", "train"))
    return RunDir(out).path("adapter_no_dp")


OTHER_ROADS = ("evolution", "prediction", "warm", "users")
RUNS = (*(Run(8, seed) for seed in (1, 2, 3)), Run(4, 1), Run(1, 1), *(Run(8, 1, road) for road in OTHER_ROADS), *(Run(8, seed, "no_dp") for seed in (2, 3)))


def read_results() -> dict[str, dict[str, Any]]:
    """Of every finished run, by its name, those at epsilon 8 first."""
    files = {run.name: RESULTS / f"{run.name}.json" for run in RUNS}
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


def _collect_epsilon_8(results: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The metrics of every run at epsilon 8, with those of the arm without DP of its seed where that is a run of its own."""
    return {
        name: result["metrics"] + [row for row in results.get(f"no_dp-{name[2:]}", {"metrics": []})["metrics"] if row["arm"] == "no_dp"]
        for name, result in results.items()
        if name.startswith("8-")
    }


def format_targets(results: dict[str, dict[str, Any]]) -> list[str]:
    """Each target with its figure in every run at epsilon 8, and their median."""
    runs = _collect_epsilon_8(results)
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
    columns = {f"epsilon {results[name]['epsilon']}": (results[name]["metrics"], "with_dp") for name in ("8-1", "4-1", "1-1") if name in results}
    if "8-1" in results:
        columns |= {"no DP": (results["8-1"]["metrics"], "no_dp"), "real": (results["8-1"]["metrics"], "real")}
    return _format_metrics(columns)


def format_roads(results: dict[str, dict[str, Any]]) -> list[str]:
    """Training, votes and words at the same promise, and how long each took."""
    found = {run.road: results[run.name] for run in RUNS if (run.epsilon, run.seed) == (8, 1) and run.road != "users" and run.name in results}
    columns = {f"`{road}`": (result["metrics"], "with_dp") for road, result in found.items()}
    minutes = " | ".join(f"{_count_minutes(result):.0f}" for result in found.values())
    return [*_format_metrics(columns), f"| minutes of learning and writing, an arm | {minutes} |"]


_OF_USERS = (
    "facts_correct_frac", "facts_contradicted_frac", "facts_known_frac", "tstr_accuracy_score", "jensen_shannon_divergence", "frechet_distance", "mauve_score",
    "well_formed_frac", "closer_to_train_frac", "replayed_pii_num",
)  # fmt: skip
"""What is shown of the marketplace."""


def format_users(results: dict[str, dict[str, Any]]) -> list[str]:
    """The marketplace, arm by arm."""
    if "users-1" not in results:
        return ["Not measured."]
    metrics = results["users-1"]["metrics"]
    arms = {"real": "real", "no DP": "no_dp", "epsilon 8": "with_dp", "untrained model": "base"}
    lines = [f"| metric | {' | '.join(arms)} |", f"| --- |{' --- |' * len(arms)}"]
    for name in _OF_USERS:
        values = [_find(metrics, name, arm) for arm in arms.values()]
        lines.append(f"| `{name}` | {' | '.join('' if value is None else f'{value:.3f}' for value in values)} |")
    return lines


def _count_minutes(result: dict[str, Any]) -> float:
    """Of train and generate, shared evenly by the arms."""
    return sum(result["stage_secs"][stage] for stage in ("train", "generate")) / len(result["config"]["train"]["arms"]) / 60


_FOR_DECIDERS = (
    ("share of star ratings that a classifier trained on them gets right (four and more, or less)", "tstr_accuracy_score", ".3f"),
    ("how like the real texts they read, 1 is alike (MAUVE)", "mauve_score", ".2f"),
    ("distance of the words used, 0 is the same", "jensen_shannon_divergence", ".2f"),
    ("records that have the form of a review", "well_formed_frac", ".1%"),
    ("closer to a record that was trained on than to one that was not; 0.5 is chance", "closer_to_train_frac", ".2f"),
    ("names, numbers and addresses of real records that come back", "replayed_pii_num", ".0f"),
)
"""What a page for people who decide shows: words, metric, format."""


def format_decision(results: dict[str, dict[str, Any]]) -> list[str]:
    """Epsilon 1, 4, 8, none, and the real reviews, in words."""
    columns = {f"epsilon {name[0]}": (results[name]["metrics"], "with_dp") for name in ("1-1", "4-1", "8-1") if name in results}
    if "8-1" in results:
        columns |= {"no DP": (results["8-1"]["metrics"], "no_dp"), "real reviews": (results["8-1"]["metrics"], "real")}
    lines = [f"| | {' | '.join(columns)} |", f"| --- |{' --- |' * len(columns)}"]
    for words, metric, form in _FOR_DECIDERS:
        values = [_find(metrics, metric, arm) for metrics, arm in columns.values()]
        lines.append(f"| {words} | {' | '.join('' if value is None else format(value, form) for value in values)} |")
    return lines


def _find(metrics: list[dict[str, Any]], name: str, arm: str) -> float | None:
    return next((row["value"] for row in metrics if (row["name"], row["arm"]) == (name, arm)), None)


def _format_metrics(columns: dict[str, tuple[list[dict[str, Any]], str]]) -> list[str]:
    """Every metric of the targets, a column a run and arm."""
    lines = [f"| metric | {' | '.join(columns)} |", f"| --- |{' --- |' * len(columns)}"]
    for name in dict.fromkeys(target.metric for target in TARGETS):
        values = [_find(metrics, name, arm) for metrics, arm in columns.values()]
        lines.append(f"| `{name}` | {' | '.join('' if value is None else f'{value:.3f}' for value in values)} |")
    return lines


def copy_figures(run_dir: RunDir) -> None:
    """The report's pictures that docs/reference.md shows; the reviews are CC0."""
    for name in FIGURES:
        shutil.copyfile(run_dir.path("figures") / f"{name}.png", DOCUMENT.parent / "figures" / f"reference_{name}.png")


def write_tables(results: dict[str, dict[str, Any]]) -> None:
    """Into docs/reference.md and docs/deciding.md."""
    replace_between_markers(DECISION_DOCUMENT, "reference:decision", format_decision(results))
    replace_between_markers(DOCUMENT, "reference:targets", format_targets(results))
    replace_between_markers(DOCUMENT, "reference:epsilons", format_epsilons(results))
    replace_between_markers(DOCUMENT, "reference:roads", format_roads(results))
    replace_between_markers(DOCUMENT, "reference:users", format_users(results))


def summarise(results: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Median over the runs at epsilon 8 of each target's figure."""
    runs = _collect_epsilon_8(results).values()
    figures = {target.name: [figure for metrics in runs if (figure := target.read(metrics)) is not None] for target in TARGETS}
    return {name: round(statistics.median(found), 4) for name, found in figures.items() if found}


def main() -> int:
    """Makes the runs that are not finished, and the tables of those that are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small run, no result file")
    add_arguments(parser, parts=", ".join(run.name for run in RUNS))
    args = parser.parse_args()
    if not Path(str(load_config(CONFIG).data.reviews)).is_file():
        print(f"{load_config(CONFIG).data.reviews}: the clothing reviews are not here; nothing was run", file=sys.stderr)
        print(json.dumps({}))
        return 0
    if args.quick:
        with tempfile.TemporaryDirectory() as folder:
            # One step does not teach the form: the example in this prompt shows it.
            template = load_config(CLOTHING_SMALL).records.prompt_template
            result = Run(1, 1).make(Path(folder) / "run", [*QUICK_RUN, f"records.prompt_template={json.dumps(template)}"])
        print(json.dumps(summarise({"8-1": result})))
        return 0
    deadline = time.monotonic() + 60 * args.max_minutes
    for run in RUNS:
        if (args.only and run.name not in args.only) or (RESULTS / f"{run.name}.json").is_file():
            continue
        if time.monotonic() > deadline:
            return WORK_IS_LEFT
        write_json(RESULTS / f"{run.name}.json", run.make(ROOT / "runs" / "reference" / run.name, []))
        write_tables(read_results())
        if run.name == "8-1":
            copy_figures(RunDir(ROOT / "runs" / "reference" / run.name))
    print(json.dumps(summarise(read_results())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
