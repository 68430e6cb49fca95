"""Work on the next items while the results of the earlier ones are used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_NUM_THREADS = 2


def map_ahead(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`map`, with a few items worked on at a time; the results come in the order of the items.

    Reading, unpacking and Polars let go of the interpreter's lock, so threads are enough. Memory holds a few items and their results.

    Raises:
      Whatever `function` or `items` raises, when its turn comes.
    """
    pool = ThreadPoolExecutor(_NUM_THREADS)
    try:
        yield from map_on_threads(pool, _NUM_THREADS, function, items)
    finally:
        pool.shutdown(cancel_futures=True)


def map_on_threads(pool: ThreadPoolExecutor, num_threads: int, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`map_ahead` on the threads of others: one item is ready beside those that are worked on. Whoever has the threads ends them."""
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > num_threads:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
