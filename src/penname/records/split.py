"""Who is in train, heldout and test: each unit by its own keyed hash, so that one unit's presence never moves another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal

from penname.errors import DataError
from penname.privacy.unit import bound_contributions, keyed_fractions
from penname.schemas import CONTENT

if TYPE_CHECKING:
    from penname.config import RecordsConfig

Split = Literal["train", "heldout", "test"]
SPLITS: tuple[Split, ...] = ("train", "heldout", "test")


UNIT, RECORD_ID = "unit", "record_id"
"""Columns that a review gets here: the privacy unit that answers for it, and its name."""
_NAME_BYTES = 12
"""Of SHA-256, in a name."""


@dataclass(frozen=True, slots=True)
class SplitRules:
    """The part of the section `records` that decides who is where: another process need not read a whole config for it. Public."""

    seed: int
    keep_frac: float
    heldout_frac: float
    test_frac: float
    max_records_per_user: int

    @classmethod
    def from_config(cls, config: RecordsConfig) -> SplitRules:
        """Those of a run."""
        return cls(**{field.name: getattr(config, field.name) for field in fields(cls)})


@dataclass(frozen=True, slots=True)
class Splits:
    """All that takes part, and who was there. PRIVATE."""

    parts: dict[Split, Any]
    """Polars frames of reviews, with their columns UNIT and RECORD_ID, in their order."""
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
        self.num_records.update({split: parts.height for split, parts in splits.parts.items()})

    def join(self, more: Totals) -> None:
        """Adds what came of other reviews, of other units."""
        self.num_reviews += more.num_reviews
        self.num_units_read += more.num_units_read
        self.num_over_bound += more.num_over_bound
        self.num_units.update(more.num_units)
        self.num_records.update(more.num_records)


def split_reviews(reviews: Any, *, privacy_unit: str, rules: SplitRules) -> Splits:
    """Puts every unit whole into one split, and bounds what it contributes.

    Guarantee: removing one unit's reviews removes its parts and changes no other part.

    Args:
      reviews: Polars frame of the reviews of whole units, duplicates dropped within each. PRIVATE.
      privacy_unit: user, record or column.
      rules: Shares, bound and seed.
    Raises:
      DataError: a review names no unit.
    """
    import polars as pl

    record_ids = name_records(reviews)
    reviews = reviews.with_columns(record_ids, name_units(reviews, record_ids, privacy_unit=privacy_unit))
    units = reviews.group_by(UNIT, maintain_order=True).len("num_records")
    # Every fraction is of its unit alone; the join only copies it to the unit's rows.
    units = units.with_columns(split=pl.Series(split_units(units[UNIT].to_list(), rules), dtype=pl.String))
    taking_part = reviews.join(units.drop_nulls("split"), on=UNIT, maintain_order="left")
    kept = bound_units(taking_part, rules)
    return Splits(
        parts={split: kept.filter(pl.col("split") == split).select(reviews.columns) for split in SPLITS},
        num_units={split: int((units["split"] == split).sum()) for split in SPLITS},
        num_units_read=units.height,
        num_over_bound=taking_part.height - kept.height,
    )


def bound_units(reviews: Any, rules: SplitRules) -> Any:
    """The reviews that stay when no unit keeps more than `max_records_per_user`, in their order.

    Args:
      reviews: Polars frame of whole units, with UNIT, RECORD_ID and num_records, how many each unit has. PRIVATE.
      rules: Bound and seed.
    """
    import numpy as np
    import polars as pl

    is_over = pl.col("num_records") > rules.max_records_per_user
    over = reviews.with_row_index("place").filter(is_over).group_by(UNIT, maintain_order=True).agg(RECORD_ID, "place")
    if not over.height:
        return reviews
    record_ids, places = over[RECORD_ID].to_list(), over["place"].explode().to_numpy()
    chosen = bound_contributions(record_ids, max_records=rules.max_records_per_user, seed=rules.seed)
    stays = np.ones(reviews.height, dtype=bool)
    stays[places] = False
    stays[places[chosen]] = True
    return reviews.filter(stays)


def split_units(unit_ids: Sequence[str], rules: SplitRules) -> list[Split | None]:
    """The split of each unit, or None when it does not take part (`keep_frac`).

    Args:
      unit_ids: The units. PRIVATE.
      rules: Shares and seed.
    """
    splits: list[Split | None] = [_choose_split(fraction, rules) for fraction in keyed_fractions(rules.seed, "split", unit_ids)]
    # Every fraction is below 1: where all take part none needs to be drawn.
    if rules.keep_frac == 1:
        return splits
    takes_part = keyed_fractions(rules.seed, "keep", unit_ids)
    return [split if fraction < rules.keep_frac else None for split, fraction in zip(splits, takes_part, strict=True)]


def _choose_split(fraction: float, rules: SplitRules) -> Split:
    if fraction < rules.test_frac:
        return "test"
    return "heldout" if fraction < rules.test_frac + rules.heldout_frac else "train"


def name_records(reviews: Any) -> Any:
    """Ids from content, not from line numbers: removing one row must not rename the others, or the splits of all would move.

    Equal rows are numbered. They are of one unit, whose ids are part of the content, or are each a unit and interchangeable.

    Args:
      reviews: Polars frame with the columns CONTENT. PRIVATE.
    Returns:
      Polars Series of distinct names. PRIVATE.
    """
    import polars as pl

    contents = _join_content(reviews)
    digests = [sha256(content).digest()[:_NAME_BYTES] for content in contents]
    names = pl.Series(RECORD_ID, digests, dtype=pl.Binary).bin.encode("hex")
    if names.n_unique() == len(names):
        return names
    turn = pl.int_range(pl.len()).over(RECORD_ID)
    return names.to_frame().select(pl.when(turn == 0).then(RECORD_ID).otherwise(pl.format("{}-{}", RECORD_ID, turn + 1)).alias(RECORD_ID))[RECORD_ID]


def _join_content(reviews: Any) -> list[bytes]:
    """The content of each review as one text: equal for two if and only if they are copies of each other. PRIVATE."""
    import polars as pl

    parts = reviews.select(pl.col(name).cast(pl.String).fill_null("") for name in CONTENT)
    # The lengths keep ("a", "bc") and ("ab", "c") apart.
    lengths = pl.concat_str([pl.col(name).str.len_chars() for name in CONTENT], separator=",")
    return parts.select(pl.concat_str([lengths, pl.lit(":"), *CONTENT]).cast(pl.Binary)).to_series().to_list()


def name_units(reviews: Any, record_ids: Any, *, privacy_unit: str) -> Any:
    """The unit of each review: its user, its value of the unit's column, or the record itself. PRIVATE.

    Args:
      reviews: Polars frame. PRIVATE.
      record_ids: What `name_records` gave for it. PRIVATE.
      privacy_unit: user, record or column.
    Raises:
      DataError: a review names none; ingest rejects such rows, and none is ever made up.
    """
    if privacy_unit == "record":
        return record_ids.alias(UNIT)
    units = reviews["user_id" if privacy_unit == "user" else "unit_id"].fill_null("").alias(UNIT)
    if num_missing := int((units == "").sum()):
        raise DataError(f"records: {num_missing:,} of {len(units):,} reviews have no id (privacy.unit={privacy_unit}); ingest again")
    return units


def check_splits(totals: Totals, *, privacy_unit: str, rules: SplitRules) -> None:
    """Sees to it that there are units enough to fill every split.

    Args:
      totals: Of all units. PRIVATE.
      privacy_unit: user, record or column.
      rules: Shares.
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
        if not totals.num_units[split] and not (split == "heldout" and rules.heldout_frac == 0):
            kept = f", of which records.keep_frac={rules.keep_frac:g} keeps {totals.num_units.total():,}," if rules.keep_frac < 1 else ""
            raise DataError(
                f"records: the split {split} is empty: {num_reviews:,} reviews of {num_units:,} units (privacy.unit={privacy_unit}){kept} are too few for "
                f"records.test_frac={rules.test_frac:g} and records.heldout_frac={rules.heldout_frac:g}; take data of more units, or other shares"
            )
