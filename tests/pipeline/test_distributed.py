"""A training on 1, 2 and 4 ranks is one training: the same sums, weights and ledger, bit for bit; and a rank that fails ends it for all with one line,
spends nothing twice, and leaves a run that goes on with any number of ranks.

The ranks are real processes with the environment that torchrun gives them, over gloo.
"""

import re
import shutil
import signal
import socket
from pathlib import Path

import pytest

from penname.run_dir import read_rows
from tests.conftest import make_byte_tokenizer, make_tiny_llama
from tests.pipeline.conftest import wait_until, write_config

ADAPTER = "2_train/{}/adapter/adapter_model.safetensors"
LONG = ["train.num_steps=40", "train.checkpoint_every_secs=0"]


@pytest.fixture(scope="module")
def recorded(penname, settings, letter_model_dir, tmp_path_factory) -> tuple[Path, Path]:
    """A config, whose model is a folder beside where the command is started, and a run that has come as far as the records."""
    folder = tmp_path_factory.mktemp("ranks")
    shutil.copytree(letter_model_dir, folder / "model")
    tiny = settings | {
        "model": {**settings["model"], "name": "model"},
        "privacy": {**settings["privacy"], "noise_seed": 7},
        # Fewer units than ranks now and then, so that a share may be empty.
        "train": {**settings["train"], "expected_batch_size": 8, "num_steps": 20, "physical_batch_tokens": 256},
    }
    config = write_config(folder / "tiny.yaml", tiny)
    for stage in ("ingest", "records"):
        penname.succeed(stage, config, "--out", folder / "run", cwd=folder)
    return config, folder / "run"


class Launcher:
    """Starts a training on ranks, each from its own folder."""

    def __init__(self, penname, recorded, folder: Path) -> None:
        self._penname, (self._config, self._recorded), self._folder = penname, recorded, folder

    def copy_run(self, name: str) -> Path:
        return Path(shutil.copytree(self._recorded, self._folder / name))

    def start(self, root: Path, num_ranks: int, *overrides: str, folders: dict[int, Path] | None = None):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        started = []
        for rank in range(num_ranks):
            numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_ranks, "LOCAL_WORLD_SIZE": num_ranks, "MASTER_PORT": port}
            env = {**{name: str(value) for name, value in numbers.items()}, "MASTER_ADDR": "127.0.0.1"} if num_ranks > 1 else {}
            cwd = (folders or {}).get(rank, self._config.parent)
            started.append(self._penname.start("train", self._config, *overrides, "--out", root, env=env, cwd=cwd))
        return started

    def run(self, root: Path, num_ranks: int, *overrides: str, folders: dict[int, Path] | None = None):
        return [started.wait(60) for started in self.start(root, num_ranks, *overrides, folders=folders)]


@pytest.fixture
def launch(penname, recorded, tmp_path) -> Launcher:
    return Launcher(penname, recorded, tmp_path)


def read_figures(root: Path, arm: str) -> list[dict]:
    """What a step computed, without its time and without the mean loss, whose records come in another order."""
    return [{name: value for name, value in row.items() if name not in ("secs", "loss")} for row in read_rows(root / f"2_train/{arm}/metrics.jsonl")]


def test_ranks_give_the_same_update_and_the_same_ledger(launch):
    roots = {num_ranks: launch.copy_run(f"on_{num_ranks}") for num_ranks in (1, 2, 4)}
    for num_ranks, root in roots.items():
        outcomes = launch.run(root, num_ranks)
        assert [outcome.code for outcome in outcomes] == [0] * num_ranks, outcomes
        # Rank 0 alone says anything.
        assert [outcome.stderr for outcome in outcomes[1:]] == [""] * (num_ranks - 1)
        assert ("ranks hold on" in outcomes[0].stderr) == (num_ranks > 1)
    alone = roots.pop(1)
    figures = read_figures(alone, "with_dp")
    # Or no empty share would have been met, nor one of several units.
    sizes = [row["num_units"] for row in figures]
    assert min(sizes) < 2
    assert max(sizes) > 4
    for root in roots.values():
        assert (root / "ledger.jsonl").read_bytes() == (alone / "ledger.jsonl").read_bytes()
        assert (root / ADAPTER.format("with_dp")).read_bytes() == (alone / ADAPTER.format("with_dp")).read_bytes()
        assert read_figures(root, "with_dp") == figures
        assert (root / "2_train/self_checks.json").read_bytes() == (alone / "2_train/self_checks.json").read_bytes()
        # The arm without DP sums in float32, in the order of the ranks: equal up to rounding.
        for row, expected in zip(read_figures(root, "no_dp"), read_figures(alone, "no_dp"), strict=True):
            assert row == {name: value if value is None else pytest.approx(value, rel=1e-4) for name, value in expected.items()}


