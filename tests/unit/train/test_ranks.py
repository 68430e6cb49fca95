"""Rank 0 and its followers, here in threads: what is shared out comes back as if nothing had been, and whoever fails is heard by all."""

import queue
import threading

import pytest
import torch

from penname.config import Config, ModelConfig
from penname.distributed.errors import EngineError
from penname.distributed.launch import Launch
from penname.distributed.message import Message
from penname.model.base import load_base_model
from penname.model.tokenize import TokenizedRecord
from penname.privacy.errors import PrivacyError
from penname.privacy.gradients import trainable_parameters
from penname.privacy.keystream import Keystream
from penname.privacy.mechanism import DpSgd
from penname.run_dir import RunDir
from penname.train.arms import PrivateArm
from penname.train.follower import Follower
from penname.train.layout import Layout
from penname.train.memory import UnitSummer
from penname.train.prepare import prepare_model
from penname.train.ranks import Ranks, decode_units, encode_units, place_model, rank_seed
from penname.train.train import hash_training_inputs
from tests.conftest import charged
from tests.unit.train.test_loop import UNITS, make_arm
from tests.unit.train.test_memory import NarrowArm

PATIENCE_SECS = 60


class ThreadWorld:
    """A rank that is a thread; it has what `World` has."""

    def __init__(self, rank, size, wires):
        self.launch, self.rank, self.size, self.followers, self._wires = Launch(rank, size, rank, size), rank, size, range(1, size), wires

    def send(self, rank, message):
        self._wires[self.rank, rank].put(message)

    def receive(self, rank):
        message = self._wires[rank, self.rank].get(timeout=PATIENCE_SECS)
        if message is None:
            raise EngineError(f"ranks: rank {rank} has ended")
        return message

    def spread(self, tensor):
        if self.rank:
            tensor.copy_(self.receive(0))
        else:
            for rank in self.followers:
                self.send(rank, tensor.clone())

    def add_up(self, tensor):
        if self.rank:
            self.send(0, tensor.clone())
        else:
            # The last first: the order must not matter.
            for rank in reversed(self.followers):
                tensor += self.receive(rank)

    def close(self):
        for rank in range(self.size):
            self._wires[self.rank, rank].put(None)


LOADING = threading.Lock()
"""Ranks are processes; in threads, transformers can load one model at a time."""


class ThreadFollower(Follower):
    def _load(self, fields):
        with LOADING:
            super()._load(fields)


class Crew:
    """Rank 0 in this thread, and the others in theirs."""

    def __init__(self, size, follower=ThreadFollower):
        wires = {(source, target): queue.Queue() for source in range(size) for target in range(size)}
        self.ranks, self.errors = Ranks(ThreadWorld(0, size, wires)), []
        self._threads = [threading.Thread(target=self._serve, args=(follower, ThreadWorld(rank, size, wires)), daemon=True) for rank in range(1, size)]
        for thread in self._threads:
            thread.start()

    def _serve(self, follower, world):
        try:
            follower(world).serve()
        except EngineError as error:
            self.errors.append(str(error))
        finally:
            world.close()

    def join(self):
        for rank in self.ranks.world.followers:
            self.ranks.world.send(rank, Message("end"))
        for thread in self._threads:
            thread.join(PATIENCE_SECS)
            assert not thread.is_alive()


def make_config(folder, layout="packed"):
    """The lower layer is frozen, so that followers keep its states; rank 0 does not, here."""
    model = {"name": str(folder), "dtype": "float32", "lora_rank": 2, "top_layers": 1}
    return Config.model_validate({"model": model, "train": {"max_record_tokens": 64, "layout": layout}})


@pytest.fixture
def config(tiny_model_dir):
    return make_config(tiny_model_dir)


def begin(crew, config):
    """A model of rank 0 that the others have too, and its arm."""
    crew.ranks.begin(config)
    with LOADING:
        base, _ = load_base_model(config.model)
        model, _ = prepare_model(base, config.model, config.train, pad_id=2, tile_tokens=64)
    crew.ranks.await_begun()
    arm = PrivateArm.build(model, charged(DpSgd(0.7, 0.4, 6, 1.0, Keystream.from_seed(5))), engine_name="lora")
    return model, arm


def assert_same_sum(found, expected):
    (total, losses), (expected_total, expected_losses) = found, expected
    assert torch.equal(total.value, expected_total.value)
    assert (total.num_units, total.num_clipped, total.l2_sensitivity) == (expected_total.num_units, expected_total.num_clipped, expected_total.l2_sensitivity)
    assert torch.equal(losses.sort().values, expected_losses.sort().values)


