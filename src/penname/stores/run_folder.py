"""A run folder that is kept in a store: worked on here, brought there after each finished stage, taken from there at the start.

The manifest `run.json` goes last, so what it names is there. The run's secret key never leaves this machine: while there is one, between the first step of
training and the release of the histogram, nothing is brought.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penname.errors import RunDirError, UsageError
from penname.progress import say, show_progress
from penname.run_dir import ARTEFACTS, MANIFEST, hash_path, read_json, write_json
from penname.stores.part_file import PartFile, Source, check_room, format_bytes
from penname.stores.s3 import S3Store
from penname.stores.store import cache_folder, is_remote

NOTE_VERSION = 1


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """Where a run is worked on."""

    root: Path
    bring: Callable[[], None]
    """Brings what is finished to where the run is kept; nothing to do where that is here."""


def open_run_folder(location: str, *, cache: Path | None = None) -> WorkFolder:
    """The run folder that `--out` names, ready to work in.

    Args:
      location: A path, or s3://BUCKET/FOLDER.
      cache: Where the working copy of a remote run is kept. PRIVATE. None: `cache_folder()`.
    Returns:
      The folder on this machine, and how to bring what is finished to the store.
    Raises:
      UsageError: run folders cannot be kept there.
      RunDirError: the run went on here and elsewhere.
      StoreError: the store refuses or does not answer.
    """
    if not is_remote(location):
        return WorkFolder(Path(location), lambda: None)
    if not location.lower().startswith("s3://"):
        raise UsageError(f"--out {location}: a run folder holds private data; it can be on this machine or at s3://BUCKET/FOLDER. Give away release/ alone")
    if len(location.rstrip("/").split("/")) < 4:
        raise UsageError(f"--out {location}: names no folder in the bucket; write s3://BUCKET/FOLDER")
    mirror = _Mirror(location.rstrip("/"), cache if cache is not None else cache_folder())
    mirror.take()
    return WorkFolder(mirror.root, mirror.bring)


class _Mirror:
    """One remote run and its working copy."""

    def __init__(self, location: str, cache: Path) -> None:
        self.location, self._store = location, S3Store()
        folder = cache / "runs" / hashlib.sha256(location.encode()).hexdigest()[:32]
        self.root, self._note, self._taking = folder / "run", folder / "brought.json", folder / "taking"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def take(self) -> None:
        """Makes the working copy what the store has, unless it is ahead of it."""
        there = self._remote_manifest()
        if not self._taking.exists():
            if self._is_known(there):
                return
            if there is None:
                raise RunDirError(f"{self.location}: the run that was brought there is gone; choose another --out, or remove {self.root.parent} to begin anew")
            if self._has_unbrought():
                raise RunDirError(self._two_places())
        files = self._store.find(self.location, recursive=True)
        num_bytes = sum(file.num_bytes for file in files)
        check_room(self.root, num_bytes)
        say(f"{self.location}: taking {len(files)} files, {format_bytes(num_bytes)}; most are PRIVATE, and now on this machine too")
        # A stop in the middle leaves this mark, and the run is taken again.
        self._taking.touch()
        for name in self._local_files() - {file.name for file in files}:
            (self.root / name).unlink()
        for file in files:
            with PartFile(self.root / file.name) as part:
                part.begin(Source(file.location, file.version, file.num_bytes))
                for piece in self._store.read(file, 0):
                    part.write(piece)
                part.finish()
        self._write_note()
        self._taking.unlink()

    def bring(self) -> None:
        """Brings what changed since the last time; the manifest last, and what is gone here goes there."""
        if (self.root / ARTEFACTS["noise_key"].path).exists():
            say(f"{self.location}: nothing brought yet: the run's secret key stays on this machine, so this stage goes with the one that removes it")
            return
        known, names = self._known()["files"], self._local_files()
        changed = [name for name in names if known.get(name) != _stat(self.root / name)]
        gone = sorted(set(known) - names)
        if not changed and not gone:
            return
        if not self._is_known(self._remote_manifest()):
            raise RunDirError(self._two_places())
        num_bytes = sum((self.root / name).stat().st_size for name in changed)
        with show_progress(f"bring to {self.location}", num_bytes) as progress:
            for name in sorted(changed, key=lambda name: (name == MANIFEST, name)):
                self._store.write(self.root / name, f"{self.location}/{name}")
                progress.advance((self.root / name).stat().st_size)
        for name in gone:
            self._store.remove(f"{self.location}/{name}")
        self._write_note()
        say(f"{self.location}: brought {len(changed)} files, {format_bytes(num_bytes)}; treat the place like the data")

    def _remote_manifest(self) -> str | None:
        """Hash of the manifest there; every state of a run has another."""
        found = [file for file in self._store.find(f"{self.location}/{MANIFEST}") if file.name == MANIFEST]
        return hashlib.sha256(b"".join(self._store.read(found[0], 0))).hexdigest() if found else None

    def _is_known(self, manifest: str | None) -> bool:
        """Whether the run there is one that the working copy came from, or the very same. A stop after the manifest was brought leaves the second."""
        here = self.root / MANIFEST
        return manifest == self._known()["manifest"] or (here.is_file() and manifest == hash_path(here))

    def _two_places(self) -> str:
        return (
            f"{self.location}: this run went on here and on another machine, and what both spent is in no one ledger; keep one: choose another --out, "
            f"or remove {self.root.parent} to drop what was done here"
        )

    def _has_unbrought(self) -> bool:
        known = self._known()["files"]
        return any(known.get(name) != _stat(self.root / name) for name in self._local_files())

    def _local_files(self) -> set[str]:
        """Every finished file of the run."""
        paths = [path for path in self.root.rglob("*") if path.is_file()] if self.root.is_dir() else []
        names = {path.relative_to(self.root).as_posix() for path in paths}
        return {name for name in names if not any(part.startswith(".") for part in name.split("/")) and not name.endswith((".part", ".part.json"))}

    def _known(self) -> dict[str, Any]:
        if not self._note.is_file():
            return {"manifest": None, "files": {}}
        return read_json(self._note)

    def _write_note(self) -> None:
        files = {name: _stat(self.root / name) for name in sorted(self._local_files())}
        write_json(self._note, {"schema_version": NOTE_VERSION, "location": self.location, "manifest": hash_path(self.root / MANIFEST), "files": files})


def _stat(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]
