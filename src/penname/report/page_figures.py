"""Which figures a run has, with caption, description and the numbers behind each."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penname.report import figures
from penname.report.fidelity_page import plan_fidelity_figures, plan_human_figures
from penname.report.figures import CONDITIONS
from penname.report.inputs import RunInputs, finite_or_none
from penname.report.metric_tables import MetricTable, family_for_figure, format_number
from penname.report.untrusted_text import spell_out_hidden
from penname.report.utility_page import plan_utility_figures
from penname.schemas import RATINGS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_GRADIENT_KEYS = ("clipped_frac", "sum_norm", "update_norm")


@dataclass(frozen=True)
class PageFigure:
    """One figure as it stands on the page."""

    name: str
    title: str
    caption: str
    svg: str
    columns: list[str]
    rows: list[list[str]]
    """The numbers behind the figure, for who cannot see it; empty where a table on the page holds them already."""
    family: str = ""
    """The family of metrics that it stands under; empty: a section of its own."""


@dataclass(frozen=True)
class _Plan:
    name: str
    title: str
    caption: str
    draw: Callable[[], Figure]
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    family: str = ""


_ORIGINAL_NAMES = {"metrics_privacy": "privacy_evaluation_result", "utility_accuracies": "utility_evaluation_result_1"}
"""Figures that the system which penname set out from has too have their names there; the others of those are named where they are planned."""


def name_family_figure(family: str) -> str:
    """The name of the figure of a family's metrics."""
    return _ORIGINAL_NAMES.get(f"metrics_{family}", f"metrics_{family}")


def draw_page_figures(inputs: RunInputs, tables: Sequence[MetricTable], folder: Path) -> dict[str, PageFigure]:
    """Draws every figure that the run has numbers for, writes PNG and SVG into `folder`, and returns them by name.

    Args:
      inputs: The run. PRIVATE.
      tables: Metrics by family; each becomes a figure, `name_family_figure`.
      folder: An existing folder. PRIVATE: the figures show real reviews' distributions.
    """
    drawn = {}
    for plan in [*_plan_metrics(tables), *_plan_family_figures(inputs), *_plan_review_figures(inputs), *_plan_training_figures(inputs)]:
        svg = figures.save_figure(plan.draw(), folder, plan.name).read_text(encoding="utf-8")
        inline = figures.inline_svg(svg, plan.name, f"{plan.title}. {plan.caption}")
        drawn[plan.name] = PageFigure(plan.name, plan.title, plan.caption, inline, list(plan.columns), [list(row) for row in plan.rows], plan.family)
    return drawn


def _plan_metrics(tables: Sequence[MetricTable]) -> list[_Plan]:
    caption = "Marker: value. Bar: 95 % interval. Dashed line, or a short upright bar for each arm: the reference, what perfect data would score."
    part = " These are the ones to look at first; the table has all."

    def plan(table: MetricTable) -> _Plan:
        title = f"{table.family.capitalize()} metrics"
        shown = family_for_figure(table)
        said = caption + (part if len(shown) < len(table.rows) else "")
        return _Plan(name_family_figure(table.family), title, said, lambda: figures.draw_metric_family(shown), family=table.family)

    return [plan(table) for table in tables]


def _plan_family_figures(inputs: RunInputs) -> list[_Plan]:
    """What a family shows beside its metrics."""
    planned: dict[str, Sequence[Any]] = {
        "fidelity": plan_fidelity_figures(inputs.figure_data),
        "utility": plan_utility_figures(inputs.metrics, inputs.figure_data),
        "human": plan_human_figures(inputs.human_summary),
    }
    return [
        _Plan(_ORIGINAL_NAMES.get(str(found.name), str(found.name)), found.title, found.caption, found.draw, found.columns, found.rows, family)
        for family, figures_of_family in planned.items()
        for found in figures_of_family
    ]


def _plan_review_figures(inputs: RunInputs) -> list[_Plan]:
    sets = {name: inputs.review_sets[name] for name in CONDITIONS if name in inputs.review_sets and inputs.review_sets[name].num_records}
    if not sets:
        return []
    labels = [CONDITIONS[name].label for name in sets]
    words = {name: found.num_words for name, found in sets.items()}
    ratings = {name: dict(found.ratings) for name, found in sets.items()}
    categories = {name: _shown_categories(found.categories) for name, found in sets.items()}
    names, shares = figures.pool_category_shares(categories)
    return [
        _Plan(
            "review_lengths",
            "Words in a review",
            "Share of the reviews by length, and below it a box for each condition: the middle half, a line from the 5th to the 95th "
            "percentile, a marker at the median.",
            lambda: figures.draw_review_lengths(words),
            ["", "Reviews", "Median words", "Mean words", "Longest"],
            [[CONDITIONS[name].label, *_describe_lengths(lengths)] for name, lengths in words.items()],
        ),
        _Plan(
            "rating_shares",
            "Ratings",
            "Share of each rating.",
            lambda: figures.draw_rating_shares(ratings),
            ["Rating", *labels],
            [[f"{r} ★", *[_percent(counts.get(r, 0) / sum(counts.values())) for counts in ratings.values()]] for r in RATINGS],
        ),
        _Plan(
            "category_shares",
            "Categories",
            "Share of each category, the most frequent ones first.",
            lambda: figures.draw_category_shares(categories),
            ["Category", *labels],
            [[name, *[_percent(shares[arm][row]) for arm in sets]] for row, name in enumerate(names)],
        ),
    ]


def _shown_categories(counts: Mapping[str, int]) -> dict[str, int]:
    shown: dict[str, int] = {}
    for name, count in counts.items():
        label = " ".join(spell_out_hidden(name).split())
        shown[label] = shown.get(label, 0) + count
    return shown


def _describe_lengths(lengths: Sequence[int]) -> list[str]:
    numbers = (len(lengths), statistics.median(lengths), statistics.fmean(lengths), max(lengths))
    return [format_number(number) for number in numbers]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _plan_training_figures(inputs: RunInputs) -> list[_Plan]:
    losses = {arm: _points(rows, "loss") for arm, rows in inputs.train_logs.items()}
    losses = {arm: points for arm, points in losses.items() if points}
    plans = []
    if losses:
        plans.append(
            _Plan(
                "training_loss",
                "Training loss",
                "Mean loss of the records drawn in each step. With DP, gradients are clipped and noise is added to their sum.",
                lambda: figures.draw_training_loss(losses),
                ["", "Steps", "First loss", "Last loss"],
                [
                    [CONDITIONS[arm].label, str(len(inputs.train_logs[arm])), format_number(points[0][1]), format_number(points[-1][1])]
                    for arm, points in losses.items()
                ],
            )
        )
    gradients = [{"step": row["step"]} | {key: finite_or_none(row.get(key)) for key in _GRADIENT_KEYS} for row in inputs.train_logs.get("with_dp", [])]
    if any(point[key] is not None for point in gradients for key in _GRADIENT_KEYS):
        plans.append(
            _Plan(
                "gradients",
                "Signal and noise with DP",
                "Above: the share of a step's units whose gradient was longer than the bound and was clipped to it. Below: the length of "
                "the clipped sum (signal), and of the same sum with noise, which is what the optimizer gets.",
                lambda: figures.draw_gradients(gradients),
            )
        )
    return plans


def _points(rows: Sequence[Mapping[str, Any]], key: str) -> list[tuple[int, float]]:
    found = [(row["step"], finite_or_none(row.get(key))) for row in rows]
    return [(step, value) for step, value in found if value is not None]
