"""The metrics as the page shows them: one row a metric, one cell an arm, in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from penname.report.figures import CONDITIONS
from penname.report.metric_labels import group_metric, is_headline, label_metric
from penname.schemas import FAMILIES, MetricResult

FAMILY_INTROS = {
    "privacy": "Does the synthetic text repeat what only the training data holds? These tests look for leaks; passing them proves "
    "nothing. The guarantee is the epsilon above. `penname audit` looks harder, with planted secrets.",
    "fidelity": "How close is the synthetic text, as a whole, to real reviews?",
    "utility": "Can the synthetic reviews do the work of real ones?",
    "human": "What do people see when they read it?",
}


@dataclass(frozen=True)
class MetricCell:
    """The value of one metric for one arm."""

    value: float
    ci95: tuple[float, float] | None
    reference: float | None


@dataclass(frozen=True)
class MetricRow:
    """One metric over all arms."""

    name: str
    label: str
    group: str
    """What the metric is about, as a heading within its family; empty where the family has none."""
    direction: str
    visibility: str
    source: str
    num_records: str
    cells: dict[str, MetricCell]
    reference: float | None
    """The reference that all arms share; None where there is none or it differs from arm to arm."""
    references_differ: bool


@dataclass(frozen=True)
class MetricTable:
    """One family of metrics."""

    family: str
    intro: str
    arms: list[str]
    rows: list[MetricRow]


def build_metric_tables(metrics: Sequence[MetricResult]) -> list[MetricTable]:
    """Groups results by family and metric, in the order in which they were computed.

    Args:
      metrics: Of all families and arms. PRIVATE.
    """
    tables = []
    for family in FAMILIES:
        by_name: dict[str, list[MetricResult]] = {}
        for metric in metrics:
            if metric.family == family:
                by_name.setdefault(metric.name, []).append(metric)
        rows = [_build_row(name, results) for name, results in by_name.items()]
        if rows:
            tables.append(MetricTable(family, FAMILY_INTROS[family], order_arms({arm for row in rows for arm in row.cells}), rows))
    return tables


def order_arms(arms: set[str]) -> list[str]:
    """Real, no DP, with DP, then any others by name."""
    return [arm for arm in CONDITIONS if arm in arms] + sorted(arms - set(CONDITIONS))


def _build_row(name: str, results: Sequence[MetricResult]) -> MetricRow:
    references = {result.reference for result in results} - {None}
    sizes = sorted({result.num_records for result in results})
    return MetricRow(
        name=name,
        label=label_metric(name),
        group=group_metric(name),
        direction=results[0].direction,
        visibility="PRIVATE" if any(result.visibility == "PRIVATE" for result in results) else "RELEASABLE",
        source=results[0].source,
        num_records=f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}",
        cells={result.arm: MetricCell(result.value, result.ci95, result.reference) for result in results},
        reference=next(iter(references)) if len(references) == 1 else None,
        references_differ=len(references) > 1,
    )


MAX_DRAWN = 12
"""Metrics of a family in its figure; the table has them all."""


def family_for_figure(table: MetricTable) -> list[dict[str, Any]]:
    """A family in the form that `figures.draw_metric_family` draws: all of it, or of a long one the metrics to look at first."""
    rows = table.rows if len(table.rows) <= MAX_DRAWN else [row for row in table.rows if is_headline(row.name)] or table.rows
    return [
        {
            "label": row.label,
            "direction": row.direction,
            "values": {arm: {"value": c.value, "ci95": c.ci95, "reference": c.reference} for arm, c in row.cells.items()},
        }
        for row in rows[:MAX_DRAWN]
    ]


def format_number(value: float) -> str:
    """A figure with as many digits as one reads at a glance.

    >>> [format_number(v) for v in (0.78125, 51.66, 1234.5, 0.00042, 3, 0)]
    ['0.781', '51.7', '1,234', '0.00042', '3', '0']
    """
    if value == 0:
        return "0"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{value:,.0f}"
    if abs(value) < 0.001:
        return f"{value:.2g}"
    if abs(value) < 10:
        return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"
    return f"{value:.1f}" if abs(value) < 1000 else f"{value:,.0f}"
