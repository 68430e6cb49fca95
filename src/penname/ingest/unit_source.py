"""Which unit is protected, which column of the reviews says to whom a row belongs, and what is done about rows that do not say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from penname.errors import DataError, UsageError
from penname.ingest.rejects import Tally
from penname.ingest.table import Table

if TYPE_CHECKING:
    from penname.config import PrivacyConfig

UnitField = Literal["user_id", "unit_id"]
UNIT_FIELDS: tuple[UnitField, ...] = get_args(UnitField)

_FIELDS: dict[str, UnitField | None] = {"user": "user_id", "column": "unit_id", "record": None}
_NOUNS: dict[UnitField, str] = {"user_id": "user", "unit_id": "unit"}


@dataclass(frozen=True, slots=True)
class UnitSource:
    """The privacy unit of one data set, decided by the config and the mapping alone: no row has a say in it."""

    privacy_unit: str
    """user, record or column."""
    field: UnitField | None
    """Our field that holds its id; None where the unit is the record."""
    column: str | None
    """Their column for that field."""
    option: str
    """The setting that names the column, for messages."""


def name_unit_column(unit_column: str | None) -> dict[str, str]:
    """The part of a mapping that `privacy.unit_column` adds: our field -> their column."""
    return {"unit_id": unit_column} if unit_column is not None else {}


def choose_unit(wanted: str, *, has_user_ids: bool) -> str:
    """`user`, `record` or `column`; `auto` is the user where user ids are mapped.

    Raises:
      UsageError: the user is wanted and there are no user ids; none is ever made up.
    """
    if wanted == "user" and not has_user_ids:
        raise UsageError("privacy.unit: is user, but this data has no user ids; map data.columns.user_id, or set privacy.unit=record")
    if wanted == "auto":
        return "user" if has_user_ids else "record"
    return wanted


def find_unit_source(privacy: PrivacyConfig, reviews: Table) -> UnitSource:
    """The unit of a data set and the column that holds its ids.

    Args:
      privacy: Its `unit` and `unit_column`.
      reviews: Its mapping counts, no row of it is read.
    Raises:
      UsageError: the user is wanted and no user id is mapped.
    """
    unit = choose_unit(privacy.unit, has_user_ids="user_id" in reviews.columns)
    field = _FIELDS[unit]
    if field is None:
        return UnitSource(unit, None, None, "privacy.unit")
    layout = reviews.option if reviews.option != "data.columns" else None
    option = "privacy.unit_column" if field == "unit_id" else f"user_id of {layout}" if layout else "data.columns.user_id"
    return UnitSource(unit, field, reviews.columns[field], option)


def check_unit_ids(tally: Tally, source: UnitSource, *, drop_rows_without_id: bool) -> None:
    """Sees to it that every row says to whom it belongs, or that leaving out those that do not was asked for.

    Args:
      tally: Of all reviews. PRIVATE.
      source: The column that must say so.
      drop_rows_without_id: data.drop_rows_without_id.
    Raises:
      DataError: some rows have no id and were not to be dropped, or none has one; names the column and how many.
    """
    num = tally.num_by_reason[f"no_{source.field}"]
    if source.field is None or not num:
        return
    noun, first = _NOUNS[source.field], tally.first_place[f"no_{source.field}"]
    if num == tally.num_read - tally.num_malformed:
        raise DataError(
            f"{tally.path}: no row holds an id in the column {source.column!r} ({source.option}), so there are zero {noun}s to protect; "
            "name the column that holds the ids, or set privacy.unit=record to protect single reviews only"
        )
    if not drop_rows_without_id:
        raise DataError(
            f"{first}: no id in the column {source.column!r} ({source.option}); {num:,} of {tally.num_read:,} rows have none; fill it in, "
            "set data.drop_rows_without_id=true to leave these rows out, or set privacy.unit=record to protect single reviews only"
        )
