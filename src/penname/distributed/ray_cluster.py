"""A Ray cluster: one that runs, which must answer soon and have our versions, or one on this machine for as long as it is needed."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from penname import __version__
from penname.distributed.errors import EngineError, first_line

ANSWER_SECS = 14.0
"""Within which a cluster must answer; with the knock at its port before, a user is told within 20 seconds."""
_KNOCK_SECS = 5.0
_CHECK_SECS = 60.0
_STORE_BYTES = 256 * 2**20
# Ray's own settings for processes that it starts: nothing is sent to its makers, and nothing is installed.
_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


@dataclass(frozen=True)
class Versions:
    """What must be the same on every machine that computes a part of a run."""

    penname: str
    python: str
    torch: str

    @classmethod
    def read(cls) -> Versions:
        """Of this process."""
        return cls(__version__, platform.python_version(), metadata.version("torch").partition("+")[0])


@contextlib.contextmanager
def open_cluster(*, address: str | None, num_workers: int, threads_per_worker: int) -> Generator[Any]:
    """Connects to the cluster in `address`, or starts one on this machine that ends with the block. Gives the module ray.

    Args:
      address: host:port, or auto; None: this machine.
      num_workers: For a cluster on this machine: as many at once.
      threads_per_worker: Of each.
    Raises:
      EngineError: ray is not installed, the cluster does not answer, or a machine of it has other versions.
    """
    os.environ.update({name: value for name, value in _ENVIRONMENT.items() if name not in os.environ})
    try:
        import ray
    except ImportError:
        raise EngineError("engine.kind: ray is not installed; install penname[ray], or set engine.kind=local") from None
    if ray.is_initialized():
        yield ray
        return
    try:
        if address is None:
            # Half a processor more than the workers take: Ray's own tasks need some, or they wait for ever.
            ray.init(  # pyright: ignore[reportUnknownMemberType]
                address="local",
                num_cpus=num_workers * threads_per_worker + 1,
                include_dashboard=False,
                object_store_memory=_STORE_BYTES,
                logging_level=logging.ERROR,
                # Without its dashboard, which is not installed, a part of Ray Train would say so every second.
                logging_config=ray.LoggingConfig(log_level="ERROR"),
            )
        else:
            _connect(ray, address)
            check_versions(_read_versions(ray), Versions.read())
        yield ray
    finally:
        ray.shutdown()  # pyright: ignore[reportUnknownMemberType]


_PROBE = """
import sys, ray
try:
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level=50)
except Exception as error:
    sys.exit(" ".join(str(error).split())[:300] or type(error).__name__)
"""


def _connect(ray: Any, address: str) -> None:
    """Connects, after a process of its own has found that the cluster answers: Ray's own attempt cannot be given up."""
    if address != "auto":
        _knock(address)
    try:
        command = [sys.executable, "-c", _PROBE, address]
        probe = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECS, check=False)  # noqa: S603  our own interpreter
    except subprocess.TimeoutExpired:
        raise _no_answer(address, f"nothing came within {ANSWER_SECS:g} s") from None
    if probe.returncode != 0:
        raise _no_answer(address, (probe.stderr.strip().splitlines() or ["its process failed"])[-1])
    try:
        ray.init(address=address, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises errors of several libraries here
        raise _no_answer(address, first_line(error)) from None


def _knock(address: str) -> None:
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + _KNOCK_SECS
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECS).close()
            return
        except (OSError, ValueError, OverflowError) as error:
            if time.monotonic() > deadline or not isinstance(error, ConnectionRefusedError):
                raise _no_answer(address, getattr(error, "strerror", None) or str(error) or type(error).__name__) from None
            time.sleep(0.5)


def _no_answer(address: str, why: str) -> EngineError:
    return EngineError(f"engine.address: no Ray cluster answers at {address} ({why}); check that it runs and that this machine may reach it")


def _read_versions(ray: Any) -> dict[str, dict[str, str] | str]:
    """Of every machine of the cluster, by its address; a line where it cannot say."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask: Any = ray.remote(read_versions)
    asked: dict[str, Any] = {}
    for node in ray.nodes():
        if node["Alive"]:
            strategy = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
            asked[node["NodeManagerAddress"]] = ask.options(num_cpus=0, scheduling_strategy=strategy, max_retries=0).remote()
    found: dict[str, dict[str, str] | str] = {}
    deadline = time.monotonic() + _CHECK_SECS
    for host, answer in asked.items():
        try:
            found[host] = ray.get(answer, timeout=max(1.0, deadline - time.monotonic()))
        except Exception as error:  # what another penname, or none, raises over there is not ours to know
            cause: BaseException = getattr(error, "cause", None) or error
            found[host] = first_line(cause)
    return found


def read_versions() -> dict[str, str]:
    """What a machine of the cluster says of itself."""
    return vars(Versions.read())


def check_versions(found: dict[str, dict[str, str] | str], ours: Versions) -> None:
    """Checks that every machine has our versions.

    Args:
      found: What each says, by its address.
      ours: Of this process.
    Raises:
      EngineError: one has not; names it.
    """
    for host, theirs in sorted(found.items()):
        if isinstance(theirs, str):
            raise EngineError(f"engine.address: the machine {host} of the cluster cannot run penname ({theirs}); install penname {ours.penname} there")
        for name, wanted in vars(ours).items():
            if theirs.get(name) != wanted:
                raise EngineError(
                    f"engine.address: the machine {host} of the cluster has {name} {theirs.get(name)}, this one has {wanted}; results could differ. "
                    "Install the same version there"
                )
