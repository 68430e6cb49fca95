import json
import math

import pytest

from penname.privacy import ledger as ledger_module
from penname.privacy.errors import BudgetExceededError, LedgerError, PrivacyError
from penname.privacy.keystream import Keystream
from penname.privacy.ledger import MAX_EVENTS, Ledger, Promise, Receipt, Scope

KEY, OTHER_KEY = Keystream.from_seed(1), Keystream.from_seed(2)
PROMISE = Promise(target_epsilon=2.0, delta=1e-5, privacy_unit="user", neighboring_relation="ADD_OR_REMOVE_ONE", noise_source="operating_system")
# One fits beside COUNT, a second does not.
TRAIN = {"type": "gaussian", "noise_multiplier": 2.5, "l2_sensitivity": 1.0}
COUNT = {"type": "gaussian", "noise_multiplier": 20.0, "l2_sensitivity": 1.0}


def events_of(ledger):
    return [event for _, event in ledger.named_events]


@pytest.fixture
def path(tmp_path):
    ledger = Ledger.open(tmp_path / "ledger.jsonl", PROMISE)
    ledger.spend("count_units", COUNT, keystream=KEY, inputs_sha256="aa")
    ledger.spend("train/with_dp", TRAIN, keystream=KEY, inputs_sha256="aa")
    return ledger.path


def test_what_was_spent_is_read_back(path):
    ledger = Ledger.read(path)
    assert ledger.promise == PROMISE
    assert events_of(ledger) == [COUNT, TRAIN]
    assert [entry["event_id"] for entry in ledger.entries] == ["count_units", "train/with_dp"]
    assert 1.0 < ledger.epsilon_spent() <= 2.0


def test_the_same_event_is_charged_once_in_any_process(path):
    before = path.read_bytes()
    for ledger in (Ledger.open(path, PROMISE), Ledger.read(path)):
        receipt = ledger.spend("train/with_dp", dict(TRAIN), keystream=Keystream.from_seed(1), inputs_sha256="aa")
        assert receipt == Receipt("train/with_dp", TRAIN, KEY.commitment)
        assert not ledger.admit("train/with_dp", TRAIN, keystream=KEY, inputs_sha256="aa")
    assert path.read_bytes() == before


@pytest.mark.parametrize("changed", [{"inputs_sha256": "bb"}, {"event": {**COUNT, "noise_multiplier": 30.0}}])
def test_the_same_noise_is_never_used_for_something_else(path, changed):
    before = path.read_bytes()
    charge = {"event": COUNT, "inputs_sha256": "aa"} | changed
    with pytest.raises(LedgerError, match="noise may not be used twice"):
        Ledger.read(path).spend("count_units", charge["event"], keystream=KEY, inputs_sha256=charge["inputs_sha256"])
    assert path.read_bytes() == before


def test_another_key_is_charged_again_when_it_fits_and_refused_when_not(path):
    ledger = Ledger.read(path)
    spent = ledger.epsilon_spent()
    ledger.spend("count_units", COUNT, keystream=OTHER_KEY, inputs_sha256="aa")
    assert events_of(Ledger.read(path)) == [COUNT, TRAIN, COUNT]
    assert Ledger.read(path).epsilon_spent() > spent
    before = path.read_bytes()
    with pytest.raises(BudgetExceededError, match=r"again, under another key, which costs again, does not fit: epsilon would be .*promised is 2"):
        ledger.spend("train/with_dp", TRAIN, keystream=OTHER_KEY, inputs_sha256="aa")
    assert path.read_bytes() == before
    assert len(ledger.entries) == 3


def test_overspending_writes_nothing(path):
    before = path.read_bytes()
    with pytest.raises(BudgetExceededError, match="does not fit"):
        Ledger.read(path).spend("histogram", {**COUNT, "noise_multiplier": 0.5}, keystream=KEY, inputs_sha256="aa")
    with pytest.raises(BudgetExceededError, match="epsilon would be inf"):
        Ledger.read(path).spend("train/no_dp", {"type": "non_private"}, keystream=KEY, inputs_sha256="aa")
    with pytest.raises(PrivacyError, match="laplace"):
        Ledger.read(path).spend("histogram", {**COUNT, "type": "laplace"}, keystream=KEY, inputs_sha256="aa")
    assert path.read_bytes() == before


def test_no_hash_of_private_data_stands_in_the_ledger(path):
    # Who knows all but one record could compute the hash of both data sets and compare.
    digest = "c0ffee" * 10
    Ledger.read(path).spend("histogram", COUNT, keystream=KEY, inputs_sha256=digest)
    assert digest.encode() not in path.read_bytes()
    entry = Ledger.read(path).entries[-1]
    assert entry["inputs_commitment"] == KEY.commit(digest) != OTHER_KEY.commit(digest)


