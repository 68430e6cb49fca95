"""A training on several ranks, as rank 0 leads it: it draws, shares the units out, adds the sums up and releases once.

Rank 0 alone has the key, the records, the ledger, the optimizer and the run folder. The others are given weights and units, and give back clipped
sums and losses (`follower.py`). So there is one draw, one noise and one writer of the ledger whatever the number of ranks, and a step in which a
rank fails releases nothing. No rank enters a sum of all before every rank has said that its part is well.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Generator, Sequence
from typing import Any, Protocol

import torch

from penname.config import Config, ModelConfig
from penname.distributed.errors import EngineError
from penname.distributed.launch import Launch
from penname.distributed.message import Message
from penname.distributed.shares import share_out
from penname.distributed.world import DEFAULT_TIMEOUT_SECS, World
from penname.model.tokenize import TokenizedRecord
from penname.privacy.clipping import BoundedSum
from penname.privacy.errors import SelfCheckError
from penname.privacy.gradients import trainable_parameters
from penname.train.arms import NonPrivateArm, PrivateArm
from penname.train.layout import Layout, Unit, count_tokens
from penname.train.memory import UnitSummer

# Orders of rank 0, replies to them, and what follows once all have replied.
BEGIN, SUM, END = "begin", "sum", "end"
WELL, FAILED = "well", "failed"
GO_ON, ADD, STOP = "go_on", "add", "stop"


class Summer(Protocol):
    """What sums a step's units, on one rank or on several."""

    @property
    def layout(self) -> Layout: ...
    def try_out(self) -> None: ...
    def sum(self, units: Sequence[Unit]) -> tuple[BoundedSum, torch.Tensor]: ...


class Ranks:
    """The other ranks, as rank 0 sees them. Where there are none, nothing is sent and rank 0 computes everything."""

    def __init__(self, world: World) -> None:
        self.world = world

    @classmethod
    @contextlib.contextmanager
    def open(cls, *, timeout_secs: float = DEFAULT_TIMEOUT_SECS) -> Generator[Ranks]:
        """Calls the others, and lets them go when the block ends; where it fails they end too, with a line.

        Raises:
          EngineError: they do not come together.
        """
        world = World.open(timeout_secs=timeout_secs)
        try:
            yield cls(world)
            for rank in world.followers:
                world.send(rank, Message(END))
        finally:
            world.close()

    @property
    def size(self) -> int:
        """W, rank 0 included."""
        return self.world.size

    def begin(self, config: Config) -> None:
        """Lets the others load the model for an arm, each by itself."""
        for rank in self.world.followers:
            self.world.send(rank, Message(BEGIN, {"model": config.model.model_dump(), "train": config.train.model_dump()}))

    def await_begun(self) -> None:
        """Waits until all have.

        Raises:
          EngineError: one cannot, or is lost.
        """
        self.collect()
        self.tell(Message(GO_ON))

    def collect(self) -> list[Message]:
        """The replies of all others.

        Raises:
          EngineError: a rank failed or is lost; the others are told, and end.
        """
        replies: list[Message] = []
        faults: dict[int, str] = {}
        for rank in self.world.followers:
            try:
                replies.append(self.world.receive(rank))
            except EngineError as error:
                faults[rank] = str(error)
                continue
            if replies[-1].kind == FAILED:
                faults[rank] = f"ranks: rank {rank} failed: {replies[-1].fields['line']}"
        if faults:
            line = next(iter(faults.values()))
            with contextlib.suppress(EngineError):
                self.tell(Message(STOP, {"line": line}))
            raise EngineError(line)
        return replies

    def tell(self, message: Message) -> None:
        """The same to all others; one that is gone does not keep it from the rest.

        Raises:
          EngineError: one is gone.
        """
        gone: list[EngineError] = []
        for rank in self.world.followers:
            try:
                self.world.send(rank, message)
            except EngineError as error:
                gone.append(error)
        if gone:
            raise gone[0]

    def share(self, own: UnitSummer, model: Any, arm: PrivateArm | NonPrivateArm) -> Summer:
        """Sums a step's units on all ranks."""
        return SharedSummer(self, own, model, arm) if self.size > 1 else own


