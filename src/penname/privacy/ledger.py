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
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from penname.privacy.accounting import check_event, check_promise, compute_epsilon_in_two_parts, compute_epsilon_rdp
from penname.privacy.errors import BudgetExceededError, LedgerError, PrivacyError, show_value
from penname.privacy.keystream import Keystream
from penname.privacy.unit import NEIGHBORING_RELATION, define_unit

SCHEMA_VERSION = 2
COUNT_ID, TRAINING_ID, HISTOGRAM_ID = "count_units", "train/with_dp", "histogram/rating_category"
"""What a run charges, in this order."""
MAX_EVENTS = 1000
"""Of one ledger; a longer one is refused, so that no file can make a reader wait."""
_MAX_BYTES = 2 * 1024 * MAX_EVENTS
_HEADING_FIELDS = {
    *("schema_version", "target_epsilon", "delta", "privacy_unit", "unit_column", "neighboring_relation", "noise_source"),
    *("data_commitment", "data_set_ledger"),
}
_EVENT_FIELDS = {"event_id", "event", "key_commitment", "inputs_commitment", "previous_sha256"}
_NOISE_SOURCES = ("operating_system", "seed")
_DIGEST = re.compile("[0-9a-f]{64}")
_MAX_NAME = 200


@dataclass(frozen=True)
class Promise:
    """What is promised. Nothing may be spent beyond it."""

    target_epsilon: float
    delta: float
    privacy_unit: str
    neighboring_relation: str
    noise_source: str
    unit_column: str | None = None


@dataclass(frozen=True)
class Scope:
    """Whose budget a ledger keeps: that of one run, or that of a data set, which several runs share."""

    data_commitment: str | None = None
    """Of a data set's ledger: commitment to its reviews, under the key that is kept beside it."""
    data_set_ledger: str | None = None
    """Of a run's ledger: hash of the first line of the data set's ledger that the run is charged to as well."""


@dataclass(frozen=True)
class Receipt:
    """Says that an event stands in the ledger, on disk. A mechanism works under the receipt for its own event and under no other."""

    event_id: str
    event: dict[str, Any]
    key_commitment: str


