"""What a metric gets: real rows (train, heldout, test), synthetic rows by arm, seeds, embeddings, and what else the run knows."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from penname.segmentation import split_sentences, split_words

if TYPE_CHECKING:
    from penname.evaluate.planted_facts import PlantedFacts

MAX_ROWS_HELD = 100_000
"""A set with more rows is sampled down to this while it is read, so that memory stays bounded."""

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Row:
    """What the metrics look at in one row, real or synthetic."""

    rating: float
    """1 to 5; NaN where the file has no such column."""
    title: str
    text: str
    category: str
    """Empty where the file has no such column."""
    product_title: str = ""
    """Public; empty where there is none."""
    finish_reason: str = ""
    """`stop` or `length` of a synthetic record; empty where unknown, as in real rows."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A figure that is not there, and why."""

    name: str
    arm: str | None
    """None: of all arms."""
    reason: str


class RowSet:
    """Rows with what is derived from them, each derived once."""

    def __init__(self, name: str, rows: list[Row], embed: Callable[[list[str]], np.ndarray]) -> None:
        self.name, self.rows, self._embed = name, rows, embed

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def texts(self) -> list[str]:
        """The review texts, without titles."""
        return [row.text for row in self.rows]

    @cached_property
    def words(self) -> list[list[str]]:
        """Casefolded words of each text."""
        return [split_words(text) for text in self.texts]

    @cached_property
    def sentence_lengths(self) -> list[list[int]]:
        """Words of each sentence of each text; a text without a sentence counts as one of no words."""
        return [[len(split_words(part)) for part in split_sentences(text)] or [0] for text in self.texts]

    def lacks(self, column: str) -> bool:
        """Whether no row has a value of rating, title or category."""
        values = (getattr(row, column) for row in self.rows)
        return all(math.isnan(value) if isinstance(value, float) else not value for value in values)

    @cached_property
    def embeddings(self) -> np.ndarray:
        """(n, D) float64, unit length: one embedding a text."""
        return np.asarray(self._embed(self.texts), dtype=np.float64)


@dataclass(frozen=True)
class Samples:
    """The sets that are compared. PRIVATE."""

    train: RowSet
    """What the synthetic rows were made from."""
    heldout: RowSet
    """Real rows that nothing was made from: control and reference."""
    test: RowSet
    """Real rows that nothing was made from: what synthetic rows are compared with."""
    synthetic: dict[str, RowSet]
    base: RowSet | None = field(default=None, kw_only=True)
    """What the untrained model wrote to the same prompts; what only some metrics look at. Not counted in `num_compared`."""
    seed: int
    num_bootstrap: int
    max_records: int
    facts: PlantedFacts | None = None
    """What is true of each product, where the data are the fictional marketplace."""
    likelihood: Callable[[list[str]], list[np.ndarray]] | None = field(default=None, repr=False)
    """Texts to the log-likelihood of each of their tokens under the base model, in nats. None: no model that could be asked."""
    left_out: list[LeftOut] = field(default_factory=list, init=False, repr=False)
    """Figures of single arms that could not be had; `compute_metrics` reports them."""
    downstream: Callable[[Samples], Any] | None = field(default=None, repr=False)
    """Fine-tunes language models on the sets and scores test with each: `DownstreamScores`. None: nothing that the metrics of it could ask."""
    for_figures: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    """What a metric leaves for the report to draw beside its figures: JSON values by name. PRIVATE."""
    _kept: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def num_compared(self) -> int:
        """n: the rows of each set when sets are compared, the smallest set or `max_records`."""
        return min(len(self.test), len(self.heldout), *(len(rows) for rows in self.synthetic.values()), self.max_records)

    def sets_without(self, column: str) -> list[str]:
        """Names of the sets that have no value in a column."""
        return [rows.name for rows in (self.train, self.heldout, self.test, *self.synthetic.values()) if rows.lacks(column)]

    def generator(self, stream: str) -> np.random.Generator:
        """Random numbers that depend on the seed and the name of the stream, and on nothing else."""
        return seeded_generator(self.seed, stream)

    def take(self, rows: RowSet, num: int) -> RowSet:
        """`num` rows drawn without replacement; the same ones whoever asks, so that each is embedded once."""
        if num >= len(rows):
            return rows

        def draw() -> RowSet:
            chosen = np.sort(self.generator(f"take/{rows.name}").permutation(len(rows))[:num])
            return RowSet(rows.name, [rows.rows[i] for i in chosen], rows._embed)

        return self.once(("take", rows.name, num), draw)

    def once(self, key: Any, compute: Callable[[], Value]) -> Value:
        """What `compute` returned the first time: metrics that share a costly step name it by the same key."""
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]


def seeded_generator(seed: int, stream: str) -> np.random.Generator:
    """A numpy generator keyed by seed and stream name."""
    digest = hashlib.sha256(stream.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "little")])


def sample_at_most(rows: Iterable[Row], num: int, rng: np.random.Generator) -> list[Row]:
    """All rows, or `num` of them chosen uniformly in one pass.

    Args:
      rows: PRIVATE; read once.
      num: Most rows kept, > 0.
      rng: Seeded.
    Returns:
      list[Row]: in an order that is not theirs once there are more than `num`.
    Source: Vitter (1985), Algorithm R. https://doi.org/10.1145/3147.3165
    """
    kept: list[Row] = []
    for seen, row in enumerate(rows):
        if seen < num:
            kept.append(row)
        elif (slot := int(rng.integers(seen + 1))) < num:
            kept[slot] = row
    return kept
