"""One function over many shards of work: in this process, or on a Ray cluster. The results are the same.

A worker makes a state once, such as a loaded model, and computes shard after shard with it. What is handed over must be plain data and functions of
modules, which every worker can import.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

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
    """The engine that the config names, `local` or `ray`; see the classes for the rest."""
    if kind == "ray":
        from penname.distributed.ray_shards import RayEngine

        return RayEngine(address, num_workers, threads_per_worker, max_retries)
    return LocalEngine()


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


def in_order(results: Iterable[tuple[int, Result]]) -> Iterator[Result]:
    """Results in the order of their shards; those that are finished too early are held until their turn comes.

    >>> list(in_order([(1, "b"), (0, "a"), (2, "c")]))
    ['a', 'b', 'c']
    """
    early: dict[int, Result] = {}
    turn = 0
    for place, result in results:
        early[place] = result
        while turn in early:
            yield early.pop(turn)
            turn += 1


def limit_threads(num_threads: int) -> None:
    """For what this process has not imported yet, and for torch where it has."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    os.environ.update(dict.fromkeys(names, str(num_threads)))
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(num_threads)
