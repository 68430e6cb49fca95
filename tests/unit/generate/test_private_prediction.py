"""Private prediction on a tiny model that writes letters: groups, draws, resuming, and what one unit can change."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from penname.config import load_config
from penname.errors import PennameError, UsageError
from penname.generate import private_prediction
from penname.generate.conditioning import Condition
from penname.generate.exemplars import Exemplar, read_population
from penname.generate.private_prediction import Scribe, run_private_prediction
from penname.generate.synthesize import run_generate, take_written
from penname.pipeline import run_stages
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
        "train.method=private_prediction",
        "predict.num_texts=60",
        "predict.max_new_tokens=80",
        "predict.max_example_tokens=30",
        "generate.num_records=80",
        "generate.max_new_tokens=40",
        "generate.max_draws_per_record=40",
        *more,
    ]
    return load_config(None, settings)


@pytest.fixture(autouse=True)
def half_are_enough(monkeypatch):
    """The letters' form is rare in one draw; whether the form is checked has a test of its own."""
    monkeypatch.setattr(Scribe, "check_form", lambda self: None)


@pytest.fixture(scope="module")
def begun(letter_model_dir, tmp_path_factory):
    """A run folder with records."""
    root = tmp_path_factory.mktemp("prediction") / "run"
    run_stages(small(letter_model_dir), root, ("ingest", "records"))
    return root


def copy_folder(begun, target):
    return RunDir(Path(shutil.copytree(begun, target)))


def test_both_arms_write_and_the_ledger_pays_for_one(begun, letter_model_dir, tmp_path):
    config, run_dir = small(letter_model_dir), copy_folder(begun, tmp_path / "run")
    run_private_prediction(config, run_dir)
    num_units = read_json(run_dir.path("records_counts"))["num_units"]["train"]
    for arm in ("with_dp", "no_dp"):
        population = read_population(run_dir.path(f"population_{arm}"))
        (row,) = read_rows(run_dir.path(f"train_metrics_{arm}"))
        assert (row["num_texts"], row["num_parsed"]) == (60, len(population))
        assert 5 < len(population) <= 60
        assert 0.5 * num_units < row["num_units"] <= num_units
    (event,) = [entry["event"] for entry in Ledger.read(run_dir.path("ledger")).entries if entry["event_id"] == "train/with_dp"]
    assert (event["type"], event["num_draws"], event["temperature"]) == ("exponential", 80, 0.9)
    assert [check["name"] for check in read_json(run_dir.path("self_checks"))] == [
        "only_adapters_train", "batch_mates", "sensitivity", "noise", "sampler", "adapters_moved"
    ]  # fmt: skip
    assert not (run_dir.root / "2_train/with_dp/rounds").exists()


def test_what_is_stopped_goes_on_with_the_same_texts_and_pays_nothing_more(begun, letter_model_dir, tmp_path, monkeypatch):
    config, whole, cut = small(letter_model_dir, "train.arms=[with_dp]"), *(copy_folder(begun, tmp_path / name) for name in ("whole", "cut"))
    run_private_prediction(config, whole)
    own, calls = private_prediction._Arm._parse, []

    def stop_in_the_middle(self, decoded):
        calls.append(1)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return own(self, decoded)

    monkeypatch.setattr(private_prediction._Arm, "_parse", stop_in_the_middle)
    with pytest.raises(KeyboardInterrupt):
        run_private_prediction(config, cut)
    spent = cut.path("ledger").read_bytes()
    (partial,) = (cut.root / "2_train/with_dp/rounds").rglob("texts.jsonl")
    with open(partial, "a") as file:
        file.write('{"place": 3, "ti')
    run_private_prediction(config, cut)
    assert len(calls) == 61
    assert cut.path("ledger").read_bytes() == spent
    assert cut.path("population_with_dp").read_bytes() == whole.path("population_with_dp").read_bytes()


