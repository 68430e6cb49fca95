"""Which records stand side by side: picked by place in the file, never by how they look."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penname.report.inputs import ReviewSet, read_reviews


@dataclass(frozen=True)
class Example:
    """Records of one rating and category, one a condition. Holds real rows: PRIVATE."""

    rating: int
    category: str
    records: dict[str, dict[str, Any] | None]
    """condition -> record; None where no record of that condition is left with the same rating."""


def pair_examples(review_sets: dict[str, ReviewSet], paths: dict[str, Path], *, num_examples: int) -> list[Example]:
    """Takes records at even distances through one file and finds partners of the same rating and category in the others.

    The file is that of with_dp, else no_dp, else the real one. A partner of the same category is preferred; where none is left,
    one of the same rating stands in, and its category says so. No record is shown twice.

    Args:
      review_sets: condition -> summed-up set with candidates. PRIVATE.
      paths: condition -> its file.
      num_examples: At most this many; fewer where the file is shorter.
    """
    anchors = [arm for arm in ("with_dp", "no_dp", "real") if arm in review_sets and review_sets[arm].num_records]
    if not anchors or num_examples == 0:
        return []
    anchor, total = anchors[0], review_sets[anchors[0]].num_records
    count = min(num_examples, total)
    wanted = {(2 * num + 1) * total // (2 * count) for num in range(count)}
    pools = {arm: {cell: list(rows) for cell, rows in found.candidates.items()} for arm, found in review_sets.items() if arm != anchor}
    examples = []
    for num, row in enumerate(read_reviews(paths[anchor])):
        if num in wanted:
            partners = {arm: _take_partner(pool, row["rating"], row["category"]) for arm, pool in pools.items()}
            examples.append(Example(row["rating"], row["category"], {anchor: row} | partners))
    return examples


def _take_partner(pool: dict[tuple[int, str], list[dict[str, Any]]], rating: int, category: str) -> dict[str, Any] | None:
    if pool.get((rating, category)):
        return pool[rating, category].pop(0)
    same_rating = max((cell for cell in pool if cell[0] == rating and pool[cell]), key=lambda cell: len(pool[cell]), default=None)
    return pool[same_rating].pop(0) if same_rating is not None else None
