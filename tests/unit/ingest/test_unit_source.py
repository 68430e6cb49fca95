"""Which unit: decided by config and mapping, never by a row."""

import io
from pathlib import Path

import pytest

from penname.config import PrivacyConfig
from penname.errors import DataError, UsageError
from penname.ingest.rejects import Reject, Tally
from penname.ingest.table import Table
from penname.ingest.unit_source import UnitSource, check_unit_ids, choose_unit, find_unit_source

USER = UnitSource("user", "user_id", "customer", "data.columns.user_id")


def make_tally(num_read, rejects):
    tally = Tally(Path("r.csv"), io.BytesIO(), max_malformed_frac=1.0)
    tally.begin_file(Path("r.csv"), "r.csv")
    tally.add([(Reject(line, reason), num_read) for line, reason in rejects], num_read=num_read)
    return tally


def test_the_unit_is_never_made_up():
    assert choose_unit("auto", has_user_ids=True) == "user"
    assert choose_unit("auto", has_user_ids=False) == "record"
    assert choose_unit("record", has_user_ids=True) == "record"
    assert choose_unit("column", has_user_ids=False) == "column"
    with pytest.raises(UsageError, match=r"privacy\.unit: is user, but this data has no user ids"):
        choose_unit("user", has_user_ids=False)


@pytest.mark.parametrize(
    ("privacy", "columns", "expected"),
    [
        ({}, {"user_id": "customer"}, USER),
        ({}, {}, UnitSource("record", None, None, "privacy.unit")),
        ({"unit": "record"}, {"user_id": "customer"}, UnitSource("record", None, None, "privacy.unit")),
        ({"unit": "column", "unit_column": "home"}, {"unit_id": "home", "user_id": "c"}, UnitSource("column", "unit_id", "home", "privacy.unit_column")),
    ],
)
def test_the_source_of_a_unit(privacy, columns, expected):
    assert find_unit_source(PrivacyConfig(**privacy), Table(Path("r.csv"), columns)) == expected


def test_rows_without_an_id_are_asked_for_or_stop_the_run():
    rejects = [(9, "no_user_id"), (4, "malformed_rating"), (12, "no_user_id")]
    with pytest.raises(DataError, match=r"^r\.csv:9: no id in the column 'customer' \(data\.columns\.user_id\); 2 of 20 rows have none; "):
        check_unit_ids(make_tally(20, rejects), USER, drop_rows_without_id=False)
    check_unit_ids(make_tally(20, rejects), USER, drop_rows_without_id=True)


def test_zero_users_stop_the_run_whatever_was_asked_for():
    # The malformed row said nothing about its user: it does not make one.
    tally = make_tally(3, [(2, "no_user_id"), (3, "malformed_rating"), (4, "no_user_id")])
    for drop in (False, True):
        with pytest.raises(DataError, match=r"no row holds an id in the column 'customer'.* zero users"):
            check_unit_ids(tally, USER, drop_rows_without_id=drop)


def test_a_row_that_was_left_out_for_another_reason_still_names_a_user():
    tally = make_tally(3, [(2, "no_user_id"), (3, "empty_text"), (4, "no_user_id")])
    check_unit_ids(tally, USER, drop_rows_without_id=True)


def test_whole_data_and_records_pass():
    check_unit_ids(make_tally(5, [(2, "malformed_rating")]), USER, drop_rows_without_id=False)
    check_unit_ids(make_tally(0, []), USER, drop_rows_without_id=False)
    check_unit_ids(make_tally(5, [(2, "empty_text")]), UnitSource("record", None, None, "privacy.unit"), drop_rows_without_id=False)
