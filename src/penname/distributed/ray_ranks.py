"""The ranks of a training as workers of Ray Train, which starts them, brings them together and starts all of them again when one is lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from penname.distributed.errors import EngineError, first_line
from penname.distributed.ray_cluster import open_cluster
from penname.distributed.ray_shards import check_room, fetch
from penname.distributed.shards import limit_threads

# Ray notices a worker or a machine that is gone; a rank may wait for another for as long as that lives.
_TIMEOUT_SECS = 7 * 24 * 3600
_QUIET = {"RAY_TRAIN_ENABLE_PRINT_PATCH": "0", "RAY_AIR_NEW_OUTPUT": "0"}


def run_ranks(
    act: Callable[[dict[str, Any]], dict[str, Any]],
    settings: dict[str, Any],
    *,
    address: str | None,
    num_ranks: int,
    threads_per_rank: int,
    max_retries: int,
    wants_gpu: bool,
    scratch: Path,
) -> dict[str, Any]:
    """Runs a function on every rank, with torch.distributed (gloo) and its environment set up.

    Args:
      act: A function of a module; what it returns on rank 0 is the answer. What it raises on any rank starts all ranks again.
      settings: JSON values, the same for all ranks.
      address: Of the cluster; see `open_cluster`.
      num_ranks: W.
      threads_per_rank: And processors.
      max_retries: How often all ranks are started again.
      wants_gpu: One GPU a rank, where the cluster has so many.
      scratch: A folder for Ray Train's own state, seen by all machines of the cluster.
    Raises:
      EngineError: ray is not installed, the cluster does not answer, or ranks failed too often; says what the last of them said.
    """
    with open_cluster(address=address, num_workers=num_ranks, threads_per_worker=threads_per_rank) as ray:
        check_room(ray, num_workers=num_ranks, threads_per_worker=threads_per_rank)
        os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})
        try:
            from ray.train import FailureConfig, RunConfig, ScalingConfig
            from ray.train.torch import TorchConfig, TorchTrainer
        except ImportError:
            raise EngineError("engine.kind: Ray Train is not installed; install penname[ray]") from None
        mailbox: Any = ray.remote(_Mailbox).options(num_cpus=0).remote()
        use_gpu = wants_gpu and int(ray.cluster_resources().get("GPU", 0)) >= num_ranks
        trainer = TorchTrainer(
            _run_rank,
            train_loop_config={"act": act, "settings": settings, "mailbox": mailbox, "num_threads": threads_per_rank},
            scaling_config=ScalingConfig(num_workers=num_ranks, use_gpu=use_gpu, resources_per_worker={"CPU": threads_per_rank}),
            torch_config=TorchConfig(backend="gloo", timeout_s=_TIMEOUT_SECS),
            run_config=RunConfig(name="penname", storage_path=str(scratch), failure_config=FailureConfig(max_failures=max_retries)),
        )
        try:
            trainer.fit()
        except Exception as error:  # Ray Train raises errors of its own controller, of its workers and of Ray
            raise EngineError(f"engine: the ranks failed more than engine.max_retries times; the last time: {_find_cause(error)}") from None
        return fetch(ray, mailbox.read.remote())


class _Mailbox:
    """Where rank 0 leaves its answer: Ray Train hands results back with checkpoints only."""

    def __init__(self) -> None:
        self._answer: dict[str, Any] = {}

    def write(self, answer: dict[str, Any]) -> None:
        self._answer = answer

    def read(self) -> dict[str, Any]:
        return self._answer


def _run_rank(config: dict[str, Any]) -> None:
    import ray

    limit_threads(config["num_threads"])
    answer = config["act"](config["settings"])
    if os.environ["RANK"] == "0":
        ray.get(config["mailbox"].write.remote(answer))


def _find_cause(error: Exception) -> str:
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    return first_line(failures[min(failures)] if failures else error)
