"""Shards on a Ray cluster: actors that keep a state, are started again when they are lost, and compute a lost shard again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from penname.distributed.errors import EngineError, first_line
from penname.distributed.ray_cluster import open_cluster
from penname.distributed.shards import IN_FLIGHT_A_WORKER, Result, Shard, State, limit_threads


@dataclass(frozen=True)
class RayEngine:
    """A Ray cluster; see `open_cluster`."""

    address: str | None = None
    """None: one on this machine, for as long as the shards take."""
    num_workers: int = 2
    threads_per_worker: int = 1
    max_retries: int = 3

    def map_shards(self, function: Callable[[State, Shard], Result], shards: Iterable[Shard], *, prepare: Callable[[], State]) -> Iterator[tuple[int, Result]]:
        """See `ShardEngine`."""
        with open_cluster(address=self.address, num_workers=self.num_workers, threads_per_worker=self.threads_per_worker) as ray:
            check_room(ray, num_workers=self.num_workers, threads_per_worker=self.threads_per_worker)
            options = {"num_cpus": self.threads_per_worker, "max_restarts": self.max_retries, "max_task_retries": self.max_retries}
            actor: Any = ray.remote(_ShardWorker).options(**options)
            workers = [actor.remote(prepare, self.threads_per_worker) for _ in range(self.num_workers)]
            try:
                yield from _map(ray, workers, function, shards)
            finally:
                for worker in workers:
                    ray.kill(worker)


class _ShardWorker:
    """One worker; its state is made with its first shard, so that what goes wrong then is told as it is."""

    def __init__(self, prepare: Callable[[], Any], num_threads: int) -> None:
        self._prepare, self._num_threads, self._states = prepare, num_threads, list[Any]()

    def compute(self, function: Callable[[Any, Any], Any], shard: Any) -> Any:
        if not self._states:
            limit_threads(self._num_threads)
            self._states.append(self._prepare())
        return function(self._states[0], shard)


def _map(ray: Any, workers: list[Any], function: Callable[[Any, Any], Any], shards: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    running: dict[Any, tuple[int, Any]] = {}
    free = deque(workers * IN_FLIGHT_A_WORKER)
    waiting = enumerate(shards)
    while True:
        while free:
            item = next(waiting, None)
            if item is None:
                break
            worker = free.popleft()
            running[worker.compute.remote(function, item[1])] = item[0], worker
        if not running:
            return
        done, _ = ray.wait(list(running), num_returns=1)
        place, worker = running.pop(done[0])
        result = fetch(ray, done[0])
        free.append(worker)
        yield place, result


def fetch(ray: Any, answer: Any) -> Any:
    """What a worker answered.

    Raises:
      EngineError: workers are lost again and again.
      Exception: what the work raised, as it is.
    """
    try:
        return ray.get(answer)
    except ray.exceptions.RayTaskError as error:
        cause = getattr(error, "cause", None)
        raise (cause if isinstance(cause, Exception) else EngineError(f"engine: a worker failed: {first_line(error)}")) from None
    except ray.exceptions.RayError as error:
        raise EngineError(f"engine: workers of the cluster are lost again and again ({first_line(error)}); is there memory for engine.num_workers?") from None


def check_room(ray: Any, *, num_workers: int, threads_per_worker: int) -> None:
    """Checks that the cluster has room for the workers: those for which there is none would be waited for for ever.

    Raises:
      EngineError: there is none.
    """
    present = int(ray.cluster_resources().get("CPU", 0))
    if num_workers * threads_per_worker > present:
        raise EngineError(
            f"engine.num_workers: {num_workers} workers of {threads_per_worker} threads need {num_workers * threads_per_worker} processors, the cluster has "
            f"{present}; set at most {present // threads_per_worker}"
        )
