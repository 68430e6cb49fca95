"""The rows that pass between rooms: review -> record -> synthetic record, and the result of a metric.

Every one is a flat frozen dataclass, written as one JSON object a line (or one Parquet row), so that any tool can read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RATINGS = (1, 2, 3, 4, 5)

Arm = Literal["with_dp", "no_dp"]
ARMS: tuple[Arm, ...] = ("with_dp", "no_dp")
BASE = "base"
"""The model before any training: no arm that is trained, and never released."""
Family = Literal["privacy", "fidelity", "utility", "human"]
FAMILIES: tuple[Family, ...] = ("privacy", "fidelity", "utility", "human")
Visibility = Literal["PRIVATE", "RELEASABLE"]


@dataclass(frozen=True, slots=True)
class Review:
    """One cleaned row of the private data. PRIVATE."""

    source: str
    """File name and line, `Cell_Phones.jsonl:17`, for error messages and rejects."""
    user_id: str | None
    """Who wrote it; None where the data, or this row, has no user id."""
    unit_id: str | None
    """Its value of `privacy.unit_column`; None where no column is the unit."""
    rating: int
    """1 to 5."""
    title: str
    text: str
    category: str
    """One value of the public category domain."""
    product_id: str
    """Key into the catalogue; empty where there is none."""
    product_title: str
    """From the catalogue, or a column of the table; empty where there is none."""


CONTENT = ("user_id", "unit_id", "rating", "category", "product_id", "product_title", "title", "text")
"""Every field of a review but where it came from. Ids and duplicates are decided by these: were one left out, dropping a row could rename or bring back
another that differs in it, and the row of one unit would then decide over that of another."""


@dataclass(frozen=True, slots=True)
class Product:
    """One row of the catalogue. Public: it conditions generation."""

    product_id: str
    title: str
    category: str


@dataclass(frozen=True, slots=True)
class Record:
    """One training example. PRIVATE."""

    record_id: str
    unit_id: str
    """The protected unit it belongs to: the user, or the record itself."""
    prompt: str
    completion: str
    rating: int
    category: str
    product_title: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class SyntheticRecord:
    """One generated row. RELEASABLE in the arm with_dp, PRIVATE in no_dp."""

    record_id: str
    arm: str
    """with_dp, no_dp, or base: texts of the untrained model."""
    rating: int
    category: str
    product_title: str
    title: str
    text: str
    finish_reason: str
    """`stop`: the model ended the text itself; `length`: the token limit cut it."""
    num_draws: int
    """How often this row was drawn until it parsed; 1 is the first try."""


@dataclass(frozen=True, slots=True)
class MetricResult:
    """One figure of the report, in the shape that `metrics.json` documents."""

    family: Family
    name: str
    arm: str
    """with_dp, no_dp, real, base, or the NAME given to `penname evaluate --synthetic NAME=F`."""
    value: float
    ci95: tuple[float, float] | None
    reference: float | None
    """The same metric between two disjoint real samples: what perfect data would score."""
    direction: Literal["higher", "lower", "none"]
    visibility: Visibility
    num_records: int
    source: str
    """Paper or definition that the metric follows."""
