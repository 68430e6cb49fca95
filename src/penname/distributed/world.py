"""The ranks of one run: messages between rank 0 and the others, and sums of all. Gloo, on the processor.

What is exchanged lies on the processor in any case: the clipped sums, to which the noise is added there, and the adapter's weights. So CUDA's
NCCL would have nothing to carry. Nothing is encrypted: messages hold PRIVATE records and sums, and belong on a network that you trust.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from datetime import timedelta
from functools import cache, partial
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous  # pyright: ignore[reportUnknownVariableType]

from penname.distributed.errors import EngineError, first_line
from penname.distributed.launch import Launch, read_launch
from penname.distributed.message import Message, receive_message, send_message

DEFAULT_TIMEOUT_SECS = 1800.0
"""How long a rank waits for another that is connected and says nothing. One that has ended is noticed at once."""
_CALL = "penname/training"
_BEGIN, _NOTHING = "begin", "nothing"
_GONE = "penname/heard"
_GOODBYE_SECS = 10.0
_POLL_SECS = 0.2
_RENDEZVOUS = timedelta(seconds=300)


class World:
    """All ranks, from the place of this one. Of a process by itself it is empty, and nothing is sent."""

    def __init__(self, launch: Launch, *, timeout_secs: float) -> None:
        """Is made by `open`."""
        self.launch, self._timeout_secs = launch, timeout_secs

    @classmethod
    def open(cls, *, timeout_secs: float = DEFAULT_TIMEOUT_SECS) -> World:
        """Joins the other ranks, where the environment says that there are any. Every rank must call it.

        Args:
          timeout_secs: For every message.
        Raises:
          EngineError: they do not come together.
        """
        launch = read_launch()
        if launch.num_ranks == 1:
            return cls(launch, timeout_secs=timeout_secs)
        if dist.is_initialized():
            # Ray Train has brought the ranks together.
            return cls(Launch(dist.get_rank(), dist.get_world_size(), launch.local_rank, launch.num_local), timeout_secs=timeout_secs)
        try:
            store = _open_store()
            if not launch.is_follower:
                store.set(_CALL, _BEGIN)
            group = PrefixStore("penname/ranks", store)
            dist.init_process_group("gloo", store=group, rank=launch.rank, world_size=launch.num_ranks, timeout=timedelta(seconds=timeout_secs))
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"ranks: the {launch.num_ranks} ranks do not come together ({first_line(error)}); were all of them started?") from None
        return cls(launch, timeout_secs=timeout_secs)

    @property
    def rank(self) -> int:
        """Of this process; 0 leads."""
        return self.launch.rank

    @property
    def size(self) -> int:
        """W."""
        return self.launch.num_ranks

    @property
    def followers(self) -> range:
        """The ranks that rank 0 leads."""
        return range(1, self.size)

    def send(self, rank: int, message: Message) -> None:
        """Sends a message; waits until the other takes it.

        Raises:
          EngineError: the other has ended, or does not answer in time.
        """
        self._talk(rank, lambda: send_message(message, lambda tensor: dist.send(tensor, rank)))

    def receive(self, rank: int) -> Message:
        """The next message of that rank.

        Raises:
          EngineError: the other has ended, or does not answer in time.
        """

        def fill(tensor: torch.Tensor) -> None:
            dist.recv(tensor, rank)

        return self._talk(rank, lambda: receive_message(fill))

    def spread(self, tensor: torch.Tensor) -> None:
        """Gives rank 0's tensor to all, in place; every rank must call it, with one shape."""
        if self.size > 1:
            self._talk(None, partial(dist.broadcast, tensor, 0))  # pyright: ignore[reportUnknownArgumentType]

    def add_up(self, tensor: torch.Tensor) -> None:
        """Adds the tensors of all up in rank 0's, in place; every rank must call it, with one shape. What the others then hold is of no use.

        The order of the additions is the same every time, and it is not that of the ranks.
        """
        if self.size > 1:
            self._talk(None, partial(dist.reduce, tensor, 0))  # pyright: ignore[reportUnknownArgumentType]

    def close(self) -> None:
        """Leaves the others; whoever still waits for this rank is told by the closed connection."""
        if self.size > 1 and dist.is_initialized():
            with contextlib.suppress(RuntimeError):
                dist.destroy_process_group()

    def _talk(self, rank: int | None, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except RuntimeError as error:
            who = "another rank" if rank is None else f"rank {rank}"
            line = first_line(error)
            why = f"does not answer within {self._timeout_secs:g} s" if "timeout" in line.lower() or "timed out" in line.lower() else "has ended"
            raise EngineError(f"ranks: {who} {why}; what was finished is kept, run the same command again to go on") from None


def await_call() -> bool:
    """Waits, as a follower, until rank 0 begins to train or says that there is nothing to do. Rank 0 may take hours until then.

    Returns:
      Whether to join with `World.open`.
    Raises:
      EngineError: rank 0 ended without a word.
    """
    try:
        store = _open_store()
        while not store.check([_CALL]):
            time.sleep(_POLL_SECS)
        is_called = store.get(_CALL).decode() == _BEGIN
        store.add(_GONE, 1)
        return is_called
    except (RuntimeError, ValueError) as error:
        raise EngineError(f"ranks: rank 0 ended before it began to train ({first_line(error)})") from None


def dismiss_followers() -> None:
    """Tells the followers, as rank 0 before it ends, that there is nothing for them to do, unless they were called before."""
    # Whoever launched the ranks notices when rank 0 has failed.
    with contextlib.suppress(RuntimeError, ValueError):
        store = _open_store()
        if store.compare_set(_CALL, "", _NOTHING).decode() != _NOTHING:
            return
        # Where rank 0 keeps the store, it ends with rank 0.
        deadline = time.monotonic() + _GOODBYE_SECS
        while int(store.add(_GONE, 0)) < read_launch().num_ranks - 1 and time.monotonic() < deadline:
            time.sleep(_POLL_SECS)


def is_connected() -> bool:
    """Whether this process is connected with other ranks."""
    return dist.is_initialized()


@cache
def _open_store() -> Store:
    """Where the ranks find each other before they are connected: torchrun's own, or one that rank 0 keeps."""
    store, _, _ = next(rendezvous("env://", timeout=_RENDEZVOUS))  # pyright: ignore[reportUnknownMemberType]
    return store