class SharedSummer:
    """Sums units on all ranks; what rank 0 does itself it does as `UnitSummer`."""

    def __init__(self, ranks: Ranks, own: UnitSummer, model: Any, arm: PrivateArm | NonPrivateArm) -> None:
        self._ranks, self._own, self._model, self._arm = ranks, own, model, arm

    @property
    def layout(self) -> Layout:
        """The same on all ranks."""
        return self._own.layout

    def try_out(self) -> None:
        """Lets every rank fill a tile with made-up units, so that a tile that is too large shows before any real unit is read."""
        units = self._own.make_up_units()
        self._sum_shares([units] * self._ranks.size, is_kept=False)

    def sum(self, units: Sequence[Unit]) -> tuple[BoundedSum, torch.Tensor]:
        """As `sum_units`; which rank a unit is computed on changes no bit of what it adds, as the self-check `ranks` finds.

        Args:
          units: A Poisson draw, none without records; may be empty, as may the share of a rank. PRIVATE.
        Raises:
          EngineError: a rank failed or is lost; nothing was released.
        """
        shares = share_out([count_tokens(unit) for unit in units], self._ranks.size)
        return self._sum_shares([[units[place] for place in share] for share in shares], is_kept=True)

    def _sum_shares(self, shares: Sequence[Sequence[Unit]], *, is_kept: bool) -> tuple[BoundedSum, torch.Tensor]:
        while True:
            replies, own, losses = self._compute(shares, is_kept=is_kept)
            if self._have_one_tile(replies):
                break
            # All of it again: in one step all units must be computed in one way, on whatever rank.
            self._ranks.tell(Message(GO_ON))
        self._ranks.tell(Message(ADD))
        rest = torch.zeros_like(own.value)
        self._ranks.world.add_up(rest)
        num_units, num_clipped = (sum(int(reply.fields[name]) for reply in replies) for name in ("num_units", "num_clipped"))
        total = own.add_disjoint(BoundedSum(rest, own.l2_sensitivity, num_units, num_clipped))
        return total, torch.cat([losses, *(reply.tensors["losses"] for reply in replies)])

    def check_ranks(self, batches: Sequence[Sequence[Unit]]) -> None:
        """Checks that all ranks compute the same bits, because which rank a unit is on depends on the other units.

        Args:
          batches: Of a few units. PRIVATE.
        Raises:
          SelfCheckError: one does not.
        """
        for batch in batches:
            self._own.forget()
            replies, own, losses = self._compute([batch] * self._ranks.size, is_kept=False, gives_value=True)
            self._ranks.tell(Message(GO_ON))
            for rank, reply in zip(self._ranks.world.followers, replies, strict=True):
                if not (torch.equal(reply.tensors["value"], own.value) and torch.equal(reply.tensors["losses"], losses)):
                    raise SelfCheckError(
                        f"self-check ranks: rank {rank} computes other bits than rank 0; ranks need one kind of machine, one number of threads, the same "
                        "versions and the same base model"
                    )

    def _compute(self, shares: Sequence[Sequence[Unit]], *, is_kept: bool, gives_value: bool = False) -> tuple[list[Message], BoundedSum, torch.Tensor]:
        """Every rank sums its share; the replies of the others, and rank 0's own sum and losses."""
        ranks = self._ranks
        weights = torch.cat([parameter.detach().reshape(-1).float().cpu() for _, parameter in trainable_parameters(self._model)])
        fields = {
            "mechanism": self._arm.mechanism.event,
            "is_training": self._model.training,
            "tile_tokens": self.layout.tile_tokens,
            "num_params": len(weights),
            "is_kept": is_kept,
            "gives_value": gives_value,
        }
        for rank in ranks.world.followers:
            ranks.world.send(rank, Message(SUM, {**fields, "seed": rank_seed(rank)}, encode_units(shares[rank])))
        ranks.world.spread(weights)
        own, losses = self._own.sum(shares[0])
        return ranks.collect(), own, losses

    def _have_one_tile(self, replies: Sequence[Message]) -> bool:
        tiles = {self.layout.tile_tokens, *(reply.fields["tile_tokens"] for reply in replies)}
        if len(tiles) == 1:
            return True
        self._own.shrink(min(tile for tile in tiles if tile is not None))
        return False


def rank_seed(rank: int) -> int:
    """The seed of a rank's dropout masks in this step, from that of rank 0, which comes from the secret key: with one seed for all, units on two
    ranks would have the same masks. PRIVATE."""
    digest = hashlib.sha256(f"{torch.initial_seed()}/{rank}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def place_model(config: ModelConfig, launch: Launch) -> ModelConfig:
    """Each rank of a machine on a CUDA device of its own, where the config leaves open which, or names none in particular."""
    if launch.num_ranks == 1 or config.device not in ("auto", "cuda") or not torch.cuda.is_available():
        return config
    return config.model_copy(update={"device": f"cuda:{launch.local_rank}"})


def encode_units(units: Sequence[Unit]) -> dict[str, torch.Tensor]:
    """Units as tensors. PRIVATE."""
    records = [record for unit in units for record in unit]
    return {
        "records_a_unit": torch.tensor([len(unit) for unit in units], dtype=torch.int32),
        "tokens_a_record": torch.tensor([len(record.token_ids) for record in records], dtype=torch.int32),
        "prompt_tokens": torch.tensor([record.num_prompt_tokens for record in records], dtype=torch.int32),
        "token_ids": torch.tensor([token for record in records for token in record.token_ids], dtype=torch.int32),
    }


def decode_units(tensors: dict[str, torch.Tensor]) -> list[Unit]:
    """What `encode_units` encoded. PRIVATE."""
    token_ids = [part.tolist() for part in tensors["token_ids"].split(tensors["tokens_a_record"].tolist())]
    records = iter([TokenizedRecord(ids, num) for ids, num in zip(token_ids, tensors["prompt_tokens"].tolist(), strict=True)])
    return [[next(records) for _ in range(count)] for count in tensors["records_a_unit"].tolist()]
