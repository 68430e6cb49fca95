"""Places other than this machine's disk: which there are, and what is asked of them."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol

from penname.errors import StoreError, UsageError

ANSWER_SECS = 18.0
"""A store that says nothing for so long is not there."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a store."""

    location: str
    """With its scheme."""
    name: str
    """Its path below the folder that was asked for."""
    num_bytes: int
    version: str
    """Another one when the content is another."""
    sha256: str | None = None
    """Where the store knows it."""


class Store(Protocol):
    """Where files can be found and read."""

    def find(self, location: str, *, recursive: bool = False) -> list[RemoteFile]:
        """The file at `location`, or the files of that folder or pattern, sorted by name; empty where there is none."""
        ...

    def read(self, file: RemoteFile, start: int) -> Iterator[bytes]:
        """The bytes of a file from `start` on, in pieces."""
        ...


def is_remote(location: str) -> bool:
    """Whether this is the address of a store, not a path on this machine.

    >>> is_remote("s3://reviews/2023.jsonl.gz"), is_remote("data/2023.jsonl.gz")
    (True, False)
    """
    return _SCHEME.match(location) is not None


def open_store(location: str) -> Store:
    """The store that `location` names. Nothing is asked of it yet.

    Raises:
      UsageError: there is no such store, or the location is incomplete.
    """
    scheme = found[1].lower() if (found := _SCHEME.match(location)) else ""
    if not location.isprintable():
        raise UsageError(f"{location!r}: is no location")
    if scheme == "s3":
        from penname.stores.s3 import S3Store

        return S3Store()
    if scheme == "hf":
        from penname.stores.hub import HubStore

        return HubStore()
    raise UsageError(f"{location}: {scheme}:// cannot be read; a path on this machine, s3://BUCKET/KEY and hf://datasets/OWNER/NAME/PATH can")


def split_location(location: str) -> tuple[str, str | None]:
    """A location without its scheme, and the pattern of its last part where that is one.

    Raises:
      UsageError: a part that is not the last holds a wildcard.

    >>> split_location("s3://reviews/2023/part-*.jsonl.gz")
    ('reviews/2023', 'part-*.jsonl.gz')
    """
    path = location.split("://", 1)[1].rstrip("/")
    folder, _, last = path.rpartition("/")
    if any(sign in folder for sign in "*?["):
        raise UsageError(f"{location}: *, ? and [ can stand in the last part only")
    return (folder, last) if folder and any(sign in last for sign in "*?[") else (path, None)


def is_wanted(name: str, pattern: str | None, *, recursive: bool) -> bool:
    """Whether a file below a folder belongs to what was asked for: hidden files and marks such as _SUCCESS hold no rows.

    Raises:
      StoreError: the name would lead out of the folder that it is copied to.
    """
    if any(part in ("", ".", "..") for part in name.split("/")) or not name.isprintable() or "\\" in name:
        raise StoreError(f"{name!r}: a file of the store has a name that cannot be kept on this machine; rename it there")
    if recursive:
        return True
    return "/" not in name and not name.startswith((".", "_")) and (pattern is None or fnmatchcase(name, pattern))


def answer_within(secs: float, question: Callable[[], Any]) -> Any:
    """The answer to a question that a library would wait for without an end.

    Raises:
      TimeoutError: there is none after `secs` seconds; the question goes on in a thread that nobody waits for.
    """
    answer: list[Any] = []

    def ask() -> None:
        try:
            answer.append((question(), None))
        except BaseException as error:
            answer.append((None, error))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(secs)
    if not answer:
        raise TimeoutError(f"no answer after {secs:.0f} s")
    value, error = answer[0]
    if error is not None:
        raise error
    return value


def cache_folder() -> Path:
    """Where copies of remote files are kept: PENNAME_CACHE, or penname/ in the user's cache folder. PRIVATE: nobody else may look in."""
    named = os.environ.get("PENNAME_CACHE")
    folder = Path(named).expanduser() if named else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "penname"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    return folder.resolve()