@pytest.mark.parametrize(("name", "layout"), [("packed", Layout(64, 2)), ("alone", Layout(None, 2))])
def test_units_that_are_shared_out_give_the_sum_of_one_rank(tiny_model_dir, name, layout):
    crew = Crew(3)
    model, arm = begin(crew, make_config(tiny_model_dir, name))
    # Weights that no rank could have from anywhere but rank 0.
    for _, parameter in trainable_parameters(model):
        parameter.data.normal_(std=0.1, generator=torch.Generator().manual_seed(3))
    own = UnitSummer(model, arm, layout)
    shared = crew.ranks.share(own, model, arm)
    shared.try_out()
    shared.check_ranks([UNITS[:3], UNITS[:1]])
    for units in (UNITS, UNITS[:1], []):
        assert_same_sum(shared.sum(units), own.sum(units))
    crew.join()
    assert crew.errors == []


class NarrowFollower(ThreadFollower):
    """Rank 2 is on a machine that has memory for 64 tokens at once."""

    def _build_arm(self, mechanism):
        return NarrowArm(super()._build_arm(mechanism), 64) if self._world.rank == 2 else super()._build_arm(mechanism)


def test_a_rank_without_memory_makes_the_tile_smaller_for_all_and_the_step_is_computed_again(config):
    crew = Crew(3, NarrowFollower)
    model, arm = begin(crew, config)
    kept = []
    own = UnitSummer(model, arm, Layout(256, 2), keep_tile=kept.append)
    shared = crew.ranks.share(own, model, arm)
    small = [unit for unit in UNITS if sum(len(record.token_ids) for record in unit) <= 64]
    assert len(small) > 3
    assert_same_sum(shared.sum(small), UnitSummer(model, arm, Layout(64, 2)).sum(small))
    assert shared.layout.tile_tokens == 64
    assert kept[-1] == 64
    crew.join()


class FailingFollower(ThreadFollower):
    def _sum(self, order, weights):
        if self._world.rank == 1:
            raise ValueError("the second rank is not well\nand a long story")
        return super()._sum(order, weights)


def test_the_line_of_a_rank_that_fails_is_heard_by_all(config):
    crew = Crew(3, FailingFollower)
    model, arm = begin(crew, config)
    with pytest.raises(EngineError, match=r"^ranks: rank 1 failed: the second rank is not well$"):
        crew.ranks.share(UnitSummer(model, arm, Layout(64, 2)), model, arm).sum(UNITS)
    crew.join()
    assert sorted(crew.errors) == [f"ranks: rank 1 failed: the second rank is not well (rank {rank} stops with it)" for rank in (1, 2)]


def test_a_follower_can_neither_draw_nor_add_noise():
    model, arm = make_arm()
    follower = Follower(ThreadWorld(1, 2, {}))
    follower._model = model
    mechanism = follower._build_arm(arm.mechanism.event).mechanism
    assert mechanism.event == arm.mechanism.event
    with pytest.raises(PrivacyError, match="is not charged"):
        mechanism.draw_units(0, num_units=3)
    with pytest.raises(PrivacyError, match="is not charged"):
        mechanism.release(0, mechanism.empty_sum(4))


def test_alone_nothing_is_shared():
    model, arm = make_arm()
    own = UnitSummer(model, arm, Layout(64, 2))
    ranks = Ranks(ThreadWorld(0, 1, {}))
    ranks.begin(Config())
    ranks.await_begun()
    assert ranks.share(own, model, arm) is own


def test_units_come_out_as_they_went_in():
    units = [[TokenizedRecord([5, 6, 7], 1), TokenizedRecord([8, 9], 1)], [TokenizedRecord([300000, 1, 2, 3], 3)]]
    assert decode_units(encode_units(units)) == units
    assert decode_units(encode_units([])) == []


def test_ranks_have_dropout_masks_of_their_own_from_the_secret_seed():
    with torch.random.fork_rng():
        seeds = []
        for secret in (1, 2):
            torch.manual_seed(secret)
            seeds += [rank_seed(rank) for rank in (1, 2, 3)]
    assert len(set(seeds)) == 6
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_run_with_dropout_belongs_to_its_number_of_ranks(tmp_path):
    run_dir = RunDir(tmp_path)
    run_dir.path("train_records").write_text("{}\n")

    def hash_on(num_ranks, dropout):
        return hash_training_inputs(Config.model_validate({"model": {"lora_dropout": dropout}}), run_dir, num_ranks=num_ranks)

    assert len({hash_on(num_ranks, 0.0) for num_ranks in (1, 2, 4)}) == 1
    assert len({hash_on(num_ranks, 0.1) for num_ranks in (1, 2, 4)}) == 3


def test_each_rank_of_a_machine_has_a_cuda_device_of_its_own(monkeypatch):
    second = Launch(5, 8, 1, 4)
    assert place_model(ModelConfig(device="auto"), Launch()).device == "auto"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert place_model(ModelConfig(device="auto"), second).device == "cuda:1"
    assert place_model(ModelConfig(device="cuda"), second).device == "cuda:1"
    assert place_model(ModelConfig(device="cuda:3"), second).device == "cuda:3"
    assert place_model(ModelConfig(device="cpu"), second).device == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert place_model(ModelConfig(device="auto"), second).device == "auto"
