"""What attacks find: rows for metrics.json, tables for the page, and what could not be had, each with its reason."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from penname.evaluate.bootstrap import Interval
from penname.evaluate.privacy.errors import LeftOutError
from penname.progress import say
from penname.schemas import MetricResult


@dataclass
class Findings:
    """Of one audit. PRIVATE."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """Of `metrics.json`, family privacy."""
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """By name: leaks, exposure, membership, curves, bounds, originals."""
    left_out: list[dict[str, Any]] = field(default_factory=list)
    """Family, name, arm (None: all) and reason."""
    failures: list[str] = field(default_factory=list)
    """What was found against the claim; one sentence each."""

    def add(
        self,
        name: str,
        arm: str,
        value: float,
        *,
        ci95: Interval | None,
        reference: float,
        num_records: int,
        source: str,
        direction: Literal["higher", "lower", "none"] = "lower",
    ) -> None:
        """One figure of one arm.

        Args:
          name: As in `metrics.json`.
          arm: with_dp or no_dp.
          value: In the unit of the figure.
          ci95: None for what is a bound itself.
          reference: What an attack finds that learned nothing.
          num_records: Behind the value.
          source: Paper or definition.
          direction: Which way is better for privacy.
        """
        result = MetricResult("privacy", name, arm, float(value), ci95, float(reference), direction, "PRIVATE", int(num_records), source)
        self.rows.append({**asdict(result), "ci95": None if ci95 is None else [float(bound) for bound in ci95], "version": 1})

    def tabulate(self, table: str, **values: Any) -> None:
        """One row of a table of the page; what is not finite becomes None, as JSON has no word for it."""
        plain = {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in values.items()}
        self.tables.setdefault(table, []).append(plain)

    @contextmanager
    def attempt(self, name: str, arm: str | None = None) -> Generator[None]:
        """A block whose figure may not be had: then it is left out by name, with the reason."""
        try:
            yield
        except LeftOutError as error:
            self.left_out.append({"family": "privacy", "name": name, "arm": arm, "reason": str(error)})

    def say_left_out(self) -> None:
        """One line a reason on standard error."""
        by_reason: dict[str, list[str]] = {}
        for row in self.left_out:
            by_reason.setdefault(row["reason"], []).append(row["name"])
        for reason, names in by_reason.items():
            first, num_more = names[0], len(set(names)) - 1
            say(f"audit: {first}{f' and {num_more} more' if num_more else ''} left out: {reason}")
