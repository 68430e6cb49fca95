"""One budget for several runs: what is charged to a data set stays charged, whoever else charges it, and other data is turned away."""

import json
import os
import subprocess
import sys

import pytest

from penname.privacy.book import Book, DataSetLedger, read_snapshot
from penname.privacy.errors import BudgetExceededError, LedgerError, PrivacyError
from penname.privacy.keystream import Keystream
from penname.privacy.ledger import Ledger, Promise, Scope

PROMISE = Promise(target_epsilon=2.0, delta=1e-5, privacy_unit="user", neighboring_relation="ADD_OR_REMOVE_ONE", noise_source="operating_system")
# Spends 1.55; two of them 2.29, three 2.88.
EVENT = {"type": "gaussian", "noise_multiplier": 2.5, "l2_sensitivity": 1.0}
DATA = "d" * 64


def open_shared(path, promise=PROMISE, *, target_epsilon=2.5, data_sha256=DATA):
    return DataSetLedger.open(path, promise, target_epsilon=target_epsilon, data_sha256=data_sha256)


def open_book(folder, *, run="a", **options):
    shared = open_shared(folder / "shared.jsonl", **options)
    return Book(Ledger.open(folder / f"{run}.jsonl", PROMISE, Scope(data_set_ledger=shared.heading_sha256)), shared)


def spend(book, *, seed, inputs_sha256="aa", event=EVENT):
    return book.spend("train/with_dp", event, keystream=Keystream.from_seed(seed), inputs_sha256=inputs_sha256)


def entries(path):
    return Ledger.read(path).entries


@pytest.fixture
def shared_path(tmp_path):
    open_shared(tmp_path / "shared.jsonl")
    return tmp_path / "shared.jsonl"


def test_the_runs_of_a_data_set_share_its_budget(tmp_path):
    first, second, third = (open_book(tmp_path, run=name) for name in "abc")
    receipt = spend(first, seed=1)
    assert (receipt.event, receipt.key_commitment) == (EVENT, Keystream.from_seed(1).commitment)
    spend(second, seed=2)
    assert [entry["event"] for entry in entries(tmp_path / "shared.jsonl")] == [EVENT, EVENT]
    assert len(entries(tmp_path / "a.jsonl")) == len(entries(tmp_path / "b.jsonl")) == 1
    before = {name: (tmp_path / f"{name}.jsonl").read_bytes() for name in ("shared", "c")}
    with pytest.raises(
        BudgetExceededError, match=r"^privacy\.ledger: .*shared\.jsonl has no room for train/with_dp: epsilon of all runs would be 2\.8.*is 2\.5"
    ):
        spend(third, seed=3)
    assert {name: (tmp_path / f"{name}.jsonl").read_bytes() for name in before} == before


def test_a_run_that_is_computed_again_pays_once(tmp_path):
    for _ in range(3):
        spend(open_book(tmp_path), seed=1)
    assert len(entries(tmp_path / "shared.jsonl")) == len(entries(tmp_path / "a.jsonl")) == 1


def test_what_the_runs_own_ledger_refuses_is_not_charged_to_the_data_set(tmp_path):
    book = open_book(tmp_path, target_epsilon=50.0)
    spend(book, seed=1)
    before = (tmp_path / "shared.jsonl").read_bytes()
    with pytest.raises(BudgetExceededError, match=r"^privacy budget: train/with_dp again, under another key"):
        spend(book, seed=2)
    with pytest.raises(LedgerError, match="noise may not be used twice"):
        spend(book, seed=1, inputs_sha256="bb")
    with pytest.raises(PrivacyError, match="laplace"):
        spend(book, seed=3, event={"type": "laplace"})
    assert (tmp_path / "shared.jsonl").read_bytes() == before


def test_a_run_that_was_killed_between_the_two_ledgers_goes_on(tmp_path):
    book = open_book(tmp_path)
    with book.data_set.hold() as shared:
        shared.spend("train/with_dp", EVENT, keystream=Keystream.from_seed(1), inputs_sha256="aa")
    spend(open_book(tmp_path), seed=1)
    assert len(entries(tmp_path / "shared.jsonl")) == len(entries(tmp_path / "a.jsonl")) == 1


def test_a_run_whose_own_ledger_was_deleted_still_pays(tmp_path):
    spend(open_book(tmp_path), seed=1)
    (tmp_path / "a.jsonl").unlink()
    spend(open_book(tmp_path), seed=2)
    assert len(entries(tmp_path / "shared.jsonl")) == 2
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(BudgetExceededError, match=r"privacy\.ledger"):
        spend(open_book(tmp_path), seed=3)