class Ledger:
    """The ledger of one run, or of one data set."""

    def __init__(self, path: Path, promise: Promise, scope: Scope, entries: list[dict[str, Any]], *, heading_sha256: str, last_sha256: str) -> None:
        self.path, self.promise, self.scope, self.entries, self.heading_sha256 = path, promise, scope, entries, heading_sha256
        self._last_sha256 = last_sha256

    @classmethod
    def open(cls, path: Path, promise: Promise, scope: Scope | None = None) -> Ledger:
        """The ledger in `path`, begun with `promise` when there is none.

        Args:
          path: Of the file.
          promise: For all events together.
          scope: None: a run that shares no data set's ledger.
        Raises:
          LedgerError: the file is damaged, was begun with another promise, or the promise is none that the accountant can hold.
        """
        scope = scope or Scope()
        _check_heading(path, promise, scope)
        if path.exists():
            # A promise that a crash cut was never promised: it is begun again.
            _drop_cut_tail(path)
        if not path.exists() or path.stat().st_size == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
            _append(path, _seal({"schema_version": SCHEMA_VERSION, **vars(promise), **vars(scope)}))
            _sync_folder(path.parent)
        ledger = cls.read(path)
        changed = [name for name, value in {**vars(promise), **vars(scope)}.items() if {**vars(ledger.promise), **vars(ledger.scope)}[name] != value]
        if changed:
            raise LedgerError(f"{path}: was begun with another promise ({', '.join(changed)} differ); choose a new folder for --out")
        return ledger

    @classmethod
    def read(cls, path: Path) -> Ledger:
        """Reads a ledger from disk; see `parse`."""
        return cls.parse(path, read_bounded(path))

    @classmethod
    def parse(cls, path: Path, raw: bytes) -> Ledger:
        """Checks the form of every line, its own hash and the chain of hashes.

        Who writes a ledger anew can compute new hashes; they find damage and careless edits. Cutting whole lines off the end is found by
        the certificate, which lists the events. A last line without its newline was cut by a crash before anything was computed under it, and is dropped.

        Args:
          path: Where `raw` was read, for messages.
          raw: The file.
        Raises:
          LedgerError: names the line that is damaged.
        """
        lines = raw.split(b"\n")[:-1]
        if not lines:
            raise LedgerError(f"{path}: holds no promise; it is empty or cut")
        if len(lines) > 1 + MAX_EVENTS:
            raise LedgerError(f"{path}: holds more than {MAX_EVENTS:,} events")
        promise, scope, heading_sha256 = _parse_heading(path, lines[0])
        last_sha256, entries = heading_sha256, list[dict[str, Any]]()
        for line_num, line in enumerate(lines[1:], 2):
            entry, last_sha256 = _parse_entry(path, line_num, line, last_sha256)
            entries.append(entry)
        return cls(path, promise, scope, entries, heading_sha256=heading_sha256, last_sha256=last_sha256)

    @property
    def named_events(self) -> list[tuple[str, dict[str, Any]]]:
        """Ids and events."""
        return [(entry["event_id"], entry["event"]) for entry in self.entries]

    def epsilon_spent(self) -> float:
        """What all events together have spent, at the promised delta."""
        return _compute_epsilon(self.named_events, self.promise.delta)

    def epsilon_rdp(self) -> float:
        """The same by the other road, an upper bound too."""
        return _compute_epsilon(self.named_events, self.promise.delta, by=compute_epsilon_rdp)

    def spend(self, event_id: str, event: dict[str, Any], *, keystream: Keystream, inputs_sha256: str) -> Receipt:
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
          LedgerError: the event was charged before under this key, for something else, or the ledger is full; nothing is written.
        """
        if self.admit(event_id, event, keystream=keystream, inputs_sha256=inputs_sha256):
            entry = {**_describe(event_id, event, keystream, inputs_sha256), "previous_sha256": self._last_sha256}
            _drop_cut_tail(self.path)
            _append(self.path, _seal(entry))
            self.entries.append(entry)
            self._last_sha256 = _hash(entry)
        return Receipt(event_id, dict(event), keystream.commitment)

    def admit(self, event_id: str, event: dict[str, Any], *, keystream: Keystream, inputs_sha256: str) -> bool:
        """Whether `spend` would write a line; False when the very event was charged before. Raises what `spend` raises, and writes nothing."""
        check_event(event)
        entry = _describe(event_id, event, keystream, inputs_sha256)
        namesakes = [old for old in self.entries if old["event_id"] == event_id]
        if any({name: old[name] for name in entry} == entry for old in namesakes):
            return False
        if any(old["key_commitment"] == keystream.commitment for old in namesakes):
            raise LedgerError(
                f"{self.path}: {event_id} was charged before with other data or settings under the same key; its noise may not be used twice. "
                "Start a run in a new folder for --out" + (", with another privacy.noise_seed" if keystream.source == "seed" else "")
            )
        if len(self.entries) >= MAX_EVENTS:
            raise LedgerError(f"{self.path}: holds {MAX_EVENTS:,} events and takes no more")
        self.check_room(
            [(event_id, event)], what=f"{event_id} again, under another key, which costs again," if namesakes and not self.is_of_data_set else event_id
        )
        return True

    @property
    def is_of_data_set(self) -> bool:
        """Whether several runs share it."""
        return self.scope.data_commitment is not None

    def check_room(self, events: Sequence[tuple[str, dict[str, Any]]], *, what: str) -> None:
        """Checks that the promise holds with more events.

        Args:
          events: Ids and events that would be added, all of them.
          what: They are, for the message.
        Raises:
          BudgetExceededError: it would not.
        """
        after, promised = _compute_epsilon([*self.named_events, *events], self.promise.delta), self.promise.target_epsilon
        if after <= promised:
            return
        if self.is_of_data_set:
            raise BudgetExceededError(
                f"privacy.ledger: the budget of the data set in {self.path} has no room for {what}: epsilon of all runs would be {after:.4g}, "
                f"its budget is {promised:g}; lower privacy.target_epsilon, or stop using this data"
            )
        raise BudgetExceededError(
            f"privacy budget: {what} does not fit: epsilon would be {after:.4g}, promised is {promised:g}. Start a run in a new folder for --out"
        )


def _compute_epsilon(events: Sequence[tuple[str, dict[str, Any]]], delta: float, *, by: Callable[..., float] | None = None) -> float:
    """Counts first, all else after them: sampling probability and noise of the training depend on its run's count."""
    counts = [event for event_id, event in events if event_id == COUNT_ID]
    others = [event for event_id, event in events if event_id != COUNT_ID]
    return compute_epsilon_in_two_parts(counts, others, delta=delta, by=by)


