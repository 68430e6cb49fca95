"""The ledger: what was spent, written before it is spent. One JSON object a line, each line holding the hash of the line before.

The first line is the promise. An event binds the mechanism's fields to the key its randomness comes from and to the hash of what it
reads, so that computing the same thing again after a crash is the same event, and computing anything else is a new one.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penname.privacy.accounting import check_event, compute_epsilon
from penname.privacy.errors import BudgetExceededError, LedgerError, PrivacyError

SCHEMA_VERSION = 1
_PROMISE_FIELDS = {"schema_version", "target_epsilon", "delta", "privacy_unit", "neighboring_relation", "noise_source"}
_EVENT_FIELDS = {"event_id", "event", "key_commitment", "inputs_sha256", "previous_sha256"}


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
          LedgerError: the file is damaged, or was begun with another promise.
        """
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            line = _to_line({"schema_version": SCHEMA_VERSION, **vars(promise)})
            _append(path, line)
        ledger = cls.read(path)
        if ledger.promise != promise:
            changed = [name for name, value in vars(promise).items() if getattr(ledger.promise, name) != value]
            raise LedgerError(f"{path}: was begun with another promise ({', '.join(changed)} differ); choose a new folder for --out")
        return ledger

    @classmethod
    def read(cls, path: Path) -> Ledger:
        """Reads a ledger and checks the form of every line and the chain of hashes.

        A last line without its newline was cut by a crash before anything was computed under it, and is dropped.

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
        promise = _parse_promise(path, lines[0])
        entries: list[dict[str, Any]] = []
        previous = hashlib.sha256(lines[0]).hexdigest()
        for line_num, line in enumerate(lines[1:], 2):
            entries.append(_parse_entry(path, line_num, line, previous))
            previous = hashlib.sha256(line).hexdigest()
        return cls(path, promise, entries, previous)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events, in the accountant's form."""
        return [entry["event"] for entry in self.entries]

    def epsilon_spent(self) -> float:
        """What all events together have spent, at the promised delta."""
        return compute_epsilon(self.events, delta=self.promise.delta)

    def spend(self, event_id: str, event: dict[str, Any], *, key_commitment: str, inputs_sha256: str) -> None:
        """Charges an event, on disk before this returns. Call it before the private data is touched.

        The same event under the same key on the same inputs is charged once, however often it is computed.

        Args:
          event_id: What is released, such as `train/with_dp`.
          event: The mechanism's own event.
          key_commitment: Says which key the randomness comes from.
          inputs_sha256: Hash of the data and settings that the mechanism reads.
        Raises:
          BudgetExceededError: the promise would be broken; nothing is written.
        """
        check_event(event)
        entry = {"event_id": event_id, "event": event, "key_commitment": key_commitment, "inputs_sha256": inputs_sha256}
        if any({k: v for k, v in old.items() if k != "previous_sha256"} == entry for old in self.entries):
            return
        after = compute_epsilon([*self.events, event], delta=self.promise.delta)
        if after > self.promise.target_epsilon:
            again = any(old["event_id"] == event_id for old in self.entries)
            why = "was charged before with other inputs or another key; a second release costs again" if again else "does not fit"
            raise BudgetExceededError(
                f"privacy budget: {event_id} {why}: epsilon would be {after:.4g}, promised is {self.promise.target_epsilon:g}. "
                "Start a run in a new folder for --out"
            )
        line = _to_line({**entry, "previous_sha256": self._last_sha256})
        _drop_cut_tail(self.path)
        _append(self.path, line)
        self.entries.append({**entry, "previous_sha256": self._last_sha256})
        self._last_sha256 = hashlib.sha256(line.rstrip(b"\n")).hexdigest()


def _to_line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, allow_nan=False).encode() + b"\n"


def _append(path: Path, line: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, line)
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
    except ValueError:
        raise LedgerError(f"{path}:{line_num}: is damaged (not valid JSON)") from None
    if not isinstance(value, dict):
        raise LedgerError(f"{path}:{line_num}: is damaged (not an object)")
    return value


def _parse_promise(path: Path, line: bytes) -> Promise:
    value = _parse_json(path, 1, line)
    if value.get("schema_version") != SCHEMA_VERSION:
        raise LedgerError(f"{path}:1: schema version {value.get('schema_version')!r} is not the {SCHEMA_VERSION} that this penname reads")
    if set(value) != _PROMISE_FIELDS:
        raise LedgerError(f"{path}:1: the promise has the wrong fields; it was edited")
    del value["schema_version"]
    return Promise(**value)


def _parse_entry(path: Path, line_num: int, line: bytes, previous: str) -> dict[str, Any]:
    entry = _parse_json(path, line_num, line)
    if set(entry) != _EVENT_FIELDS:
        raise LedgerError(f"{path}:{line_num}: the event has the wrong fields; it was edited")
    if entry["previous_sha256"] != previous:
        raise LedgerError(f"{path}:{line_num}: does not follow from the line before; a line was edited, added or removed")
    try:
        check_event(entry["event"])
    except PrivacyError as error:
        raise LedgerError(f"{path}:{line_num}: {error}") from None
    return entry
