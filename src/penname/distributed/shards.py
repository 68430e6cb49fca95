"""One function over many shards of work: in this process, in processes of this machine, or on a Ray cluster. The results are the same.

A worker makes a state once, such as a loaded model, and computes shard after shard with it. What is handed over must be plain data and functions of
modules, which every worker can import.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from penname.distributed.errors import EngineError

State = TypeVar("State")
Shard = TypeVar("Shard")
Result = TypeVar("Result")

# Shards that wait at a worker, so that it is never idle and memory stays bounded.
IN_FLIGHT_A_WORKER = 2


class ShardEngine(Protocol):
    """Something that maps shards."""

    @property
    def num_workers(self) -> int:
        """How many shards are computed at once."""
        ...

    def map_shards(self, function: Callable[[State, Shard], Result], shards: Iterable[Shard], *, prepare: Callable[[], State]) -> Iterator[tuple[int, Result]]:
        """Computes every shard once, as far as anybody can see.

        Guarantee: for a function that depends on its arguments alone, the pairs are the same with every engine and any number of workers, in some
        order; a worker that is lost is replaced and its shards are computed again.

        Args:
          function: Takes the state of its worker and a shard. As private as what it is given.
          shards: Read as far as workers are free.
          prepare: Makes a worker's state.
        Returns:
          Pairs of a shard's place and its result, as they are finished.
        Raises:
          EngineError: workers are lost again and again.
          Exception: what `prepare` or `function` raised, as it is.
        """
        ...


def open_engine(*, kind: str, address: str | None, num_workers: int, threads_per_worker: int, max_retries: int) -> ShardEngine:
    """The engine that the config names: `local`, `processes` or `ray`; see the classes for the rest."""
    if kind == "ray":
        from penname.distributed.ray_shards import RayEngine

        return RayEngine(address, num_workers, threads_per_worker, max_retries)
    return ProcessEngine(num_workers, threads_per_worker, max_retries) if kind == "processes" else LocalEngine()


@dataclass(frozen=True)
class LocalEngine:
    """This process, one shard after the other."""

    num_workers: int = 1

    def map_shards(self, function: Callable[[State, Shard], Result], shards: Iterable[Shard], *, prepare: Callable[[], State]) -> Iterator[tuple[int, Result]]:
        """See `ShardEngine`."""
        state: list[State] = []
        for place, shard in enumerate(shards):
            if not state:
                state.append(prepare())
            yield place, function(state[0], shard)


@dataclass(frozen=True)
class ProcessEngine:
    """Processes of this machine, each started anew and not forked, for a fork copies threads that are not there."""

    num_workers: int
    threads_per_worker: int = 1
    max_retries: int = 3

    def map_shards(self, function: Callable[[State, Shard], Result], shards: Iterable[Shard], *, prepare: Callable[[], State]) -> Iterator[tuple[int, Result]]:
        """See `ShardEngine`."""
        waiting = enumerate(shards)
        again: list[tuple[int, Shard]] = []
        num_lost = 0
        while True:
            running: dict[Future[Result], tuple[int, Shard]] = {}
            try:
                with _open_pool(self, prepare) as pool:
                    while _fill(pool, function, running, again, waiting, limit=IN_FLIGHT_A_WORKER * self.num_workers):
                        done, _ = wait(running, return_when=FIRST_COMPLETED)
                        for future in sorted(done, key=lambda future: running[future][0]):
                            result = future.result()
                            yield running.pop(future)[0], result
                return
            except BrokenProcessPool:
                num_lost += 1
                if num_lost > self.max_retries:
                    raise EngineError(
                        f"engine: a worker process ended {num_lost} times before its work was done; is there memory for {self.num_workers}?"
                    ) from None
                again = [*again, *running.values()]


def _fill(
    pool: ProcessPoolExecutor,
    function: Callable[[Any, Any], Any],
    running: dict[Future[Any], tuple[int, Any]],
    again: list[tuple[int, Any]],
    waiting: Iterator[tuple[int, Any]],
    *,
    limit: int,
) -> bool:
    """Gives the workers as much as they may have; whether anything runs then."""
    while len(running) < limit:
        item = again.pop(0) if again else next(waiting, None)
        if item is None:
            break
        try:
            running[pool.submit(_call, function, item[1])] = item
        except BrokenProcessPool:
            again.insert(0, item)
            raise
    return bool(running)


@contextlib.contextmanager
def _open_pool(engine: ProcessEngine, prepare: Callable[[], Any]) -> Generator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(engine.num_workers, mp_context=context, initializer=_begin, initargs=(prepare, engine.threads_per_worker))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_worker: list[Callable[[], Any]] = []
_states: list[Any] = []


def _begin(prepare: Callable[[], Any], num_threads: int) -> None:
    limit_threads(num_threads)
    _worker[:] = [prepare]


def limit_threads(num_threads: int) -> None:
    """For what this process has not imported yet, and for torch where it has."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    os.environ.update(dict.fromkeys(names, str(num_threads)))
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(num_threads)


def _call(function: Callable[[Any, Any], Any], shard: Any) -> Any:
    # With the first shard and not when the process begins, where what it raises would be lost.
    if not _states:
        _states.append(_worker[0]())
    return function(_states[0], shard)
