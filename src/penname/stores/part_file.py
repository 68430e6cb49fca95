"""A file that comes from elsewhere: kept under another name until it is whole, so that a stop in the middle costs nothing and fools nobody."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from penname.errors import DataError
from penname.progress import show_progress
from penname.run_dir import write_json

STATE_VERSION = 1
FREE_BYTES_LEFT = 256 * 2**20
"""Room that a fetched file must leave on the disk."""

_READ_BYTES = 2**20
_UNPACK_BYTES = 2**24


@dataclass(frozen=True, slots=True)
class Source:
    """What a part is a part of. Two parts fit together only where all of this is the same."""

    location: str
    version: str | None
    """Strong entity tag or time of change; None where the source tells neither, and nothing can be put together."""
    num_bytes: int | None


class PartFile:
    """`NAME.part`, and `NAME.part.json` with its source, until `finish` gives it its name.

    Raises:
      DataError: on entering, another process is writing it, or the folder cannot be made.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f"{target.name}.part")
        self.source: Source | None = None
        self._state_path = target.with_name(f"{target.name}.part.json")
        self._handle: IO[bytes] | None = None

    def __enter__(self) -> PartFile:
        self.target.parent.mkdir(parents=True, exist_ok=True)
        handle = open(self.path, "ab")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.close()
            raise DataError(f"{self.path}: another penname process is writing it; wait for it") from None
        self._handle, self.source = handle, _read_state(self._state_path)
        if self.source is None:
            handle.truncate(0)
            handle.seek(0)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._handle is None:
            return
        if self.num_bytes == 0:
            self.discard()
        self._handle.close()
        self._handle = None

    @property
    def num_bytes(self) -> int:
        """How much of it is here."""
        return self._open.tell()

    @property
    def is_complete(self) -> bool:
        """Whether as many bytes are here as the source has."""
        return self.source is not None and self.source.num_bytes is not None and self.num_bytes == self.source.num_bytes

    @property
    def _open(self) -> IO[bytes]:
        if self._handle is None:
            raise DataError(f"{self.path}: is not open")
        return self._handle

    def begin(self, source: Source) -> None:
        """Drops what is here and starts at the first byte of `source`."""
        self._open.truncate(0)
        self._open.seek(0)
        write_json(self._state_path, {"schema_version": STATE_VERSION, **dataclasses.asdict(source)})
        self.source = source

    def write(self, chunk: bytes) -> None:
        """Appends the next bytes."""
        self._open.write(chunk)

    def flush(self) -> None:
        """Makes what was written readable under `path`."""
        self._open.flush()

    def check_room(self) -> None:
        """Sees to it that the rest fits on the disk.

        Raises:
          DataError: it does not; says how much is missing.
        """
        if self.source is not None and self.source.num_bytes is not None:
            check_room(self.target.parent, self.source.num_bytes - self.num_bytes)

    def finish(self) -> None:
        """Gives the file its name, on disk to the last byte."""
        self._open.flush()
        os.fsync(self._open.fileno())
        os.replace(self.path, self.target)
        self._state_path.unlink(missing_ok=True)
        self._open.close()
        self._handle = None

    def discard(self) -> None:
        """Removes what is here."""
        self._open.truncate(0)
        self._open.seek(0)
        self.source = None
        self._state_path.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


def _read_state(path: Path) -> Source | None:
    """None where there is no state, or one that says nothing sure."""
    try:
        state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if state.pop("schema_version") != STATE_VERSION:
            return None
        source = Source(**state)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return source if isinstance(source.location, str) and isinstance(source.version, str) and isinstance(source.num_bytes, int | None) else None


def check_room(folder: Path, num_bytes: int) -> None:
    """Sees to it that so many bytes fit on the disk of `folder`, and some are left.

    Raises:
      DataError: they do not.
    """
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < num_bytes + FREE_BYTES_LEFT:
        needed = f"{format_bytes(num_bytes)} and {format_bytes(FREE_BYTES_LEFT)} to spare are needed"
        raise DataError(f"{folder}: too little room on this disk: {needed}, {format_bytes(free)} are free; make room or choose another folder")


def check_whole(path: Path, *, shown_as: str | None = None) -> str:
    """Reads a fetched file to its end: gzip to its last checksum, JSON lines to the end of the last line.

    Args:
      path: The file; only one line's end and one piece of it are ever in memory.
      shown_as: The name that it will have, which says what it must be; none: its own.
    Returns:
      Its SHA-256 in hexadecimal.
    Raises:
      DataError: it is cut or damaged.
    """
    name = shown_as or path.name
    digest, tail, unpack = hashlib.sha256(), b"", zlib.decompressobj(wbits=31) if name.endswith(".gz") else None
    with open(path, "rb") as handle, show_progress(f"check {name}", path.stat().st_size) as progress:
        while chunk := handle.read(_READ_BYTES):
            digest.update(chunk)
            progress.advance(len(chunk))
            if unpack is None:
                tail = (tail + chunk)[-64:]
                continue
            try:
                unpack, tail = _unpack(unpack, chunk, tail)
            except zlib.error as error:
                raise DataError(f"{name}: is damaged or no gzip ({error})") from None
    if unpack is not None and not unpack.eof:
        raise DataError(f"{name}: is cut short: its gzip stream has no end")
    if name.removesuffix(".gz").endswith(".jsonl") and not tail.rstrip().endswith(b"}"):
        raise DataError(f"{name}: is cut short or not JSON lines: it does not end with a whole line")
    return digest.hexdigest()


def _unpack(unpack: Any, chunk: bytes, tail: bytes) -> tuple[Any, bytes]:
    """Unpacks one piece, never more than a bounded amount at once; a gzip file may have several members. Returns the state and the last bytes."""
    while chunk:
        if unpack.eof:
            unpack = zlib.decompressobj(wbits=31)
        text = unpack.decompress(chunk, _UNPACK_BYTES)
        tail = (tail + text)[-64:]
        chunk = unpack.unused_data if unpack.eof else unpack.unconsumed_tail
    return unpack, tail


def format_bytes(num_bytes: float) -> str:
    """A size as a person says it.

    >>> format_bytes(5_260_000_000), format_bytes(327)
    ('5.3 GB', '327 bytes')
    """
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes:.0f} bytes"
