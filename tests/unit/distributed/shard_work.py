"""Work for shard engines. It stands in a module of its own because workers import it."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from penname.errors import DataError


@dataclass(frozen=True)
class Prepared:
    """A state that says which process it is of, and how often it was made there."""

    factor: int
    pid: int
    num_made: int


_made: list[int] = []


def prepare(factor: int) -> Prepared:
    _made.append(factor)
    return Prepared(factor, os.getpid(), len(_made))


def prepare_badly() -> Prepared:
    raise DataError("model.name: there is none")


def multiply(state: Prepared, shard: list[int]) -> dict[str, object]:
    return {"values": [state.factor * number for number in shard], "pid": state.pid, "num_made": state.num_made}


def refuse_seven(state: Prepared, shard: list[int]) -> int:
    if 7 in shard:
        raise DataError("7: is not wanted; take it out")
    return sum(shard)


@dataclass(frozen=True)
class Mortal:
    """Work that kills its own process, the first time that it is given a marked shard."""

    traces: Path

    def prepare(self) -> Path:
        return self.traces


def die_once(traces: Path, shard: int) -> int:
    trace = traces / str(shard)
    if shard % 3 == 1 and not trace.exists():
        trace.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return shard * shard


def die_always(traces: Path, shard: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return shard


def count_threads(state: Prepared, shard: int) -> tuple[str, int]:
    import torch

    return os.environ["OMP_NUM_THREADS"], torch.get_num_threads()
