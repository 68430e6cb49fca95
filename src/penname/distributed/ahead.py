"""Work on the next items while the results of the earlier ones are used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_NUM_THREADS = 2
_NUM_AHEAD = 3


def map_ahead(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`map`, with a few items worked on at a time; the results come in the order of the items.

    Reading, unpacking and Polars let go of the interpreter's lock, so threads are enough. Memory holds a few items and their results.

    Raises:
      Whatever `function` or `items` raises, when its turn comes.
    """
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(_NUM_THREADS)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= _NUM_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