def test_every_edited_byte_is_found(path):
    raw = path.read_bytes()
    for position in range(len(raw)):
        for flip in (0x01, 0x20):
            edited = bytearray(raw)
            edited[position] ^= flip
            path.write_bytes(bytes(edited))
            if position == len(raw) - 1:
                # Without its newline the last line counts as cut by a crash: only that line is dropped.
                assert events_of(Ledger.read(path)) == [COUNT]
                continue
            with pytest.raises(LedgerError, match=r"ledger\.jsonl:\d: "):
                Ledger.read(path)


def test_every_cut_drops_the_last_line_only_or_is_found(path):
    raw = path.read_bytes()
    ends = [i for i, byte in enumerate(raw) if byte == ord("\n")]
    for length in range(len(raw)):
        path.write_bytes(raw[:length])
        num_lines = sum(end < length for end in ends)
        if num_lines == 0:
            with pytest.raises(LedgerError, match="empty or cut"):
                Ledger.read(path)
        else:
            assert len(Ledger.read(path).entries) == num_lines - 1


def test_a_cut_line_is_cleared_away_before_the_next_charge(path):
    raw = path.read_bytes()
    path.write_bytes(raw[:-40])
    ledger = Ledger.read(path)
    assert events_of(ledger) == [COUNT]
    ledger.spend("train/with_dp", TRAIN, keystream=KEY, inputs_sha256="aa")
    assert path.read_bytes() == raw


def test_a_cut_promise_is_begun_again(path):
    path.write_bytes(path.read_bytes()[:30])
    assert Ledger.open(path, PROMISE).entries == []


@pytest.mark.parametrize("order", [[0, 2], [0, 2, 1], [1, 2], [0, 1, 1, 2], [0, 0, 1, 2]])
def test_removed_swapped_and_repeated_lines_are_found(path, order):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[i] for i in order))
    with pytest.raises(LedgerError, match=r":\d: "):
        Ledger.read(path)


def test_another_promise_is_refused(path):
    others = [{"target_epsilon": 8.0}, {"delta": 1e-6}, {"privacy_unit": "record"}, {"noise_source": "seed"}, {"privacy_unit": "column", "unit_column": "shop"}]
    before = path.read_bytes()
    for changed in others:
        with pytest.raises(LedgerError, match=rf"another promise .{', '.join(sorted(changed))} differ"):
            Ledger.open(path, Promise(**(vars(PROMISE) | changed)))
    for scope in (Scope(data_commitment="a" * 64), Scope(data_set_ledger="a" * 64)):
        with pytest.raises(LedgerError, match=r"another promise .data_"):
            Ledger.open(path, PROMISE, scope)
    assert path.read_bytes() == before


def test_the_column_of_the_unit_is_part_of_the_promise(tmp_path):
    promise = Promise(2.0, 1e-5, "column", "ADD_OR_REMOVE_ONE", "seed", "household_id")
    Ledger.open(tmp_path / "ledger.jsonl", promise)
    assert Ledger.read(tmp_path / "ledger.jsonl").promise == promise
    with pytest.raises(LedgerError, match="unit_column differ"):
        Ledger.open(tmp_path / "ledger.jsonl", Promise(2.0, 1e-5, "column", "ADD_OR_REMOVE_ONE", "seed", "shop"))


BAD_PROMISES = [
    {"target_epsilon": float("inf")},
    {"target_epsilon": float("nan")},
    {"target_epsilon": 0},
    {"target_epsilon": "8"},
    {"target_epsilon": True},
    {"delta": 1.0},
    {"delta": "1e-5"},
    {"privacy_unit": "family"},
    {"privacy_unit": []},
    {"unit_column": "household_id"},
    {"unit_column": None, "privacy_unit": "column"},
    {"unit_column": "a\x1b[2J", "privacy_unit": "column"},
    {"unit_column": "a" * 201, "privacy_unit": "column"},
    {"neighboring_relation": "REPLACE_ONE"},
    {"noise_source": "dice"},
]