def test_a_unit_more_changes_one_text(begun, letter_model_dir, tmp_path, monkeypatch):
    """The groups of all units, and of all but one: one group has one prompt less, and no other prompt differs."""
    config, gathered = small(letter_model_dir, "train.arms=[no_dp]"), []
    own = private_prediction._Arm._gather
    monkeypatch.setattr(private_prediction._Arm, "_gather", lambda self: gathered.append(own(self)) or gathered[-1])
    # Without DP the shares are exact and would differ by one record; with DP they are the ledger's.
    categories = read_json(RunDir(begun).path("records_counts"))["category_domain"]
    cells = [{"rating": rating, "category": category, "share": 1.0} for rating in (1, 2, 3, 4, 5) for category in categories]
    monkeypatch.setattr(private_prediction, "release_conditioning", lambda config, run_dir, keeps_key: {"cells": cells})
    for name in ("all", "less"):
        run_dir = copy_folder(begun, tmp_path / name)
        path = run_dir.path("train_records")
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        last = json.loads(lines[-1])["unit_id"]
        if name == "less":
            # Taken to the end, so that the indices of all others stay; then left out.
            path.write_text("".join(line for line in lines if json.loads(line)["unit_id"] != last), encoding="utf-8")
        else:
            ordered = sorted(lines, key=lambda line: json.loads(line)["unit_id"] == last)
            path.write_text("".join(ordered), encoding="utf-8")
        run_private_prediction(config, run_dir)
    pairs = [(one.others, other.others) for one, other in zip(*gathered, strict=True) if one != other]
    assert len(pairs) <= 1
    assert sum(len(one) - len(other) for one, other in pairs) in (0, 1)


def test_words_are_chosen_from_without_the_private_records(letter_model_dir, begun):
    config = small(letter_model_dir, "predict.top_k=8")
    scribe = Scribe.open(config, RunDir(begun))
    vocabulary = len(scribe.writer.tokenizer)
    first, others = torch.randn(vocabulary), torch.randn(4, vocabulary) * 5
    options, public, said = scribe.read_scores(first, others)
    assert len(options) == 8
    assert options == scribe.read_scores(first, others[:0])[0]
    assert not set(options) & set(scribe.writer.rules.suppressed_ids)
    assert public.exp().sum() == pytest.approx(1)
    assert torch.allclose(said.exp().sum(1), torch.ones(4, dtype=torch.float64))


def test_a_long_record_is_cut_and_one_that_begins_otherwise_is_left_out(letter_model_dir, begun):
    scribe = Scribe.open(small(letter_model_dir), RunDir(begun))
    condition = Condition("c", 3, "Chargers", "")
    row = {"rating": 3, "category": "Chargers", "product_title": None, "title": "T", "text": "word " * 2000}
    prompt = scribe.encode_unit(row, condition)
    assert prompt is not None
    assert len(prompt) <= scribe.longest
    assert list(prompt[: len(scribe.prefix)]) == scribe.prefix
    assert scribe.encode_unit(row | {"title": "T " * 3000}, condition) is None
    assert replace(scribe, prefix=[5, 6, 7]).encode_unit(row, condition) is None


def test_the_set_is_made_of_the_texts_and_of_others_written_after_them(begun, letter_model_dir, tmp_path):
    config, run_dir = small(letter_model_dir, "train.arms=[with_dp]", "privacy.noise_seed=null"), copy_folder(begun, tmp_path / "run")
    run_private_prediction(config, run_dir)
    assert run_dir.path("noise_key").exists()
    run_generate(config, run_dir)
    # Everything under the key is released; nobody draws under it again.
    assert not run_dir.path("noise_key").exists()
    rows = list(read_rows(run_dir.path("synthetic_with_dp")))
    written = {(one.title, one.text) for one in read_population(run_dir.path("population_with_dp"))}
    assert len(rows) == 80
    assert 0 < sum((row["title"], row["text"]) in written for row in rows) < 80


def test_a_text_of_the_population_fills_one_condition_of_its_kind():
    texts = "First one.", "Second one.", "no no no no no no no no no no no no"
    population = [*(Exemplar(5, "A", "", "t", text) for text in texts), Exemplar(1, "A", "", "t", "Bad.")]
    conditions = [Condition(f"c{i}", rating, "A", "") for i, rating in enumerate((5, 1, 1, 5, 5))]
    found = take_written(population, conditions, "with_dp", ["repetition"])
    assert {name: row.text for name, row in found.items()} == {"c0": "First one.", "c1": "Bad.", "c3": "Second one."}
    assert found["c3"].num_draws == 1


def test_a_model_that_does_not_write_the_form_is_one_line(begun, letter_model_dir, tmp_path, monkeypatch):
    monkeypatch.undo()
    run_dir = copy_folder(begun, tmp_path / "run")
    monkeypatch.setattr("penname.template.RecordTemplate.parse_completion", lambda self, completion: None)
    with pytest.raises(PennameError, match=r"put an example into records\.prompt_template"):
        run_private_prediction(small(letter_model_dir), run_dir)
    # That is found out before anything is paid.
    assert not run_dir.path("ledger").exists()


@pytest.mark.parametrize("other", ["engine=ray", "tracking=wandb"])
def test_what_it_cannot_do_is_refused_at_once(letter_model_dir, other):
    with pytest.raises(UsageError, match=r"private_prediction|dp_sgd"):
        small(letter_model_dir, other)
