"""What the report reads of a run: metrics, counts, training logs and the three sets of reviews, each checked as it is read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from penname.config import Config
from penname.errors import RunDirError
from penname.report.utility_page import read_figure_data
from penname.run_dir import ARTEFACTS, RunDir, read_json, read_rows
from penname.schemas import FAMILIES, RATINGS, MetricResult

_DIRECTIONS = ("higher", "lower", "none")


@dataclass
class ReviewSet:
    """One set of reviews, summed up in memory that does not grow with its texts."""

    num_words: list[int] = field(default_factory=list)
    ratings: Counter[int] = field(default_factory=Counter)
    categories: Counter[str] = field(default_factory=Counter)
    candidates: dict[tuple[int, str], list[dict[str, Any]]] = field(default_factory=dict)
    """The first few rows of every rating and category: partners for the side-by-side view."""

    @property
    def num_records(self) -> int:
        return len(self.num_words)


@dataclass(frozen=True)
class RunInputs:
    """Everything of a run that the page shows. PRIVATE."""

    metrics: list[MetricResult]
    missing_families: list[str]
    review_sets: dict[str, ReviewSet]
    """real (the test split), no_dp, with_dp; a set that the run has not made is missing."""
    review_paths: dict[str, Path]
    train_logs: dict[str, list[dict[str, Any]]]
    ingest_counts: dict[str, Any] | None
    records_counts: dict[str, Any] | None
    generate_counts: dict[str, Any] | None
    left_out: list[dict[str, Any]]
    """Metrics that the data could not give: family, name, arm or None, reason."""
    figure_data: dict[str, Any]
    """What the evaluation left for figures; empty where it left nothing."""
    human_summary: dict[str, Any] | None


def read_inputs(config: Config, run_dir: RunDir) -> RunInputs:
    """Reads what the earlier stages wrote; what is not there is left out, what is damaged raises.

    Args:
      config: Names the arms of this run; what an earlier run left of another arm is not read.
      run_dir: The run. PRIVATE.
    Raises:
      RunDirError: a file is damaged; names the file and the line or metric.
    """
    metrics, missing = _read_metrics(run_dir)
    names = {"real": "test_records"} | {arm: f"synthetic_{arm}" for arm in ("no_dp", "with_dp") if arm in config.train.arms}
    paths = {condition: artefact_path(run_dir, name) for condition, name in names.items()}
    paths = {condition: path for condition, path in paths.items() if path.is_file()}
    logs = {arm: _read_train_log(artefact_path(run_dir, f"train_metrics_{arm}")) for arm in config.train.arms}
    return RunInputs(
        metrics=metrics,
        missing_families=missing,
        review_sets={condition: _read_review_set(path, config.report.num_examples) for condition, path in paths.items()},
        review_paths=paths,
        train_logs={arm: rows for arm, rows in logs.items() if rows},
        ingest_counts=_read_object(artefact_path(run_dir, "ingest_counts")),
        records_counts=_read_object(artefact_path(run_dir, "records_counts")),
        generate_counts=_read_object(artefact_path(run_dir, "generate_counts")),
        left_out=_read_left_out(artefact_path(run_dir, "left_out")),
        figure_data=read_figure_data(run_dir),
        human_summary=_read_object(artefact_path(run_dir, "human_summary")),
    )


def artefact_path(run_dir: RunDir, name: str) -> Path:
    """Where an artefact is, without making its folder: reading leaves no trace."""
    return run_dir.root / ARTEFACTS[name].path


def _read_object(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    value = read_json(path)
    if not isinstance(value, dict):
        raise RunDirError(f"{path}: is damaged (not a JSON object); run the stage that writes it again")
    return value


def _read_metrics(run_dir: RunDir) -> tuple[list[MetricResult], list[str]]:
    metrics: list[MetricResult] = []
    missing: list[str] = []
    for family in FAMILIES:
        name = f"{family}_metrics"
        if name not in ARTEFACTS:
            continue
        path = artefact_path(run_dir, name)
        if not path.is_file():
            missing.append(family)
            continue
        rows = read_json(path)
        if not isinstance(rows, list):
            raise RunDirError(f"{path}: is damaged (not a list of metrics); run `penname evaluate` again")
        metrics += [_check_metric(row, f"{path}: metric {num}") for num, row in enumerate(rows, 1)]
    return metrics, missing


def _read_left_out(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    rows = read_json(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) and {"family", "name", "arm", "reason"} <= set(row) for row in rows):
        raise RunDirError(f"{path}: is damaged; run `penname evaluate` again")
    return rows


def _check_metric(row: Any, where: str) -> MetricResult:
    """One row of a metrics file; a value that is no finite number must not reach the page or metrics.json."""
    try:
        metric = MetricResult(**{key: value for key, value in row.items() if key != "version"})
        interval = metric.ci95
        numbers = [metric.value, *(interval or ()), *([] if metric.reference is None else [metric.reference])]
        well_formed = all(math.isfinite(number) for number in numbers) and (interval is None or len(interval) == 2)
    except (TypeError, AttributeError):
        raise RunDirError(f"{where}: is damaged; run `penname evaluate` again") from None
    if not well_formed or metric.family not in FAMILIES or metric.direction not in _DIRECTIONS:
        raise RunDirError(f"{where} ({metric.name}, {metric.arm}): holds a value that cannot be; run `penname evaluate` again")
    return metric


def metrics_as_rows(metrics: list[MetricResult]) -> list[dict[str, Any]]:
    """The rows of metrics.json."""
    return [asdict(metric) for metric in metrics]


def _read_train_log(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    rows = []
    for line_num, row in enumerate(read_rows(path), 1):
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            raise RunDirError(f"{path}:{line_num}: is damaged (no step); run `penname train` again")
        rows.append(row)
    return rows


def finite_or_none(value: Any) -> float | None:
    """A number of a log, or None: an empty batch has no loss."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def read_reviews(path: Path) -> Iterator[dict[str, Any]]:
    """Reads rating, category, product_title, title and text of a file of records.

    Raises:
      RunDirError: a line lacks one of them; names file and line.
    """
    fields = ("rating", "category", "product_title", "title", "text")
    for line_num, row in enumerate(read_rows(path), 1):
        if not isinstance(row, dict) or any(key not in row for key in fields) or row["rating"] not in RATINGS:
            raise RunDirError(f"{path}:{line_num}: is damaged (needs {', '.join(fields)}); run the stage that writes it again")
        yield {"rating": int(row["rating"])} | {key: str(row[key]) for key in fields[1:]}


def _read_review_set(path: Path, num_candidates: int) -> ReviewSet:
    found = ReviewSet()
    for row in read_reviews(path):
        found.num_words.append(len(row["text"].split()))
        found.ratings[row["rating"]] += 1
        found.categories[row["category"]] += 1
        cell = found.candidates.setdefault((row["rating"], row["category"]), [])
        if len(cell) < num_candidates:
            cell.append(row)
    return found
