"""The parts of the reviews, one after the other in this process or some at a time in others: the same files either way."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import IO

from penname.distributed.ahead import map_ahead
from penname.distributed.processes import Processes, count_processes
from penname.records.part_records import RecordRules, WrittenPart, write_part
from penname.records.split import SPLITS, Split, Totals
from penname.records.units import check_apart, join_keys

LEAST_BYTES = 8 * 2**20
"""Fewer bytes of parts are written sooner than processes start."""
_COPY_BYTES = 2**20


def write_parts(rules: RecordRules, paths: list[Path], handles: Mapping[Split, IO[bytes]], *, folder: Path) -> Totals:
    """Writes the records of all parts.

    Guarantee: no unit is in two parts.

    Args:
      rules: Public.
      paths: The parts, in their order. PRIVATE.
      handles: Files on disk that take the records, in the order of the parts. PRIVATE.
      folder: Holds pieces of them in a hidden folder while processes write; nothing of it is left.
    Raises:
      DataError, RunDirError, OSError: as write_part; DataError: a unit is in two parts.
      EngineError: a process was lost.
    """
    totals, keys = Totals(), None
    num_processes = count_processes(len(paths)) if sum(path.stat().st_size for path in paths) >= LEAST_BYTES else 1
    written = _write_here(rules, paths, handles) if num_processes == 1 else _write_elsewhere(num_processes, rules, paths, handles, folder)
    # Closed here: an error would hold its frames, and with them the processes.
    with closing(written):
        for path, part in zip(paths, written, strict=True):
            check_apart(path, keys, part.keys)
            keys = join_keys(keys, part.keys)
            totals.join(part.totals)
    return totals


def _write_here(rules: RecordRules, paths: list[Path], handles: Mapping[Split, IO[bytes]]) -> Generator[WrittenPart]:
    for path in paths:
        yield write_part(rules, path, handles, map_units=map_ahead)


def _write_elsewhere(num_processes: int, rules: RecordRules, paths: list[Path], handles: Mapping[Split, IO[bytes]], beside: Path) -> Generator[WrittenPart]:
    """Each process writes files of its own, which become pieces of the whole ones: how long a piece is nobody knows before it is written."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=beside, prefix=".parts.", suffix=".tmp")))
        processes = stack.enter_context(Processes(num_processes))
        processes.prepare(_Worker, rules, folder)
        flush = stack.enter_context(_flush_beside(list(handles.values())))
        for path, part in zip(paths, processes.map(_Worker.write, paths), strict=True):
            for split in SPLITS:
                piece = _name_piece(folder, path, split)
                with piece.open("rb") as lines:
                    shutil.copyfileobj(lines, handles[split], _COPY_BYTES)
                piece.unlink()
            flush()
            yield part


@contextmanager
def _flush_beside(handles: list[IO[bytes]]) -> Generator[Callable[[], None]]:
    """What is written goes to the disk meanwhile: at the end nobody waits for gigabytes. Gives what is called now and then, and raises OSError."""
    flushing: Future[None] | None = None

    def flush() -> None:
        nonlocal flushing
        if flushing is None or flushing.done():
            if flushing is not None:
                flushing.result()
            flushing = thread.submit(_flush_all, handles)

    with ThreadPoolExecutor(1) as thread:
        yield flush
        if flushing is not None:
            # The system tells of a failure once: were it not heard here, the last flush would find nothing wrong.
            flushing.result()


def _flush_all(handles: list[IO[bytes]]) -> None:
    for handle in handles:
        os.fsync(handle.fileno())


class _Worker:
    """One process."""

    def __init__(self, _number: int, rules: RecordRules, folder: Path) -> None:
        self._rules, self._folder = rules, folder

    def write(self, path: Path) -> WrittenPart:
        """Writes the pieces of one part."""
        with ExitStack() as stack:
            handles: dict[Split, IO[bytes]] = {split: stack.enter_context(_name_piece(self._folder, path, split).open("wb")) for split in SPLITS}
            return write_part(self._rules, path, handles, map_units=map)


def _name_piece(folder: Path, path: Path, split: Split) -> Path:
    return folder / f"{path.stem}.{split}.jsonl"
