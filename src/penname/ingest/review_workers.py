"""Reviews on their way from chunks of a file to finished parts, in this process or in several: the same files either way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from penname.distributed.ahead import map_ahead
from penname.distributed.processes import Processes, count_processes
from penname.ingest.clean_workers import clean_chunks
from penname.ingest.parts import FinishedPart
from penname.ingest.raw_batch import Chunk
from penname.ingest.rejects import Reject
from penname.ingest.reviews import CleanBatch, ReviewRules, clean_chunk
from penname.ingest.spill import Part, Spill, join_parts

if TYPE_CHECKING:
    from penname.config import EngineConfig

LEAST_BYTES = 32 * 2**20
"""Fewer bytes of reviews are cleaned sooner than processes start."""
_CHUNK_BYTES = 4 * 2**20
_HEAVY = ("numpy", "msgspec", "polars", "pyarrow.parquet")
"""What cleaning imports: there while this process reads the catalogue."""
NumberedChunk = tuple[int, Chunk]
"""A chunk, and the number of its file."""
Finish = Callable[[tuple[int, Part]], FinishedPart]
"""Makes a file of a part, which comes with its number."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of a chunk beside the reviews, which are spilled. PRIVATE."""

    file: int
    """Number of the file."""
    rejects: list[tuple[Reject, int]]
    """As in `CleanBatch`."""
    num_read: int


class ReviewWorkers(Protocol):
    """Where reviews are cleaned, kept and finished."""

    def clean(self, rules: ReviewRules, chunks: Iterator[NumberedChunk], folder: Path, *, num_bits: int) -> Iterator[Seen]:
        """Cleans chunks, and keeps the reviews.

        Args:
          rules: Public; each process gets them once, the catalogue with them.
          chunks: In the order of the files. PRIVATE.
          folder: Takes what does not fit memory; made here.
          num_bits: Of the order, that part the reviews.
        Returns:
          One a chunk, in their order. PRIVATE.
        Raises:
          EngineError: the cluster does not answer, or a process was lost.
          DataError: what reading the chunks raises.
          OSError: the folder cannot be written.
        """
        ...

    def finish(self, finish: Finish) -> Iterator[FinishedPart]:
        """Makes a file of each part, in their order; some are worked on at a time. Raises EngineError, and what `finish` raises."""
        ...


def open_workers(stack: ExitStack, engine: EngineConfig, *, num_bytes: int) -> ReviewWorkers:
    """As many processes as so many bytes of reviews are worth; they end with the stack."""
    num_processes = count_processes(num_bytes // _CHUNK_BYTES)
    if engine.kind != "local" or num_bytes < LEAST_BYTES or num_processes == 1:
        return ThisProcess(stack, engine)
    return ManyProcesses(stack.enter_context(Processes(num_processes, modules=_HEAVY)), num_processes)


class ThisProcess:
    """One process, which may have an engine clean the chunks elsewhere. See `ReviewWorkers`."""

    def __init__(self, stack: ExitStack, engine: EngineConfig) -> None:
        self._stack, self._engine = stack, engine
        self._parts: list[Part] = []

    def clean(self, rules: ReviewRules, chunks: Iterator[NumberedChunk], folder: Path, *, num_bits: int) -> Iterator[Seen]:
        """See `ReviewWorkers`."""
        # Read ahead, a chunk must remember whose it is.
        numbers: deque[int] = deque()

        def forget_numbers() -> Iterator[Chunk]:
            for number, chunk in chunks:
                numbers.append(number)
                yield chunk

        spill = self._stack.enter_context(Spill(folder, start=0, num_bits=num_bits))
        for batch in clean_chunks(rules, forget_numbers(), self._engine):
            yield _keep(batch, numbers.popleft(), spill)
        self._parts = spill.finish()

    def finish(self, finish: Finish) -> Iterator[FinishedPart]:
        """See `ReviewWorkers`."""
        return map_ahead(finish, enumerate(self._parts))


class ManyProcesses:
    """Some processes, each of which spills what it has cleaned by itself. See `ReviewWorkers`."""

    def __init__(self, processes: Processes, num_processes: int) -> None:
        self._processes, self._num_processes = processes, num_processes

    def clean(self, rules: ReviewRules, chunks: Iterator[NumberedChunk], folder: Path, *, num_bits: int) -> Iterator[Seen]:
        """See `ReviewWorkers`."""
        self._processes.prepare(_Worker, rules, folder, num_bits, self._num_processes)
        return self._processes.map(_Worker.clean, chunks)

    def finish(self, finish: Finish) -> Iterator[FinishedPart]:
        """See `ReviewWorkers`."""
        parts = join_parts(self._processes.ask_each(_Worker.finish))
        return self._processes.map(_call, ((finish, numbered) for numbered in enumerate(parts)))


class _Worker:
    """One process."""

    def __init__(self, number: int, rules: ReviewRules, folder: Path, num_bits: int, num_processes: int) -> None:
        self._rules = rules
        self._spill = Spill(folder / str(number), start=0, num_bits=num_bits, num_processes=num_processes)

    def clean(self, numbered: NumberedChunk) -> Seen:
        number, chunk = numbered
        return _keep(clean_chunk(self._rules, chunk), number, self._spill)

    def finish(self) -> dict[int, Part]:
        return self._spill.finish_on_disk()


def _keep(batch: CleanBatch, number: int, spill: Spill) -> Seen:
    import polars as pl

    if batch.reviews.height:
        spill.add(batch.reviews.with_columns(file=pl.lit(number, dtype=pl.UInt32)))
    return Seen(number, batch.rejects, batch.num_read)


def _call(_worker: _Worker, work: tuple[Finish, tuple[int, Part]]) -> Any:
    finish, numbered = work
    return finish(numbered)
