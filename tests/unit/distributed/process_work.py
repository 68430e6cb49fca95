"""Work for processes. It stands in a module of its own because they import it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from penname.errors import DataError


class Counting:
    """A state that knows whose it is and what it did."""

    def __init__(self, number: int, factor: int) -> None:
        self.number, self.factor, self.seen = number, factor, list[int]()

    def multiply(self, item: int) -> int:
        time.sleep(0.05 if item == 0 else 0)
        self.seen.append(item)
        return self.factor * item

    def report(self) -> tuple[int, int, list[int]]:
        return self.number, os.getpid(), self.seen


class OddError(Exception):
    """Cannot be made from what it says."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def fail(_state: Counting, what: str) -> object:
    if what == "clearly":
        raise DataError("row 7: is not wanted; take it out")
    if what == "by number":
        raise OSError(28, "No space left on device")
    if what == "oddly":
        raise OddError(1, 2)
    if what == "at sending":
        return lambda: None
    if what == "by exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL)
    return None


def sleep(_state: Counting, trace: Path) -> None:
    trace.with_suffix(f".{os.getpid()}").touch()
    time.sleep(60)
