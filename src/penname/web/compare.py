"""Two runs side by side: promises, settings that differ, and every metric with whether its intervals overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from penname.report.metric_tables import MetricCell, label_metric, order_arms
from penname.schemas import FAMILIES, MetricResult


@dataclass(frozen=True)
class ComparedMetric:
    """One metric of one arm in both runs. PRIVATE."""

    family: str
    name: str
    label: str
    arm: str
    direction: str
    first: MetricCell | None
    second: MetricCell | None
    verdict: str
    """`better`, `worse` or `differs` (the second, seen from the first) where the intervals do not touch; `alike` where they do; else empty."""


def compare_metrics(first: list[MetricResult], second: list[MetricResult]) -> dict[str, list[ComparedMetric]]:
    """Family -> every metric and arm that one of the runs has."""
    sides = [{(metric.family, metric.name, metric.arm): metric for metric in metrics} for metrics in (first, second)]
    names = dict.fromkeys((metric.family, metric.name) for metric in [*first, *second])
    compared: dict[str, list[ComparedMetric]] = {family: [] for family in FAMILIES}
    for family, name in names:
        for arm in order_arms({key[2] for side in sides for key in side if key[:2] == (family, name)}):
            both = [side.get((family, name, arm)) for side in sides]
            one, two = (MetricCell(metric.value, metric.ci95, metric.reference) if metric else None for metric in both)
            direction = next(metric.direction for metric in both if metric)
            compared[family].append(ComparedMetric(family, name, label_metric(name), arm, direction, one, two, _judge(one, two, direction)))
    return {family: rows for family, rows in compared.items() if rows}


def _judge(first: MetricCell | None, second: MetricCell | None, direction: str) -> str:
    if first is None or second is None or first.ci95 is None or second.ci95 is None:
        return ""
    if first.ci95[0] <= second.ci95[1] and second.ci95[0] <= first.ci95[1]:
        return "alike"
    if direction == "none":
        return "differs"
    return "better" if (second.value > first.value) == (direction == "higher") else "worse"


def compare_settings(first: dict[str, Any], second: dict[str, Any], prefix: str = "") -> list[tuple[str, str, str]]:
    """Key and both values of every setting that differs.

    >>> compare_settings({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}})
    [('a.c', '2', '3')]
    """
    found: list[tuple[str, str, str]] = []
    for key in dict.fromkeys([*first, *second]):
        one, two = first.get(key), second.get(key)
        if isinstance(one, dict) and isinstance(two, dict):
            found += compare_settings(one, two, prefix=f"{prefix}{key}.")
        elif one != two:
            found.append((f"{prefix}{key}", "–" if one is None else str(one), "–" if two is None else str(two)))
    return found