def test_the_same_noise_is_never_used_by_two_runs(tmp_path):
    spend(open_book(tmp_path, run="a", target_epsilon=50.0), seed=1)
    with pytest.raises(LedgerError, match="noise may not be used twice"):
        spend(open_book(tmp_path, run="b", target_epsilon=50.0), seed=1, inputs_sha256="bb")
    assert entries(tmp_path / "b.jsonl") == []


def test_an_object_that_was_opened_before_sees_what_others_charged(tmp_path):
    early = open_book(tmp_path, run="a")
    for seed, run in ((2, "b"), (3, "c")):
        spend(open_book(tmp_path, run=run), seed=seed)
    with pytest.raises(BudgetExceededError):
        spend(early, seed=1)
    assert entries(tmp_path / "a.jsonl") == []


RACER = """
import sys, time
from pathlib import Path
from penname.privacy.errors import BudgetExceededError
from tests.unit.privacy.test_book import open_book, spend
folder, run, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
book = open_book(folder, run=run)
(folder / f"{run}.ready").touch()
while not (folder / "go").exists():
    time.sleep(0.001)
try:
    spend(book, seed=seed)
except BudgetExceededError:
    sys.exit(7)
"""


def test_of_two_processes_that_race_for_the_last_of_the_budget_one_wins(tmp_path):
    spend(open_book(tmp_path, run="first"), seed=1)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    racers = [subprocess.Popen([sys.executable, "-c", RACER, str(tmp_path), name, str(seed)], env=env) for name, seed in (("a", 2), ("b", 3))]
    while not all((tmp_path / f"{name}.ready").exists() for name in "ab"):
        assert all(racer.poll() is None for racer in racers)
    (tmp_path / "go").touch()
    assert sorted(racer.wait(60) for racer in racers) == [0, 7]
    assert len(entries(tmp_path / "shared.jsonl")) == 2
    assert sorted(len(entries(tmp_path / f"{name}.jsonl")) for name in "ab") == [0, 1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"data_sha256": "e" * 64}, "belongs to another data set"),
        ({"target_epsilon": 3.0}, r"privacy\.ledger_epsilon: is 3, .* was begun with 2\.5"),
        ({"promise": Promise(2.0, 1e-6, "user", "ADD_OR_REMOVE_ONE", "operating_system")}, "was begun with delta 1e-05, this run has 1e-06"),
        ({"promise": Promise(2.0, 1e-5, "record", "ADD_OR_REMOVE_ONE", "operating_system")}, "with privacy_unit user, this run has record"),
        ({"promise": Promise(2.0, 1e-5, "column", "ADD_OR_REMOVE_ONE", "operating_system", "shop")}, "with privacy_unit user, this run has column"),
        ({"promise": Promise(2.0, 1e-5, "user", "ADD_OR_REMOVE_ONE", "seed")}, "with noise_source operating_system, this run has seed"),
    ],
)
def test_another_data_set_and_another_promise_are_turned_away(shared_path, changed, message):
    before = shared_path.read_bytes()
    with pytest.raises(LedgerError, match=message):
        open_shared(shared_path, **changed)
    assert shared_path.read_bytes() == before


def test_another_column_is_another_unit(tmp_path):
    def promise(column):
        return Promise(2.0, 1e-5, "column", "ADD_OR_REMOVE_ONE", "operating_system", column)

    open_shared(tmp_path / "shared.jsonl", promise("household_id"))
    with pytest.raises(LedgerError, match="with unit_column household_id, this run has shop"):
        open_shared(tmp_path / "shared.jsonl", promise("shop"))


def test_the_budget_is_needed_once_and_a_runs_promise_may_differ(tmp_path):
    with pytest.raises(LedgerError, match=r"privacy\.ledger_epsilon: .* is not begun yet"):
        open_shared(tmp_path / "shared.jsonl", target_epsilon=None)
    assert not (tmp_path / "shared.jsonl").exists()
    open_shared(tmp_path / "shared.jsonl")
    open_shared(tmp_path / "shared.jsonl", Promise(0.5, 1e-5, "user", "ADD_OR_REMOVE_ONE", "operating_system"), target_epsilon=None)


def test_nothing_in_the_ledger_tells_the_hash_of_the_data_and_its_key_is_the_owners(shared_path):
    assert DATA.encode() not in shared_path.read_bytes()
    key = shared_path.with_name("shared.jsonl.key")
    assert key.stat().st_mode & 0o777 == 0o600
    assert Ledger.read(shared_path).scope.data_commitment == Keystream.from_key_file(key).commit(DATA)


