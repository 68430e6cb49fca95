"""Private evolution on a tiny model that writes letters: rounds, resuming, and what happens where the model cannot write."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from penname.config import load_config
from penname.errors import PennameError, UsageError
from penname.generate import evolution
from penname.generate.evolution import check_votes_moved, run_evolution, select_parents
from penname.generate.exemplars import Exemplar, read_population
from penname.pipeline import run_stages
from penname.privacy.clipping import BoundedSum
from penname.privacy.errors import SelfCheckError
from penname.privacy.ledger import Ledger
from penname.run_dir import RunDir, read_json, read_rows


def small(model_dir: Path, *more: str):
    settings = [
        f"model.name={model_dir}",
        "model.dtype=float32",
        "model.device=cpu",
        "data.sample_num_reviews=300",
        "records.prompt_template='{category} {rating}:'",
        "records.completion_template='{title}|{text}'",
        "privacy.noise_seed=5",
        "train.method=private_evolution",
        "train.expected_batch_size=1000",
        "train.num_steps=3",
        "evolve.num_candidates=120",
        "evolve.max_new_tokens=40",
        "generate.max_draws_per_record=40",
        *more,
    ]
    return load_config(None, settings)


@pytest.fixture(autouse=True)
def letters_for_embeddings(monkeypatch):
    """An embedding that is computed at once: how often each letter occurs."""

    class Letters:
        width = 26

        def embed(self, texts):
            counts = np.array([[1 + text.lower().count(chr(97 + i)) for i in range(26)] for text in texts], dtype=np.float32)
            return counts / np.linalg.norm(counts, axis=1, keepdims=True)

    monkeypatch.setattr(evolution, "load_embedder", lambda name: Letters())


@pytest.fixture(scope="module")
def begun(letter_model_dir, tmp_path_factory):
    """A run folder with records."""
    root = tmp_path_factory.mktemp("evolution") / "run"
    run_stages(small(letter_model_dir), root, ("ingest", "records"))
    return root


def copy_folder(begun, target):
    import shutil

    shutil.copytree(begun, target)
    return RunDir(target)


def test_both_arms_evolve_a_population_and_the_ledger_pays_for_one(begun, letter_model_dir, tmp_path):
    config, run_dir = small(letter_model_dir), copy_folder(begun, tmp_path / "run")
    run_evolution(config, run_dir)
    for arm in ("with_dp", "no_dp"):
        population = read_population(run_dir.path(f"population_{arm}"))
        assert {one.rating for one in population} == {1, 2, 3, 4, 5}
        assert 50 <= len(population) <= 120
        rows = list(read_rows(run_dir.path(f"train_metrics_{arm}")))
        assert [row["step"] for row in rows] == [0, 1, 2]
        # Every unit votes, and what is voted for gets more like the records.
        assert rows[2]["mean_likeness"] > rows[0]["mean_likeness"]
    num_units = read_json(run_dir.path("records_counts"))["num_units"]["train"]
    assert rows[0]["num_units"] == num_units
    exact, noisy = (read_population(run_dir.path(f"population_{arm}")) for arm in ("no_dp", "with_dp"))
    assert all(one.votes >= 0 for one in exact)
    assert any(one.votes != round(one.votes * 60) / 60 for one in noisy)
    (training,) = [entry["event"] for entry in Ledger.read(run_dir.path("ledger")).entries if entry["event_id"] == "train/with_dp"]
    assert (training["l2_sensitivity"], training["num_steps"], training["sampling_prob"]) == (1.0, 3, 1.0)
    assert {check["name"] for check in read_json(run_dir.path("self_checks"))} >= {"batch_mates", "sensitivity", "noise", "sampler", "adapters_moved"}
    assert not (run_dir.root / "2_train/with_dp/rounds").exists()
    # Records become temporary embeddings and nothing else.
    assert not [path for path in run_dir.root.rglob("*") if path.suffix == ".tmp"]


@pytest.mark.parametrize("moment", ["_vote", "_propose"])
def test_what_is_stopped_goes_on_with_the_same_candidates_and_the_same_votes(begun, letter_model_dir, tmp_path, monkeypatch, moment):
    config, whole, cut = small(letter_model_dir, "train.arms=[with_dp]"), *(copy_folder(begun, tmp_path / name) for name in ("whole", "cut"))
    run_evolution(config, whole)
    own, calls = getattr(evolution._Arm, moment), []

    def stop_in_the_second_round(self, *given):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return own(self, *given)

    monkeypatch.setattr(evolution._Arm, moment, stop_in_the_second_round)
    with pytest.raises(KeyboardInterrupt):
        run_evolution(config, cut)
    spent = cut.path("ledger").read_bytes()
    run_evolution(config, cut)
    assert cut.path("ledger").read_bytes() == spent
    assert cut.path("population_with_dp").read_bytes() == whole.path("population_with_dp").read_bytes()
    assert [row["step"] for row in read_rows(cut.path("train_metrics_with_dp"))] == [0, 1, 2]


def test_a_unit_more_moves_one_vote(begun, letter_model_dir, tmp_path, monkeypatch):
    """The first round's sums over all units, and over all but one, differ by that unit's vote."""
    config, totals = small(letter_model_dir, "train.arms=[no_dp]", "train.num_steps=1"), []
    own = evolution.sum_votes
    monkeypatch.setattr(evolution, "sum_votes", lambda *given: totals.append(own(*given)) or totals[-1])
    for name in ("all", "less"):
        run_dir = copy_folder(begun, tmp_path / name)
        path = run_dir.path("train_records")
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        last = json.loads(lines[-1])["unit_id"]
        if name == "less":
            path.write_text("".join(line for line in lines if json.loads(line)["unit_id"] != last), encoding="utf-8")
        run_evolution(config, run_dir)
    difference = totals[0][0].value - totals[1][0].value
    assert float(difference.sum()) == pytest.approx(1, abs=1e-5)
    assert float(difference.min()) > -1e-5


def test_a_model_that_does_not_write_the_form_is_one_line(begun, letter_model_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("penname.template.RecordTemplate.parse_completion", lambda self, completion: None)
    run_dir = copy_folder(begun, tmp_path / "run")
    with pytest.raises(PennameError, match=r"put an example into records\.prompt_template"):
        run_evolution(small(letter_model_dir, "generate.max_draws_per_record=1"), run_dir)
    # That is found out before anything is paid.
    assert not run_dir.path("ledger").exists()


def test_the_better_half_of_each_rating_and_category_are_parents():
    voted = [Exemplar(1 + i // 4, "A", "", "", str(i), votes=float(i % 4)) for i in range(8)] + [Exemplar(3, "A", "", "", "alone", votes=-9.0)]
    assert [one.text for one in select_parents(voted)] == ["3", "2", "7", "6", "alone"]


def test_votes_without_noise_stop_the_run():
    total = BoundedSum(torch.tensor([1.0, 2.0], dtype=torch.float64), 1.0, 2, 0)
    assert check_votes_moved(total, torch.tensor([1.5, 1.5])).passed
    with pytest.raises(SelfCheckError, match="did not change the votes of every candidate"):
        check_votes_moved(total, torch.tensor([1.5, 2.0]))


@pytest.mark.parametrize("other", ["engine=ray", "tracking=wandb"])
def test_what_evolution_cannot_do_is_refused_at_once(letter_model_dir, other):
    with pytest.raises(UsageError, match=r"private_evolution|dp_sgd"):
        small(letter_model_dir, other)


def test_candidates_are_the_same_whoever_votes(begun, letter_model_dir, tmp_path):
    """What the model writes depends on public seeds and noisy votes alone: the first candidates of both arms are the same."""
    config, run_dir = small(letter_model_dir, "train.num_steps=1"), copy_folder(begun, tmp_path / "run")
    run_evolution(config, run_dir)
    with_dp, no_dp = (read_population(run_dir.path(f"population_{arm}")) for arm in ("with_dp", "no_dp"))
    texts = [{replace(one, votes=0.0) for one in population} for population in (with_dp, no_dp)]
    assert texts[0] & texts[1]
