"""Where a run is charged: its own ledger, and the data set's, which is one budget for every run on that data.

Processes may share a data set's ledger: a lock beside it keeps them apart.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from penname.privacy.errors import LedgerError
from penname.privacy.keystream import Keystream
from penname.privacy.ledger import Ledger, Promise, Receipt, Scope, read_bounded


class DataSetLedger:
    """A ledger file that is read anew, under its lock, whenever it is used."""

    def __init__(self, path: Path, heading_sha256: str) -> None:
        self.path, self.heading_sha256 = path, heading_sha256

    @classmethod
    def open(cls, path: Path, promise: Promise, *, target_epsilon: float | None, data_sha256: str) -> DataSetLedger:
        """The ledger in `path`, begun when there is none.

        Args:
          path: Of the file. Beside it lie its key, which tells whether the data is the same, and its lock.
          promise: Of the run; unit, relation, delta and source of the noise must be those of the ledger.
          target_epsilon: Budget of the data set; needed to begin the file, otherwise None or the same.
          data_sha256: Hash of the private data. PRIVATE; the ledger holds a commitment to it.
        Raises:
          LedgerError: the file is missing or damaged, or belongs to other data or to another promise.
        """
        with _lock(path):
            is_begun = path.exists() and b"\n" in read_bounded(path)
            if not is_begun and target_epsilon is None:
                raise LedgerError(f"privacy.ledger_epsilon: {path} is not begun yet; say what all runs on this data may spend together")
            keystream = _open_key(path, is_begun=is_begun)
            scope = Scope(data_commitment=keystream.commit(data_sha256))
            if is_begun:
                ledger = Ledger.read(path)
                _check_same(ledger, promise, scope, target_epsilon=target_epsilon)
            else:
                ledger = Ledger.open(path, replace(promise, target_epsilon=target_epsilon), scope)
                os.replace(_new_key_path(path), _key_path(path))
        return cls(path, ledger.heading_sha256)

    @contextlib.contextmanager
    def hold(self) -> Generator[Ledger]:
        """What the file says now; nobody else changes it inside the block.

        Raises:
          LedgerError: the file is damaged, or another one than was opened.
        """
        with _lock(self.path):
            ledger = Ledger.read(self.path)
            if ledger.heading_sha256 != self.heading_sha256:
                raise LedgerError(f"privacy.ledger: {self.path} is not the ledger that this run is charged to; put that one back")
            yield ledger

    def read_events(self, event_id: str) -> list[dict[str, Any]]:
        """The events of all runs that have this id, in the order in which they were charged. RELEASABLE."""
        with self.hold() as ledger:
            return [event for name, event in ledger.named_events if name == event_id]


@dataclass(frozen=True)
class Book:
    """Where a run is charged: its own ledger, and before that the ledger of its data set where it shares one."""

    run: Ledger
    data_set: DataSetLedger | None = None

    def spend(self, event_id: str, event: dict[str, Any], *, keystream: Keystream, inputs_sha256: str) -> Receipt:
        """Charges an event to both; see `Ledger.spend`. Where one of them refuses, neither is written."""
        if self.data_set is not None:
            with self.data_set.hold() as shared:
                self.run.admit(event_id, event, keystream=keystream, inputs_sha256=inputs_sha256)
                shared.spend(event_id, event, keystream=keystream, inputs_sha256=inputs_sha256)
        return self.run.spend(event_id, event, keystream=keystream, inputs_sha256=inputs_sha256)

    def is_charged(self, event_id: str, keystream: Keystream) -> bool:
        """Whether the data set's ledger holds this event under this key."""
        if self.data_set is None:
            return False
        with self.data_set.hold() as shared:
            return any(entry["event_id"] == event_id and entry["key_commitment"] == keystream.commitment for entry in shared.entries)

    def check_room(self, events: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Checks, before a run charges anything, that the data set's budget has room for all of it.

        Args:
          events: Ids and events of the whole run, as far as they are known.
        Raises:
          BudgetExceededError: there is no room; nothing is written.
        """
        if self.data_set is not None:
            with self.data_set.hold() as shared:
                shared.check_room(events, what="this run")


def read_snapshot(path: Path) -> bytes:
    """The data set's ledger as it is now, for a release.

    Raises:
      LedgerError: it cannot be read.
    """
    with _lock(path):
        return read_bounded(path)


def _key_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.key")


def _new_key_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.key.new")


@contextlib.contextmanager
def _lock(path: Path) -> Generator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    # The lock is a file of its own and never removed: another process may be waiting for it.
    with open(path.with_name(f"{path.name}.lock"), "a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _open_key(path: Path, *, is_begun: bool) -> Keystream:
    """The key takes its name once the first line is written, so that a process killed between the two leaves nothing that looks lost."""
    key, new_key = _key_path(path), _new_key_path(path)
    if is_begun:
        if new_key.exists() and not key.exists():
            os.replace(new_key, key)
        if not key.exists():
            raise LedgerError(f"{key}: is missing; without it nobody can tell whether {path.name} is of this data. Put it back")
        return Keystream.from_key_file(key)
    if key.exists():
        raise LedgerError(f"privacy.ledger: {path} is lost or empty, though {key.name} beside it says that it was begun; put the ledger back")
    return Keystream.from_key_file(new_key)


def _check_same(ledger: Ledger, promise: Promise, scope: Scope, *, target_epsilon: float | None) -> None:
    path = ledger.path
    if not ledger.is_of_data_set:
        raise LedgerError(f"privacy.ledger: {path} is the ledger of one run, not of a data set; name another file")
    if ledger.scope != scope:
        raise LedgerError(f"privacy.ledger: {path} belongs to another data set; name the ledger of this one, or a new file")
    begun = ledger.promise
    if target_epsilon is not None and target_epsilon != begun.target_epsilon:
        raise LedgerError(f"privacy.ledger_epsilon: is {target_epsilon:g}, {path} was begun with {begun.target_epsilon:g}; it cannot change")
    for name in ("privacy_unit", "unit_column", "neighboring_relation", "delta", "noise_source"):
        if getattr(begun, name) != getattr(promise, name):
            raise LedgerError(f"privacy.ledger: {path} was begun with {name} {getattr(begun, name)}, this run has {getattr(promise, name)}")