@pytest.mark.parametrize("changed", BAD_PROMISES)
def test_a_promise_that_cannot_be_held_is_neither_begun_nor_read(tmp_path, changed):
    path = tmp_path / "ledger.jsonl"
    values = vars(PROMISE) | changed
    with pytest.raises(LedgerError, match=next(iter(changed))):
        Ledger.open(path, Promise(**values))
    assert not path.exists()
    if isinstance(values["target_epsilon"], float) and not math.isfinite(values["target_epsilon"]):
        line = json.dumps({"schema_version": 2, **values, **vars(Scope()), "sha256": ""}, sort_keys=True).encode() + b"\n"
    else:
        # With hashes that are right, as a forger would write them.
        line = ledger_module._seal({"schema_version": 2, **values, **vars(Scope())})
    path.write_bytes(line)
    with pytest.raises(LedgerError, match=r"ledger\.jsonl") as caught:
        Ledger.read(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("scope", [{"data_commitment": "short"}, {"data_set_ledger": 3}, {"data_commitment": "a" * 64, "data_set_ledger": "b" * 64}])
def test_a_scope_that_is_none_is_not_read(tmp_path, scope):
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(ledger_module._seal({"schema_version": 2, **vars(PROMISE), **vars(Scope()), **scope}))
    with pytest.raises(LedgerError, match="data_commitment and data_set_ledger"):
        Ledger.read(path)


@pytest.mark.parametrize("version", [0, 1, 3, 2.0, True, "2", None, "\x1b[2J"])
def test_another_schema_version_is_named(path, version):
    lines = path.read_bytes().splitlines(keepends=True)
    value = json.loads(lines[0]) | {"schema_version": version}
    path.write_bytes(json.dumps(value, sort_keys=True).encode() + b"\n")
    with pytest.raises(LedgerError, match="schema version"):
        Ledger.read(path)


@pytest.mark.parametrize(
    "line", [b"[]", b"null", b"\xff\xfe", b"[" * 20_000, b"{}", b'{"event": 1}', b"", b'{"event":' * 900 + b"1" + b"}" * 900, b"1" * 5000, b'{"event": 1e999}']
)
def test_strange_lines_are_found(path, line):
    with open(path, "ab") as handle:
        handle.write(line + b"\n")
    with pytest.raises(LedgerError, match=r"ledger\.jsonl:4"):
        Ledger.read(path)


@pytest.mark.parametrize("event", [None, [], {"type": "laplace"}, {**COUNT, "noise_multiplier": 1e308}, {**COUNT, "noise_multiplier": 10**300}])
def test_a_forged_event_that_cannot_be_accounted_is_refused(path, event):
    last = json.loads(path.read_bytes().splitlines()[-1])
    forge(path, {**last, "event": event})
    with pytest.raises(LedgerError, match=r"ledger\.jsonl:4: event"):
        Ledger.read(path)


def forge(path, line):
    """Adds a line with hashes that are right, as a forger would."""
    last = json.loads(path.read_bytes().splitlines()[-1])
    entry = {**line, "previous_sha256": last["sha256"]}
    del entry["sha256"]
    with open(path, "ab") as handle:
        handle.write(ledger_module._seal(entry))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        *(({"event_id": value}, "is no name") for value in (3, None, "", "a\x1b[2J", "a" * 201, ["x"])),
        *(
            ({name: value}, "must be hashes")
            for name in ("key_commitment", "inputs_commitment")
            for value in (None, 7, "", "A" * 64, "a" * 63, "a" * 64 + "\n")
        ),
        ({"event": {"type": "non_private"}}, "no promise holds with it"),
    ],
)
def test_a_forged_line_that_no_program_of_ours_writes_is_refused(path, changed, message):
    last = json.loads(path.read_bytes().splitlines()[-1])
    forge(path, {**last, **changed})
    with pytest.raises(LedgerError, match=message) as caught:
        Ledger.read(path)
    assert str(caught.value).isprintable()


def test_a_ledger_that_is_too_long_is_refused_at_once(path):
    last = json.loads(path.read_bytes().splitlines()[-1])
    for _ in range(MAX_EVENTS - 2):
        forge(path, last)
    ledger = Ledger.read(path)
    assert len(ledger.entries) == MAX_EVENTS
    assert ledger.epsilon_spent() > 100
    with pytest.raises(LedgerError, match="takes no more"):
        ledger.spend("histogram", COUNT, keystream=OTHER_KEY, inputs_sha256="aa")
    forge(path, last)
    with pytest.raises(LedgerError, match="more than 1,000 events"):
        Ledger.read(path)
    with open(path, "ab") as handle:
        handle.write(b" " * 3_000_000 + b"\n")
    with pytest.raises(LedgerError, match="longer than any ledger"):
        Ledger.read(path)


def test_a_missing_ledger_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(LedgerError, match="cannot be read"):
            Ledger.read(path)


def test_a_full_disk_is_an_error_and_not_half_an_event(path, monkeypatch):
    write = ledger_module.os.write
    monkeypatch.setattr(ledger_module.os, "write", lambda handle, data: write(handle, data[:20]))
    with pytest.raises(OSError, match="No space left"):
        Ledger.read(path).spend("histogram", COUNT, keystream=KEY, inputs_sha256="aa")
    monkeypatch.undo()
    assert events_of(Ledger.read(path)) == [COUNT, TRAIN]
