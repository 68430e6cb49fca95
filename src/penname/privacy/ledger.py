"""The ledger: what was spent, written before it is spent. One JSON object a line, each with its own hash and the hash of the line before.

The first line is the promise. An event binds the mechanism's fields to the key its randomness comes from and to what it reads, so that
computing the same thing again after a crash is the same event, and computing anything else is a new one. Both are commitments under the
secret key: the ledger is released, and a plain hash of private data would tell whoever knows all but one record whether it is in.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from penname.privacy.accounting import check_event, compute_epsilon
from penname.privacy.errors import BudgetExceededError, LedgerError, PrivacyError
from penname.privacy.keystream import Keystream
from penname.privacy.unit import NEIGHBORING_RELATION, UNIT_DEFINITIONS

SCHEMA_VERSION = 1
_PROMISE_FIELDS = {"schema_version", "target_epsilon", "delta", "privacy_unit", "neighboring_relation", "noise_source"}
_EVENT_FIELDS = {"event_id", "event", "key_commitment", "inputs_commitment", "previous_sha256"}
_NOISE_SOURCES = ("operating_system", "seed")


@dataclass(frozen=True)
class Promise:
    """What the run promises. Nothing may be spent beyond it."""

    target_epsilon: float
    delta: float
    privacy_unit: str
    neighboring_relation: str
    noise_source: str


class Ledger:
    """The ledger of one run."""

    def __init__(self, path: Path, promise: Promise, entries: list[dict[str, Any]], last_sha256: str) -> None:
        self.path, self.promise, self.entries = path, promise, entries
        self._last_sha256 = last_sha256

    @classmethod
    def open(cls, path: Path, promise: Promise) -> Ledger:
        """The ledger in `path`, begun with `promise` when there is none.

        Raises:
          LedgerError: the file is damaged, was begun with another promise, or the promise is none that the accountant can hold.
        """
        _check_promise(path, promise)
        if path.exists():
            # A promise that a crash cut was never promised: it is begun again.
            _drop_cut_tail(path)
        if not path.exists() or path.stat().st_size == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
            _append(path, _seal({"schema_version": SCHEMA_VERSION, **vars(promise)}))
            _sync_folder(path.parent)
        ledger = cls.read(path)
        if ledger.promise != promise:
            changed = [name for name, value in vars(promise).items() if getattr(ledger.promise, name) != value]
            raise LedgerError(f"{path}: was begun with another promise ({', '.join(changed)} differ); choose a new folder for --out")
        return ledger

    @classmethod
    def read(cls, path: Path) -> Ledger:
        """Reads a ledger and checks the form of every line, its own hash and the chain of hashes.

        Who writes a ledger anew can compute new hashes; they find damage and careless edits. Cutting whole lines off the end is found by
        the certificate, which lists the events. A last line without its newline was cut by a crash before anything was computed under it, and is dropped.

        Raises:
          LedgerError: names the line that is damaged.
        """
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise LedgerError(f"{path}: cannot be read: {error.strerror}") from None
        lines = raw.split(b"\n")[:-1]
        if not lines:
            raise LedgerError(f"{path}: holds no promise; it is empty or cut")
        promise, last_sha256 = _parse_promise(path, lines[0])
        entries: list[dict[str, Any]] = []
        for line_num, line in enumerate(lines[1:], 2):
            entry, last_sha256 = _parse_entry(path, line_num, line, last_sha256)
            entries.append(entry)
        return cls(path, promise, entries, last_sha256)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events, in the accountant's form."""
        return [entry["event"] for entry in self.entries]

    def epsilon_spent(self) -> float:
        """What all events together have spent, at the promised delta."""
        return compute_epsilon(self.events, delta=self.promise.delta)

    def spend(self, event_id: str, event: dict[str, Any], *, keystream: Keystream, inputs_sha256: str) -> None:
        """Charges an event, on disk before this returns. Call it before the private data is touched.

        The same event under the same key on the same inputs is charged once, however often it is computed. Under the same key on other
        inputs it is refused: both would get the same noise, and their difference would be free of it.

        Args:
          event_id: What is released, such as `train/with_dp`.
          event: The mechanism's own event.
          keystream: Where its randomness comes from.
          inputs_sha256: Hash of the data and settings that the mechanism reads. PRIVATE; the ledger holds a commitment to it.
        Raises:
          BudgetExceededError: the promise would be broken; nothing is written.
          LedgerError: the event was charged before under this key, for something else; nothing is written.
        """
        check_event(event)
        entry = {"event_id": event_id, "event": event, "key_commitment": keystream.commitment, "inputs_commitment": keystream.commit(inputs_sha256)}
        namesakes = [old for old in self.entries if old["event_id"] == event_id]
        if any({name: old[name] for name in entry} == entry for old in namesakes):
            return
        if any(old["key_commitment"] == keystream.commitment for old in namesakes):
            raise LedgerError(
                f"{self.path}: {event_id} was charged before with other data or settings under the same key; its noise may not be used twice. "
                "Start a run in a new folder for --out"
            )
        after = compute_epsilon([*self.events, event], delta=self.promise.delta)
        if after > self.promise.target_epsilon:
            why = "was charged before under another key; a second release costs again" if namesakes else "does not fit"
            raise BudgetExceededError(
                f"privacy budget: {event_id} {why}: epsilon would be {after:.4g}, promised is {self.promise.target_epsilon:g}. "
                "Start a run in a new folder for --out"
            )
        entry["previous_sha256"] = self._last_sha256
        _drop_cut_tail(self.path)
        _append(self.path, _seal(entry))
        self.entries.append(entry)
        self._last_sha256 = _hash(entry)