def _describe(event_id: str, event: dict[str, Any], keystream: Keystream, inputs_sha256: str) -> dict[str, Any]:
    return {"event_id": event_id, "event": event, "key_commitment": keystream.commitment, "inputs_commitment": keystream.commit(inputs_sha256)}


def read_bounded(path: Path) -> bytes:
    """The bytes of a ledger.

    Raises:
      LedgerError: it cannot be read, or is longer than any ledger.
    """
    try:
        with open(path, "rb") as handle:
            raw = handle.read(_MAX_BYTES + 1)
    except OSError as error:
        raise LedgerError(f"{path}: cannot be read: {error.strerror}") from None
    if len(raw) > _MAX_BYTES:
        raise LedgerError(f"{path}: is longer than any ledger ({_MAX_BYTES:,} bytes)")
    return raw


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
    except (ValueError, RecursionError):
        is_whole = False
    if not is_whole:
        raise LedgerError(f"{path}:{line_num}: was edited: it does not have the hash that it states")
    return str(sha256)


def _parse_heading(path: Path, line: bytes) -> tuple[Promise, Scope, str]:
    value = _parse_json(path, 1, line)
    version = value.get("schema_version")
    if type(version) is not int or version != SCHEMA_VERSION:
        raise LedgerError(f"{path}:1: schema version {show_value(version)} is not the {SCHEMA_VERSION} that this penname reads")
    sha256 = _unseal(path, 1, line, value, _HEADING_FIELDS)
    del value["schema_version"]
    scope = Scope(**{name: value.pop(name) for name in vars(Scope())})
    promise = Promise(**value)
    _check_heading(path, promise, scope)
    return promise, scope, sha256


def _check_heading(path: Path, promise: Promise, scope: Scope) -> None:
    """A promise that the accountant cannot hold, such as another neighbouring relation or an epsilon of NaN, is none."""
    try:
        check_promise(promise.target_epsilon, promise.delta)
        define_unit(promise.privacy_unit, promise.unit_column)
    except PrivacyError as error:
        raise LedgerError(f"{path}: {error}") from None
    if promise.unit_column is not None and len(promise.unit_column) > _MAX_NAME:
        raise LedgerError(f"{path}: unit_column: has more than {_MAX_NAME} characters")
    if promise.neighboring_relation != NEIGHBORING_RELATION:
        raise LedgerError(f"{path}: neighboring_relation {show_value(promise.neighboring_relation)} is not what the accountant assumes, {NEIGHBORING_RELATION}")
    if promise.noise_source not in _NOISE_SOURCES:
        raise LedgerError(f"{path}: noise_source {show_value(promise.noise_source)} is not one of {', '.join(_NOISE_SOURCES)}")
    given = {name: value for name, value in vars(scope).items() if value is not None}
    if len(given) > 1 or not all(map(_is_digest, given.values())):
        raise LedgerError(f"{path}: one of data_commitment and data_set_ledger may be given, as a hash; has {show_value(given)}")


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _parse_entry(path: Path, line_num: int, line: bytes, previous: str) -> tuple[dict[str, Any], str]:
    entry = _parse_json(path, line_num, line)
    sha256 = _unseal(path, line_num, line, entry, _EVENT_FIELDS)
    if entry["previous_sha256"] != previous:
        raise LedgerError(f"{path}:{line_num}: does not follow from the line before; a line was edited, added or removed")
    try:
        check_event(entry["event"])
    except PrivacyError as error:
        raise LedgerError(f"{path}:{line_num}: {error}") from None
    if entry["event"]["type"] == "non_private":
        raise LedgerError(f"{path}:{line_num}: event non_private: no promise holds with it")
    name = entry["event_id"]
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME or not name.isprintable():
        raise LedgerError(f"{path}:{line_num}: event_id {show_value(name)} is no name")
    if not _is_digest(entry["key_commitment"]) or not _is_digest(entry["inputs_commitment"]):
        raise LedgerError(f"{path}:{line_num}: key_commitment and inputs_commitment must be hashes")
    return entry, sha256
