"""Locations: which are remote, which are none, and which names may come from a store."""

import stat
import time

import pytest

from penname.errors import StoreError, UsageError
from penname.stores.store import answer_within, cache_folder, is_remote, is_wanted, open_store, split_location


@pytest.mark.parametrize(("location", "remote"), [("s3://b/k", True), ("hf://datasets/o/n/f", True), ("data/x.csv", False), ("/a:/b", False), ("C:x", False)])
def test_what_is_remote(location, remote):
    assert is_remote(location) is remote


@pytest.mark.parametrize("location", ["gs://bucket/key", "https://example.invalid/x.csv", "file:///etc/passwd", "memory://x", "s3://bucket/a\nb"])
def test_other_stores_are_refused(location):
    with pytest.raises(UsageError, match=r"s3://BUCKET/KEY|is no location"):
        open_store(location)


def test_a_pattern_may_stand_in_the_last_part_only():
    assert split_location("s3://b/folder/") == ("b/folder", None)
    assert split_location("s3://b/x-?.csv") == ("b", "x-?.csv")
    with pytest.raises(UsageError, match="in the last part only"):
        split_location("s3://b/*/x.csv")


@pytest.mark.parametrize(
    ("name", "pattern", "recursive", "wanted"),
    [
        ("a.csv", None, False, True),
        ("a.csv", "*.jsonl", False, False),
        ("_SUCCESS", None, False, False),
        (".a", None, False, False),
        ("x/a", None, False, False),
        ("x/a", None, True, True),
    ],
)
def test_which_files_of_a_folder_hold_rows(name, pattern, recursive, wanted):
    assert is_wanted(name, pattern, recursive=recursive) is wanted


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "a//x", "a\n", "a\\b"])
def test_a_name_cannot_lead_out_of_the_folder(name):
    with pytest.raises(StoreError, match="has a name that cannot be kept"):
        is_wanted(name, None, recursive=True)


def test_a_question_is_not_waited_for_without_an_end():
    assert answer_within(5, lambda: 7) == 7
    with pytest.raises(KeyError):
        answer_within(5, lambda: {}["x"])
    with pytest.raises(TimeoutError, match="no answer"):
        answer_within(0.02, lambda: time.sleep(0.5))


def test_nobody_else_looks_into_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PENNAME_CACHE", str(tmp_path / "cache"))
    assert cache_folder() == tmp_path / "cache"
    assert stat.S_IMODE(cache_folder().stat().st_mode) == 0o700
    monkeypatch.delenv("PENNAME_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "penname"
