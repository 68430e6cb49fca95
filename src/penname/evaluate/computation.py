"""Metrics of samples, one after the other: rows of `metrics.json`, what is left out, and what the report draws."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from penname.evaluate.embedding_map import place_texts
from penname.evaluate.metric import Metric
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.samples import LeftOut, Samples
from penname.progress import say, show_progress
from penname.schemas import MetricResult


def compute_metrics(samples: Samples, metrics: tuple[Metric, ...]) -> list[dict[str, Any]]:
    """Computes metrics one after the other, with progress. What these data cannot give goes to `samples.left_out`, and a line on standard error says why.

    Args:
      samples: PRIVATE.
      metrics: From the registry.
    Returns:
      list[dict]: rows of `metrics.json`, with the metric's version. PRIVATE.
    """
    from threadpoolctl import threadpool_limits

    results = []
    samples.left_out.clear()
    # One thread for numpy's matrix products: the matrices are small, and two threads that wait for each other are slower than one.
    with threadpool_limits(limits=1, user_api="blas"), show_progress("evaluate", len(metrics)) as progress:
        for metric in metrics:
            try:
                _check_columns(metric, samples)
                results += _compute_one(metric, samples)
            except LeftOutError as error:
                samples.left_out.append(LeftOut(metric.name, None, str(error)))
            progress.advance(note=metric.name)
    for left in samples.left_out:
        say(f"evaluate: {left.name} is left out{f' of {left.arm}' if left.arm else ''}: {left.reason}")
    return results


def list_left_out(samples: Samples, metrics: tuple[Metric, ...]) -> list[dict[str, Any]]:
    """What `compute_metrics` could not compute: rows with family, name, arm (None: all of them) and reason. PRIVATE."""
    families = {metric.name: metric.family for metric in metrics}
    return [{"family": families[left.name], **asdict(left)} for left in samples.left_out]


def collect_figure_data(samples: Samples) -> dict[str, Any]:
    """What the metrics left for the report to draw, and where embeddings were computed a map of them. PRIVATE."""
    if "nearest_neighbours" not in samples.for_figures:
        return samples.for_figures
    from threadpoolctl import threadpool_limits

    # One thread of every kind: for a few hundred points, threads of t-SNE mostly wait for each other.
    with threadpool_limits(limits=1):
        return {**samples.for_figures, "embedding_map": place_texts(samples)}


def _check_columns(metric: Metric, samples: Samples) -> None:
    for column in metric.columns:
        if without := samples.sets_without(column):
            raise LeftOutError(f"{', '.join(without)} {'has' if len(without) == 1 else 'have'} no {column}; give a column {column!r}")


def _compute_one(metric: Metric, samples: Samples) -> list[dict[str, Any]]:
    rows = []
    for estimate in metric.compute(samples):
        result = MetricResult(
            family=metric.family,
            name=metric.name,
            arm=estimate.arm,
            value=float(estimate.value),
            ci95=(float(estimate.ci95[0]), float(estimate.ci95[1])),
            reference=float(estimate.reference),
            direction=metric.direction,
            visibility="PRIVATE",
            num_records=int(estimate.num_records),
            source=metric.source,
        )
        rows.append({**asdict(result), "version": metric.version})
    return rows