def test_without_its_key_or_with_another_the_ledger_is_not_used(shared_path):
    key = shared_path.with_name("shared.jsonl.key")
    raw = key.read_bytes()
    key.write_bytes(os.urandom(32))
    with pytest.raises(LedgerError, match="belongs to another data set"):
        open_shared(shared_path)
    key.write_bytes(raw[:7])
    with pytest.raises(PrivacyError, match="key file is damaged"):
        open_shared(shared_path)
    key.unlink()
    with pytest.raises(LedgerError, match=r"shared\.jsonl\.key: is missing"):
        open_shared(shared_path)


@pytest.mark.parametrize("left", [None, b"", b'{"cut'])
def test_a_ledger_that_was_lost_is_not_begun_again(shared_path, left):
    shared_path.unlink()
    if left is not None:
        shared_path.write_bytes(left)
    with pytest.raises(LedgerError, match="is lost or empty"):
        open_shared(shared_path)


@pytest.mark.parametrize("step", ["heading", "rename"])
def test_a_process_killed_while_it_begins_the_ledger_leaves_nothing_that_looks_lost(tmp_path, monkeypatch, step):
    from penname.privacy import book, ledger

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if step == "heading":
            patch.setattr(ledger, "_append", die)
        else:
            replace = os.replace
            patch.setattr(book.os, "replace", lambda old, new: die() if str(old).endswith(".key.new") else replace(old, new))
        with pytest.raises(KeyboardInterrupt):
            open_shared(tmp_path / "shared.jsonl")
    assert spend(open_book(tmp_path), seed=1).event == EVENT
    assert spend(open_book(tmp_path), seed=1).event == EVENT


def test_the_ledger_of_a_run_is_none_of_a_data_set_and_the_reverse(tmp_path, shared_path):
    Ledger.open(tmp_path / "own.jsonl", PROMISE)
    (tmp_path / "own.jsonl.key").write_bytes(os.urandom(32))
    with pytest.raises(LedgerError, match="is the ledger of one run"):
        open_shared(tmp_path / "own.jsonl")
    with pytest.raises(LedgerError, match="another promise"):
        Ledger.open(shared_path, PROMISE)


def test_a_ledger_that_is_swapped_while_it_is_used_is_noticed(tmp_path):
    book = open_book(tmp_path)
    for name in ("shared.jsonl", "shared.jsonl.key"):
        (tmp_path / name).unlink()
    open_shared(tmp_path / "shared.jsonl")
    with pytest.raises(LedgerError, match="is not the ledger that this run is charged to"):
        spend(book, seed=1)
    with pytest.raises(LedgerError, match=r"another promise .data_set_ledger differ"):
        open_book(tmp_path)


def test_a_damaged_ledger_of_another_version_or_none_at_all_charges_nothing(tmp_path, shared_path):
    book = open_book(tmp_path)
    raw = shared_path.read_bytes()
    old = json.dumps(json.loads(raw) | {"schema_version": 1}, sort_keys=True).encode() + b"\n"
    for damaged, message in ((raw.replace(b"user", b"uses"), "was edited"), (old, "schema version 1"), (b"", "empty or cut"), (b"\n", "not valid JSON")):
        shared_path.write_bytes(damaged)
        with pytest.raises(LedgerError, match=message):
            spend(book, seed=1)
    assert entries(tmp_path / "a.jsonl") == []


def test_a_snapshot_is_the_ledger_as_it_is_now(tmp_path):
    book = open_book(tmp_path)
    before = read_snapshot(tmp_path / "shared.jsonl")
    spend(book, seed=1)
    assert len(Ledger.parse(tmp_path / "s", before).entries) == 0
    assert len(Ledger.parse(tmp_path / "s", read_snapshot(tmp_path / "shared.jsonl")).entries) == 1
    with pytest.raises(LedgerError, match="cannot be read"):
        read_snapshot(tmp_path / "none.jsonl")


def test_room_is_asked_for_without_a_charge(tmp_path):
    book, key = open_book(tmp_path), Keystream.from_seed(1)
    book.check_room([("a", EVENT), ("b", EVENT)])
    with pytest.raises(BudgetExceededError, match=r"privacy\.ledger: .* no room for this run"):
        book.check_room([("a", EVENT)] * 3)
    assert not book.is_charged("a", key)
    assert book.data_set.read_events("train/with_dp") == []
    spend(book, seed=1)
    assert book.is_charged("train/with_dp", key)
    assert not book.is_charged("a", key)
    assert not book.is_charged("train/with_dp", Keystream.from_seed(2))
    assert book.data_set.read_events("train/with_dp") == [EVENT]
    alone = Book(book.run)
    alone.check_room([("a", EVENT)] * 3)
    assert not alone.is_charged("train/with_dp", key)
