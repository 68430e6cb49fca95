"""Which figures of utility a run has, each with one sentence that says what it shows in this run, and the numbers behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penname.errors import RunDirError
from penname.report import utility_figures
from penname.report.figures import condition_style
from penname.report.metric_tables import format_number, order_arms
from penname.report.untrusted_text import spell_out_hidden
from penname.run_dir import ARTEFACTS, RunDir, read_json
from penname.schemas import RATINGS, MetricResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ACCURACIES = {
    "tstr_accuracy_score": "Good or bad review: words",
    "tstr_accuracy_score_embeddings": "Good or bad review: sentence embeddings",
    "tstr_accuracy_score_boosting": "Good or bad review: gradient boosting",
    "downstream_llm_accuracy_score": "Rating from 1 to 5: tuned language model",
}
_TEACHERS = {"real": "real reviews", "no_dp": "synthetic ones without DP", "with_dp": "synthetic ones with DP"}


@dataclass(frozen=True)
class UtilityFigure:
    """One figure: what it is called, what it says, how it is drawn."""

    name: str
    title: str
    caption: str
    draw: Callable[[], Figure]
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    """The numbers behind it. PRIVATE."""


def read_figure_data(run_dir: RunDir) -> dict[str, Any]:
    """What the evaluation left for figures; empty where it left nothing.

    Raises:
      RunDirError: the file is damaged.
    """
    path = run_dir.root / ARTEFACTS["figure_data"].path
    values = read_json(path) if path.is_file() else {}
    if not isinstance(values, dict):
        raise RunDirError(f"{path}: is damaged; run `penname evaluate` again")
    return values


def plan_utility_figures(metrics: Sequence[MetricResult], data: Mapping[str, Any]) -> list[UtilityFigure]:
    """The figures that there are numbers for.

    Args:
      metrics: All results of the run. PRIVATE.
      data: Of `read_figure_data`. PRIVATE.
    Raises:
      RunDirError: the data are not in the form in which they were written.
    """
    try:
        return [*_plan_accuracies(metrics), *_plan_confusion(data), *_plan_importance(metrics, data), *_plan_augmentation(data)]
    except (KeyError, TypeError, IndexError, AttributeError, ValueError):
        raise RunDirError(f"{ARTEFACTS['figure_data'].path}: is damaged; run `penname evaluate` again") from None


def _label(arm: str) -> str:
    return condition_style(arm).label


def _name_set(arm: str) -> str:
    return _TEACHERS.get(arm, _label(arm))


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _with_interval(value: float, interval: Sequence[float] | None) -> str:
    return _percent(value) if interval is None else f"{_percent(value)} ({100 * interval[0]:.0f} to {100 * interval[1]:.0f})"


def _plan_accuracies(metrics: Sequence[MetricResult]) -> list[UtilityFigure]:
    groups = []
    for name, label in _ACCURACIES.items():
        values = {result.arm: {"value": result.value, "ci95": result.ci95} for result in metrics if result.name == name}
        if values:
            groups.append({"label": label, "values": values, "sentiment": name.startswith("tstr")})
    if not groups:
        return []
    guess = next((result.value for result in metrics if result.name == "majority_accuracy_score"), None)
    arms = order_arms({arm for group in groups for arm in group["values"]})
    rows = [[group["label"], *(_with_interval(**_as_arguments(group["values"][arm])) if arm in group["values"] else "–" for arm in arms)] for group in groups]
    return [
        UtilityFigure(
            "utility_accuracies",
            "Trained on each set, tested on real reviews",
            _say_accuracies(groups, guess),
            lambda: utility_figures.draw_accuracies(groups, guess=guess),
            ["", *(_label(arm) for arm in arms)],
            rows,
        )
    ]


def _as_arguments(cell: Mapping[str, Any]) -> dict[str, Any]:
    return {"value": cell["value"], "interval": cell["ci95"]}


def _say_accuracies(groups: Sequence[Mapping[str, Any]], guess: float | None) -> str:
    """Of the last group, which is the strongest learner that was tried."""
    group = groups[-1]
    learner = "A language model" if group["label"].startswith("Rating") else "A classifier"
    task = "the rating" if group["label"].startswith("Rating") else "whether the rating is good"
    taught = [f"{_percent(group['values'][arm]['value'])} after learning from {words}" for arm, words in _TEACHERS.items() if arm in group["values"]]
    line = f"{learner} tells {task} of real reviews right: {', '.join(taught)}." if taught else ""
    untuned = f" Untuned: {_percent(group['values']['base']['value'])}." if "base" in group["values"] else ""
    dashed = f" Dashed: always saying the commoner answer, {_percent(guess)}." if guess is not None and any(one["sentiment"] for one in groups) else ""
    return f"{line}{untuned}{dashed} Bars on bars are 95 % intervals.".strip()


def _plan_confusion(data: Mapping[str, Any]) -> list[UtilityFigure]:
    confusion = data.get("downstream_confusion")
    if not confusion:
        return []
    counts = confusion["counts"]
    arms = ["base", *order_arms(set(counts) - {"base"})] if "base" in counts else order_arms(set(counts))
    rows = []
    for rating in RATINGS:
        own = {arm: counts[arm][rating - 1] for arm in arms}
        shares = ((own[arm][rating - 1] / sum(own[arm])) if sum(own[arm]) else None for arm in arms)
        rows.append([f"{rating} ★", *("–" if share is None else _percent(share) for share in shares)])
    near = {arm: _count_near(counts[arm]) for arm in arms}
    worst = min(near, key=lambda arm: near[arm])
    caption = (
        f"Of {confusion['num_test']:,} real reviews: the share of each true rating that got each rating, after tuning on {confusion['num_train']:,} reviews "
        f"of each set. {_label(worst)} is furthest off: {_percent(near[worst])} within one star. The table shows the diagonal."
    )
    return [
        UtilityFigure(
            "utility_confusion",
            "Ratings given by a tuned language model",
            caption,
            lambda: utility_figures.draw_confusion({arm: counts[arm] for arm in arms}),
            ["True rating", *(_label(arm) for arm in arms)],
            rows,
        )
    ]


def _count_near(counts: Sequence[Sequence[int]]) -> float:
    total = sum(map(sum, counts))
    return sum(count for true, row in enumerate(counts) for given, count in enumerate(row) if abs(true - given) <= 1) / total


def _plan_importance(metrics: Sequence[MetricResult], data: Mapping[str, Any]) -> list[UtilityFigure]:
    importance = data.get("feature_importance")
    if not importance or not importance["features"]:
        return []
    features = [str(name) for name in importance["features"]]
    # What the agreement is measured against is train; the other real sample is its reference, and stands in the table of metrics.
    values = {("real" if name == "train" else name): kinds["shap"] for name, kinds in importance["sets"].items() if name != "real"}
    arms = order_arms(set(values))
    shared = {result.arm: result for result in metrics if result.name == "feature_importance_jaccard_score_20"}
    spoken = [f"{_percent(shared[arm].value)} with {_name_set(arm)}" for arm in order_arms(set(shared)) if arm != "real"]
    caption = "Words and attributes that tell good reviews from bad ones, the strongest of any set."
    if spoken and "real" in shared:
        caption += f" Of the 20 strongest, real reviews share {', '.join(spoken)}, and {_percent(shared['real'].value)} with other real reviews."
    return [
        UtilityFigure(
            "utility_feature_importance",
            "What speaks for a good rating",
            caption,
            lambda: utility_figures.draw_feature_importance(features, values),
            ["Word or attribute", *(_label(arm) for arm in arms)],
            [[spell_out_hidden(name), *(format_number(values[arm][place]) for arm in arms)] for place, name in enumerate(features)],
        )
    ]


def _plan_augmentation(data: Mapping[str, Any]) -> list[UtilityFigure]:
    augmentation = data.get("augmentation")
    if not augmentation:
        return []
    points = sorted(augmentation["points"].values(), key=lambda point: point["num_real"])
    arms = order_arms({arm for point in points for arm in point["arms"]})
    few, alone = points[0], points[0]["arms"]["real"]["value"]
    changes = [f"{_name_set(arm)} {100 * (few['arms'][arm]['value'] - alone):+.0f} points" for arm in arms if arm != "real"]
    caption = (
        f"A classifier of good and bad reviews learns from some real reviews, alone and with {augmentation['num_added']:,} synthetic ones. "
        f"With {few['num_real']:,} real reviews it is right on {_percent(alone)}; adding others changes that: {', '.join(changes)}."
    )
    names = {arm: "Real alone" if arm == "real" else f"Real + {_label(arm)}" for arm in arms}
    return [
        UtilityFigure(
            "utility_augmentation",
            "Synthetic reviews added to real ones",
            caption,
            lambda: utility_figures.draw_augmentation(points),
            ["Real reviews", *names.values()],
            [
                [f"{point['num_real']:,}", *(_with_interval(**_as_arguments(point["arms"][arm])) if arm in point["arms"] else "–" for arm in arms)]
                for point in points
            ],
        )
    ]
