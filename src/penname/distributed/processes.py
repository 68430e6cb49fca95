"""Work shared among processes of this machine, for what holds the interpreter's lock, so that threads would do one thing at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection, Pipe
from queue import Queue
from typing import Any, TypeVar

from penname.distributed.ahead import map_on_threads
from penname.distributed.errors import EngineError

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_PROCESSES = 4
"""Each takes some two hundred megabytes, and all together are to stay well within two gigabytes."""
# A process of its own and not multiprocessing's: that one would run the program that called us a second time, and outlive it when it is killed.
_CODE = "import sys; sys.path[:] = {path!r}; import {modules}; from penname.distributed.process_worker import serve; serve({handle})"
_THREADS = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# A process keeps what it freed for its next item, where the system would have to give it anew, page by page: glibc's allocator and that of Polars,
# which may have large pages too.
_KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "MALLOC_TOP_PAD_": str(2**24),
    "_RJEM_MALLOC_CONF": "dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always",
}


def count_processes(num_items: int) -> int:
    """How many processes some items are worth: one for each processor that we may use, but no more than items. One is this process."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(usable, num_items, MAX_PROCESSES))


class Processes:
    """Some processes, each with a state of its own. They end with the block, however it ends, and with this process, however that ends."""

    def __init__(self, num_processes: int, *, modules: Sequence[str] = ("sys",)) -> None:
        """Starts them.

        Args:
          num_processes: At least 1.
          modules: What they import meanwhile, so that it is there when they are given work.
        Raises:
          EngineError: they cannot be started.
        """
        self._threads = ThreadPoolExecutor(num_processes)
        self._free: Queue[int] = Queue()
        self._connections: list[Connection] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            for number in range(num_processes):
                self._start(modules)
                self._free.put(number)
        except OSError as error:
            self.close()
            raise EngineError(f"a process for part of the work cannot be started: {error.strerror}; close other programs") from None

    def _start(self, modules: Sequence[str]) -> None:
        ours, theirs = Pipe()
        self._connections.append(ours)
        with theirs:
            code = _CODE.format(path=sys.path, modules=", ".join(modules), handle=theirs.fileno())
            # One thread each, for there are as many processes as processors. Whoever interrupts this process ends them by it, not each for itself:
            # they are in no group of the terminal, and end when their standard input does.
            self._processes.append(
                subprocess.Popen(  # noqa: S603
                    [sys.executable, "-P", "-c", code],
                    stdin=subprocess.PIPE,
                    pass_fds=[theirs.fileno()],
                    env={**_KEEP_MEMORY, **os.environ, **dict.fromkeys(_THREADS, "1")},
                    process_group=0,
                )
            )

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes, whatever they do."""
        for process in self._processes:
            process.kill()
        # Each waits for a process, and hears now that it is no more.
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            process.wait()
            if process.stdin is not None:
                process.stdin.close()

    def prepare(self, function: Callable[..., Any], *args: Any) -> None:
        """Makes the state of every process: what function(number of the process, *args) returns there.

        Raises: as `map`.
        """
        self._ask_all("prepare", function, args)

    def map(self, function: Callable[[Any, Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """function(state, item) for every item, in some process; the results come in the order of the items.

        Args:
          function: Of a module, as all that goes to another process.
          items: Read as far as processes are free: memory holds one or two a process.
        Raises:
          EngineError: a process was lost.
          Exception: what `items` or the function raised, as it is, when its turn comes.
        """

        def compute(item: Item) -> Result:
            number = self._free.get()
            try:
                return self._ask(number, "compute", function, (item,))
            finally:
                self._free.put(number)

        return map_on_threads(self._threads, len(self._processes), compute, items)

    def ask_each(self, function: Callable[[Any], Result]) -> list[Result]:
        """function(state) of every process. Raises as `map`."""
        return self._ask_all("compute", function, ())

    def _ask_all(self, what: str, function: Callable[..., Any], args: tuple[Any, ...]) -> list[Any]:
        """All at once: each may have to import what the function needs."""

        def ask(number: int) -> Any:
            return self._ask(number, what, function, (number, *args) if what == "prepare" else args)

        return list(self._threads.map(ask, range(len(self._processes))))

    def _ask(self, number: int, what: str, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        try:
            self._connections[number].send((what, function, args))
            went_well, answer = self._connections[number].recv()
        except (EOFError, ConnectionError):
            raise EngineError(self._explain_loss(number)) from None
        if went_well:
            return answer
        raise answer

    def _explain_loss(self, number: int) -> str:
        code = self._processes[number].wait()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
        return f"a process that did part of the work {how}; is there memory for {len(self._processes)} of them? Close other programs and run it again"
