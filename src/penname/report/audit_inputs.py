"""What the page of an audit reads: its attacks, its metrics and what was left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from penname.errors import RunDirError
from penname.run_dir import RunDir, read_json
from penname.schemas import MetricResult


@dataclass(frozen=True)
class AuditInputs:
    """Everything of an audit that its page shows. PRIVATE."""

    experiment: str
    """canaries, or original."""
    arms: list[str]
    promise: dict[str, Any]
    canaries: list[dict[str, Any]]
    """By repetition: drawn, planted, units that carry one."""
    tables: dict[str, list[dict[str, Any]]]
    failures: list[str]
    metrics: list[MetricResult]
    left_out: list[dict[str, Any]]

    def select(self, table: str, **wanted: Any) -> list[dict[str, Any]]:
        """Rows of a table that have these values."""
        return [row for row in self.tables.get(table, []) if all(row[key] == value for key, value in wanted.items())]

    def metric(self, name: str, arm: str) -> MetricResult | None:
        """One figure; None where it was left out."""
        return next((metric for metric in self.metrics if metric.name == name and metric.arm == arm), None)


def read_audit(run_dir: RunDir) -> AuditInputs:
    """Reads what the stage attack wrote.

    Args:
      run_dir: The audit. PRIVATE.
    Raises:
      RunDirError: a file is missing or damaged.
    """
    path = run_dir.path("attacks")
    found, rows, left_out = read_json(path), read_json(run_dir.path("privacy_metrics")), read_json(run_dir.path("left_out"))
    try:
        metrics = [MetricResult(**{key: value for key, value in row.items() if key != "version"}) for row in rows]
        keys = ("experiment", "arms", "promise", "canaries", "tables", "failures")
        return AuditInputs(**{key: found[key] for key in keys}, metrics=metrics, left_out=left_out)
    except (KeyError, TypeError, AttributeError):
        raise RunDirError(f"{path}: is damaged, or the metrics beside it are; remove it and run the audit again") from None
