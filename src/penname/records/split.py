"""Who is in train, heldout and test: each unit by its own keyed hash, so that one unit's presence never moves another."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from penname.config import RecordsConfig
from penname.errors import DataError
from penname.privacy.unit import bound_contributions, group_by_unit, keyed_fraction
from penname.schemas import Review

Split = Literal["train", "heldout", "test"]
SPLITS: tuple[Split, ...] = ("train", "heldout", "test")


@dataclass(frozen=True, slots=True)
class Part:
    """One review that takes part, with the unit that answers for it. PRIVATE."""

    review: Review
    record_id: str
    unit_id: str


@dataclass(frozen=True, slots=True)
class Splits:
    """All that takes part, and who was there. PRIVATE."""

    parts: dict[Split, list[Part]]
    num_units: dict[Split, int]
    num_units_read: int
    """Units of the data, those included that `keep_frac` left out."""
    num_over_bound: int
    """Reviews that the contribution bound left out."""


@dataclass(slots=True)
class Totals:
    """What came of all reviews. PRIVATE."""

    num_reviews: int = 0
    num_units_read: int = 0
    """Units of the data, those included that `keep_frac` left out."""
    num_over_bound: int = 0
    num_units: Counter[Split] = field(default_factory=Counter)
    num_records: Counter[Split] = field(default_factory=Counter)

    def add(self, splits: Splits, *, num_reviews: int, num_left_out: int) -> None:
        """Adds some units, each whole; num_left_out: reviews of theirs that were left out before they were split."""
        self.num_reviews += num_reviews + num_left_out
        self.num_units_read += splits.num_units_read
        self.num_over_bound += splits.num_over_bound + num_left_out
        self.num_units.update(splits.num_units)
        self.num_records.update({split: len(parts) for split, parts in splits.parts.items()})


def split_reviews(reviews: Sequence[Review], *, privacy_unit: str, config: RecordsConfig) -> Splits:
    """Puts every unit whole into one split, and bounds what it contributes.

    Guarantee: removing one unit's reviews removes its parts and changes no other part.

    Args:
      reviews: Of all units, duplicates dropped within each. PRIVATE.
      privacy_unit: user, record or column.
      config: Shares, bound and seed.
    Raises:
      DataError: a review names no unit.
    """
    record_ids = name_records(reviews)
    unit_ids = name_units(reviews, record_ids, privacy_unit=privacy_unit)
    parts: dict[Split, list[Part]] = {split: [] for split in SPLITS}
    num_units: dict[Split, int] = dict.fromkeys(SPLITS, 0)
    num_over_bound = 0
    groups = group_by_unit(unit_ids)
    for positions in groups:
        split = split_by_unit(unit_ids[positions[0]], config)
        if split is None:
            continue
        num_units[split] += 1
        chosen: Sequence[int] = range(len(positions))
        if len(positions) > config.max_records_per_user:
            chosen = bound_contributions([record_ids[i] for i in positions], max_records=config.max_records_per_user, seed=config.seed)
        num_over_bound += len(positions) - len(chosen)
        parts[split].extend(Part(reviews[positions[i]], record_ids[positions[i]], unit_ids[positions[i]]) for i in chosen)
    return Splits(parts, num_units, len(groups), num_over_bound)


def split_by_unit(unit_id: str, config: RecordsConfig) -> Split | None:
    """The split of one unit, or None when it does not take part (`keep_frac`).

    Args:
      unit_id: The unit. PRIVATE.
      config: Shares and seed.
    """
    # Every fraction is below 1: where all take part none needs to be drawn.
    if config.keep_frac < 1 and keyed_fraction(config.seed, "keep", unit_id) >= config.keep_frac:
        return None
    fraction = keyed_fraction(config.seed, "split", unit_id)
    if fraction < config.test_frac:
        return "test"
    return "heldout" if fraction < config.test_frac + config.heldout_frac else "train"


def name_records(reviews: Sequence[Review]) -> list[str]:
    """Ids from content, not from line numbers: removing one row must not rename the others, or the splits of all would move.

    Equal rows are numbered. They are of one unit, whose ids are part of the content, or are each a unit and interchangeable. PRIVATE.
    """
    seen: Counter[str] = Counter()
    names: list[str] = []
    for review in reviews:
        name = hashlib.sha256(review.content().encode(errors="surrogatepass")).hexdigest()[:24]
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return names


def name_units(reviews: Sequence[Review], record_ids: Sequence[str], *, privacy_unit: str) -> list[str]:
    """The unit of each review: its user, its value of the unit's column, or the record itself. PRIVATE.

    Raises:
      DataError: a review names none; ingest rejects such rows, and none is ever made up.
    """
    if privacy_unit == "record":
        return list(record_ids)
    unit_ids = [review.user_id if privacy_unit == "user" else review.unit_id for review in reviews]
    named = [unit_id for unit_id in unit_ids if unit_id]
    if len(named) < len(unit_ids):
        raise DataError(f"records: {len(unit_ids) - len(named):,} of {len(unit_ids):,} reviews have no id (privacy.unit={privacy_unit}); ingest again")
    return named


def check_splits(totals: Totals, *, privacy_unit: str, config: RecordsConfig) -> None:
    """Sees to it that there are units enough to fill every split.

    Args:
      totals: Of all units. PRIVATE.
      privacy_unit: user, record or column.
      config: Shares.
    Raises:
      DataError: one unit owns all reviews, or a split is empty; names the unit, how many there are and what to do.
    """
    num_reviews, num_units = totals.num_reviews, totals.num_units_read
    if num_units == 1 and num_reviews > 1:
        raise DataError(
            f"records: all {num_reviews:,} reviews belong to one unit; privacy.unit={privacy_unit} protects nobody where there is nobody else; "
            "take data of many units, or set privacy.unit=record to protect single reviews only"
        )
    for split in SPLITS:
        if not totals.num_units[split] and not (split == "heldout" and config.heldout_frac == 0):
            kept = f", of which records.keep_frac={config.keep_frac:g} keeps {totals.num_units.total():,}," if config.keep_frac < 1 else ""
            raise DataError(
                f"records: the split {split} is empty: {num_reviews:,} reviews of {num_units:,} units (privacy.unit={privacy_unit}){kept} are too few for "
                f"records.test_frac={config.test_frac:g} and records.heldout_frac={config.heldout_frac:g}; take data of more units, or other shares"
            )
