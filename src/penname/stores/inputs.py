"""A private input file that lies in a store, as a file of this machine."""

from __future__ import annotations

import hashlib
from pathlib import Path

from penname.errors import DataError, StoreError
from penname.progress import say, show_progress
from penname.run_dir import hash_path, read_json, write_json
from penname.stores.part_file import PartFile, Source, check_room, format_bytes
from penname.stores.store import RemoteFile, Store, cache_folder, is_remote, open_store

NOTE_VERSION = 1


def local_copy(location: str, *, cache: Path | None = None) -> Path:
    """The file or folder at `location` on this machine; fetched once where it lies in a store, and again only when it has changed there.

    A fetch that was stopped goes on where it was. Nothing is ever written to the store.

    Args:
      location: A path, which comes back as it is; or s3://BUCKET/KEY, hf://datasets/OWNER/NAME/PATH, a folder there, or a pattern in its last part.
      cache: Where copies are kept. PRIVATE. None: `cache_folder()`.
    Returns:
      A file of the same name, or a folder that holds the files of the folder or pattern and nothing else. PRIVATE.
    Raises:
      StoreError: the store refuses, does not answer, or has no such file.
      DataError: too little room on the disk, or what came is not what the store has.
      UsageError: there is no such store.
    """
    if not is_remote(location):
        return Path(location)
    store = open_store(location)
    files = store.find(location)
    if not files:
        raise StoreError(f"{location}: the store has no such file; check the location")
    is_one = len(files) == 1 and files[0].location.rstrip("/") == location.rstrip("/")
    known = "\n".join(f"{file.location}\0{file.version}\0{file.num_bytes}" for file in files)
    folder = (cache if cache is not None else cache_folder()) / "inputs" / hashlib.sha256(known.encode()).hexdigest()[:32]
    note = folder.with_suffix(".json")
    if not _is_here(note, folder, files):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        check_room(folder, sum(file.num_bytes for file in files))
        hashes = {file.name: _fetch(store, file, folder / file.name) for file in files}
        write_json(note, {"schema_version": NOTE_VERSION, "location": location, "sha256": hashes})
    return folder / files[0].name if is_one else folder


def _is_here(note: Path, folder: Path, files: list[RemoteFile]) -> bool:
    """By size: every stage hashes what it reads, and reading twice what did not change helps nobody."""
    if not note.is_file() or read_json(note).get("schema_version") != NOTE_VERSION:
        return False
    return all((folder / file.name).is_file() and (folder / file.name).stat().st_size == file.num_bytes for file in files)


def _fetch(store: Store, file: RemoteFile, target: Path) -> str:
    """Fetches one file, or the rest of it. Returns its SHA-256."""
    if target.is_file() and target.stat().st_size == file.num_bytes:
        return _check_hash(file, target)
    source = Source(file.location, file.version, file.num_bytes)
    with PartFile(target) as part:
        if part.source != source or part.num_bytes > file.num_bytes:
            part.begin(source)
        say(f"{file.location}: {format_bytes(file.num_bytes - part.num_bytes)} to fetch")
        with show_progress(f"fetch {file.name}", file.num_bytes, done=part.num_bytes) as progress:
            for piece in () if part.is_complete else store.read(file, part.num_bytes):
                part.write(piece)
                progress.advance(len(piece))
        if not part.is_complete:
            num_bytes = part.num_bytes
            part.discard()
            raise DataError(f"{file.location}: the store said {file.num_bytes} bytes and gave {num_bytes}; run the same command again")
        part.finish()
    return _check_hash(file, target)


def _check_hash(file: RemoteFile, target: Path) -> str:
    sha256 = hash_path(target)
    if file.sha256 is not None and sha256 != file.sha256:
        target.unlink()
        raise DataError(f"{file.location}: what came is not what the store has (SHA-256 {sha256} instead of {file.sha256}); run the same command again")
    return sha256
