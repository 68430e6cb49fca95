"""What runs in a process of `Processes`: it is given functions and what they take, and sends back what they return."""

from __future__ import annotations

import contextlib
import copy
import gc
import os
import threading
from multiprocessing.connection import Connection
from typing import Any

from penname.distributed.errors import EngineError, first_line

_GC_THRESHOLD = 200_000


def serve(handle: int) -> None:
    """Answers one question after the other, until nobody asks any more.

    Args:
      handle: The descriptor of the connection to the process that asks. What it sends is trusted: it started this one.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Work on data makes objects by the million and hardly a circle among them: to look for one every few hundred is for nothing.
    gc.set_threshold(_GC_THRESHOLD)
    state: list[Any] = []
    with Connection(handle) as parent:
        while True:
            try:
                what, function, args = parent.recv()
                answer = function(*args) if what == "prepare" else function(*state, *args)
                if what == "prepare":
                    state, answer = [answer], None
                parent.send((True, answer))
            except (EOFError, ConnectionError):
                return
            # Polars panics with an exception that is no Exception.
            except BaseException as error:
                parent.send((False, _make_portable(error)))


def _end_with_parent() -> None:
    """Nothing is ever written to standard input: it ends when the parent does, killed or not, and a process must not go on alone."""
    os.read(0, 1)
    os._exit(1)


def _make_portable(error: BaseException) -> Exception:
    """An error that arrives in the other process as it is; one that cannot be made there again is told in words."""
    with contextlib.suppress(Exception):
        if isinstance(error, Exception) and copy.copy(error):
            return error
    return EngineError(f"part of the work failed: {type(error).__name__}: {first_line(error)}")
