"""Whether this process is one rank of several, as torchrun and Ray Train say it in the environment. Imports nothing heavy."""

from __future__ import annotations

import os
from dataclasses import dataclass

from penname.distributed.errors import EngineError


@dataclass(frozen=True)
class Launch:
    """Where this process stands among the W ranks of its run."""

    rank: int = 0
    num_ranks: int = 1
    local_rank: int = 0
    """Among the ranks of this machine."""
    num_local: int = 1
    """Ranks of this machine: what they share its memory between."""

    @property
    def is_follower(self) -> bool:
        """Rank 0 leads: it has the run folder. The others compute what they are given."""
        return self.rank > 0


def read_launch() -> Launch:
    """What RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE say; a process by itself where there are none.

    Raises:
      EngineError: they are no numbers, or do not fit together.
    """
    if "WORLD_SIZE" not in os.environ and "RANK" not in os.environ:
        return Launch()
    try:
        num_ranks, rank = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
        num_local, local_rank = int(os.environ.get("LOCAL_WORLD_SIZE", num_ranks)), int(os.environ.get("LOCAL_RANK", rank))
    except (KeyError, ValueError):
        raise EngineError("RANK, WORLD_SIZE: must both be whole numbers, as torchrun sets them; start penname with torchrun, or unset both") from None
    if not (0 <= rank < num_ranks and 0 <= local_rank < num_local <= num_ranks):
        raise EngineError(f"RANK, WORLD_SIZE: there is no rank {rank} among {num_ranks} ({local_rank} of {num_local} on this machine)")
    return Launch(rank, num_ranks, local_rank, num_local)