@pytest.fixture(scope="module")
def whole(penname, recorded, tmp_path_factory) -> Path:
    """A training of many steps that nothing befell, on one rank."""
    launch = Launcher(penname, recorded, tmp_path_factory.mktemp("whole"))
    root = launch.copy_run("run")
    assert launch.run(root, 1, *LONG)[0].code == 0
    return root


@pytest.mark.slow
@pytest.mark.parametrize(("lost_rank", "num_ranks", "num_ranks_after"), [(0, 2, 1), (1, 3, 2)])
def test_a_killed_rank_ends_the_step_for_all_and_the_run_goes_on_on_any_number_of_ranks(launch, whole, lost_rank, num_ranks, num_ranks_after):
    root = launch.copy_run("cut")
    ranks = launch.start(root, num_ranks, *LONG)
    metrics = root / "2_train/with_dp/metrics.jsonl"
    wait_until(lambda: metrics.is_file() and metrics.read_bytes().count(b"\n") > 2)
    # Stopped, so that the others are in the midst of a step with it when it is killed.
    ranks[lost_rank].send(signal.SIGSTOP)
    ranks[lost_rank].send(signal.SIGKILL)
    outcomes = [started.wait(60) for started in ranks]
    assert outcomes[lost_rank].code == -signal.SIGKILL
    for rank in set(range(num_ranks)) - {lost_rank}:
        # In a sum of all nobody knows who it was, and who follows may see rank 0 end first.
        who = f"(rank {lost_rank}|another rank)" if rank == 0 else r"(rank \d|another rank)"
        assert re.search(f"{who} has ended", outcomes[rank].fails(1, "ranks: "))
    ledger = (root / "ledger.jsonl").read_bytes()
    assert {outcome.code for outcome in launch.run(root, num_ranks_after, *LONG)} == {0}
    assert (root / "ledger.jsonl").read_bytes() == ledger == (whole / "ledger.jsonl").read_bytes()
    assert (root / ADAPTER.format("with_dp")).read_bytes() == (whole / ADAPTER.format("with_dp")).read_bytes()
    assert read_figures(root, "with_dp") == read_figures(whole, "with_dp")


def test_a_rank_that_cannot_begin_and_a_rank_that_computes_other_bits_end_it_for_all(launch, tmp_path):
    root, empty, other = launch.copy_run("run"), tmp_path / "empty", tmp_path / "other"
    empty.mkdir()
    outcomes = launch.run(root, 3, folders={2: empty})
    for outcome in outcomes:
        outcome.fails(1, "ranks: rank 2 failed: model.name")
    other.mkdir()
    make_tiny_llama(seed=5, tied=False).save_pretrained(other / "model")
    make_byte_tokenizer().save_pretrained(other / "model")
    outcomes = launch.run(root, 2, folders={1: other})
    outcomes[0].fails(1, "self-check ranks: rank 1 computes other bits than rank 0")
    outcomes[1].fails(1, "rank 0 has ended")
    # Charged once, by the first try.
    assert [row["event_id"] for row in list(read_rows(root / "ledger.jsonl"))[1:]] == ["count_units", "train/with_dp", "histogram/rating_category"]


def test_a_rank_that_says_nothing_is_given_up_on(launch):
    root = launch.copy_run("run")
    ranks = launch.start(root, 2, *LONG, "engine.timeout_secs=2")
    metrics = root / "2_train/with_dp/metrics.jsonl"
    wait_until(lambda: metrics.is_file() and metrics.read_bytes().count(b"\n") > 2)
    ranks[1].send(signal.SIGSTOP)
    ranks[0].wait(60).fails(1, "rank 1 does not answer within 2 s")
    ranks[1].send(signal.SIGCONT)
    assert re.search("rank 0 (has ended|does not answer)", ranks[1].wait(60).fails(1, "ranks: "))


def test_ranks_that_are_not_needed_go(launch, whole):
    outcomes = launch.run(whole, 2, *LONG)
    assert [outcome.code for outcome in outcomes] == [0, 0]
    assert "Nothing to do" in outcomes[0].stdout
    for outcome in launch.run(whole, 2, "train.num_steps=0"):
        outcome.fails(2, "train.num_steps")