def _to_bytes(value: dict[str, Any]) -> bytes:
    """The one form in which a line is written, and read."""
    return json.dumps(value, sort_keys=True, allow_nan=False).encode()


def _hash(value: dict[str, Any]) -> str:
    return hashlib.sha256(_to_bytes(value)).hexdigest()


def _seal(value: dict[str, Any]) -> bytes:
    return _to_bytes({**value, "sha256": _hash(value)}) + b"\n"


def _sync_folder(folder: Path) -> None:
    """A new file is on disk only when its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _append(path: Path, line: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        # A disk that fills up takes a part of the line and says so only in this number; nothing may be computed under half an event.
        if os.write(handle, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(handle)
    finally:
        os.close(handle)


def _drop_cut_tail(path: Path) -> None:
    raw = path.read_bytes()
    if not raw.endswith(b"\n"):
        os.truncate(path, raw.rfind(b"\n") + 1)


def _parse_json(path: Path, line_num: int, line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise LedgerError(f"{path}:{line_num}: is damaged (not valid JSON)") from None
    if not isinstance(value, dict):
        raise LedgerError(f"{path}:{line_num}: is damaged (not an object)")
    return cast("dict[str, Any]", value)


def _unseal(path: Path, line_num: int, line: bytes, value: dict[str, Any], fields: set[str]) -> str:
    """Takes the hash out of a parsed line and checks it, and that the line is written as `_seal` writes it."""
    sha256 = value.pop("sha256", None)
    if set(value) != fields:
        raise LedgerError(f"{path}:{line_num}: has the wrong fields; it was edited")
    try:
        is_whole = line + b"\n" == _seal(value) and sha256 == _hash(value)
    except ValueError:
        is_whole = False
    if not is_whole:
        raise LedgerError(f"{path}:{line_num}: was edited: it does not have the hash that it states")
    return str(sha256)


def _parse_promise(path: Path, line: bytes) -> tuple[Promise, str]:
    value = _parse_json(path, 1, line)
    if value.get("schema_version") != SCHEMA_VERSION:
        raise LedgerError(f"{path}:1: schema version {value.get('schema_version')!r} is not the {SCHEMA_VERSION} that this penname reads")
    sha256 = _unseal(path, 1, line, value, _PROMISE_FIELDS)
    del value["schema_version"]
    promise = Promise(**value)
    _check_promise(path, promise)
    return promise, sha256


def _check_promise(path: Path, promise: Promise) -> None:
    """A promise that the accountant cannot hold, such as another neighbouring relation or an epsilon of NaN, is none."""
    is_number = all(type(value) in (int, float) for value in (promise.target_epsilon, promise.delta))
    if not is_number or not 0 < promise.target_epsilon < float("inf") or not 0 < promise.delta < 1:
        raise LedgerError(f"{path}: target_epsilon must be positive and finite and delta in (0, 1), are {promise.target_epsilon!r}, {promise.delta!r}")
    if promise.privacy_unit not in list(UNIT_DEFINITIONS):
        raise LedgerError(f"{path}: privacy_unit {promise.privacy_unit!r} is not one of {', '.join(UNIT_DEFINITIONS)}")
    if promise.neighboring_relation != NEIGHBORING_RELATION:
        raise LedgerError(f"{path}: neighboring_relation {promise.neighboring_relation!r} is not what the accountant assumes, {NEIGHBORING_RELATION}")
    if promise.noise_source not in _NOISE_SOURCES:
        raise LedgerError(f"{path}: noise_source {promise.noise_source!r} is not one of {', '.join(_NOISE_SOURCES)}")


def _parse_entry(path: Path, line_num: int, line: bytes, previous: str) -> tuple[dict[str, Any], str]:
    entry = _parse_json(path, line_num, line)
    sha256 = _unseal(path, line_num, line, entry, _EVENT_FIELDS)
    if entry["previous_sha256"] != previous:
        raise LedgerError(f"{path}:{line_num}: does not follow from the line before; a line was edited, added or removed")
    try:
        check_event(entry["event"])
    except PrivacyError as error:
        raise LedgerError(f"{path}:{line_num}: {error}") from None
    return entry, sha256
