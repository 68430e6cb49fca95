"""The stages' bookkeeping: what is skipped, what runs again, what is refused. The stages here are small functions that count themselves."""

import dataclasses
import os

import pytest

from penname import pipeline
from penname.config import Config, load_config
from penname.errors import RunDirError, UsageError
from penname.pipeline import STAGE_NAMES, STAGES, run_stages, summarize
from penname.run_dir import ARTEFACTS, RunDir, read_json, write_json


@pytest.fixture
def calls(monkeypatch):
    """Replaces the work of every stage: each output holds the settings and inputs that the stage depends on."""
    made = []

    def load(stage, method):
        def work(config, run_dir):
            made.append(stage.name)
            inputs = [run_dir.path(name).read_text() for name in stage.inputs if run_dir.path(name).is_file()]
            settings = str([pipeline._section(config, section) for section in stage.sections])
            for name in stage.outputs:
                run_dir.path(name).write_text(f"{name} {len(inputs)} {settings if name != 'catalogue' else ''}")

        return work

    monkeypatch.setattr(pipeline.Stage, "load", load)
    return made


@pytest.fixture
def root(tmp_path):
    return tmp_path / "run"


def config(*overrides):
    return load_config(None, list(overrides))


def run(root, *overrides, names=STAGE_NAMES):
    return run_stages(config(*overrides), root, names)


def test_every_stage_runs_once_in_order_and_then_none(calls, root):
    assert run(root) is True
    assert calls == list(STAGE_NAMES)
    assert run(root) is False
    assert calls == list(STAGE_NAMES)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("generate.seed=9", ["generate", "evaluate", "report"]),
        ("evaluate.seed=9", ["evaluate", "report"]),
        ("report.num_examples=3", ["report"]),
    ],
)
def test_a_changed_setting_runs_what_depends_on_it(calls, root, override, expected):
    run(root)
    calls.clear()
    assert run(root, override) is True
    assert calls == expected


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("data.sample_seed=9", "data.sample_seed"),
        ("records.seed=9", "records.seed"),
        ("privacy.unit=record", "privacy.unit"),
        ("privacy.delta=1e-6", "privacy.delta"),
        ("train.seed=9", "train.seed"),
        ("train.arms=[with_dp]", "train.arms"),
        ("model.lora_alpha=9", "model.lora_alpha"),
    ],
)
def test_a_finished_training_keeps_its_settings(calls, root, override, key):
    run(root)
    calls.clear()
    manifest = (root / "run.json").read_bytes()
    with pytest.raises(UsageError, match="holds another run") as caught:
        run(root, override)
    assert key in str(caught.value)
    assert calls == []
    assert (root / "run.json").read_bytes() == manifest


def test_settings_of_a_stage_that_is_not_done_may_change(calls, root):
    run(root, names=("ingest",))
    run(root, "records.seed=9", names=("records",))
    run(root, "records.seed=9", "train.seed=4")
    assert calls == list(STAGE_NAMES)


def test_a_stage_that_was_killed_runs_again_and_those_before_it_do_not(calls, root, monkeypatch):
    load = pipeline.Stage.load

    def load_broken(stage, method):
        if stage.name != "train":
            return load(stage, method)

        def work(config, run_dir):
            raise KeyboardInterrupt

        return work

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.Stage, "load", load_broken)
        with pytest.raises(KeyboardInterrupt):
            run(root)
    assert read_json(root / "run.json")["stages"]["train"]["status"] == "started"
    assert calls == ["ingest", "records"]
    run(root)
    assert calls == list(STAGE_NAMES)


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_a_damaged_output_is_made_again(calls, root, damage):
    run(root)
    calls.clear()
    path = RunDir(root).path("utility_metrics")
    if damage == "gone":
        path.unlink()
    else:
        path.write_text(path.read_text() + "x")
    run(root)
    assert calls == ["evaluate"]


def test_a_touched_output_is_as_good_as_before(calls, root):
    run(root)
    calls.clear()
    os.utime(RunDir(root).path("train_records"), (1, 1))
    assert run(root) is False
    assert calls == []


def test_changed_input_files_never_clear_a_training(calls, root, tmp_path):
    reviews = tmp_path / "r.csv"
    reviews.write_text("a")
    table = ["data.format=table", f"data.reviews={reviews}", "data.categories=[A]", "data.columns={rating: r, text: t, title: h, category: c}"]
    run(root, *table)
    calls.clear()
    reviews.write_text("a")
    assert run(root, *table) is True
    assert calls == ["ingest"]
    # The stand-in for ingest writes the same whatever it reads; another content arrives like this.
    RunDir(root).path("reviews").write_text("other reviews")
    manifest = RunDir(root).read_manifest()
    manifest["stages"]["ingest"]["outputs"]["reviews"] = pipeline.describe_output(RunDir(root).path("reviews"))
    RunDir(root).write_manifest(manifest)
    adapter = RunDir(root).path("adapter_with_dp").read_bytes()
    with pytest.raises(UsageError, match="the data that records reads has changed"):
        run(root, *table)
    assert RunDir(root).path("adapter_with_dp").read_bytes() == adapter


def test_a_changed_generation_keeps_the_conditioning_and_drops_the_rest(calls, root, monkeypatch):
    run(root)
    load = pipeline.Stage.load
    found = {}

    def load_watched(stage, method):
        def work(config, run_dir):
            if stage.name == "generate":
                found.update({name: run_dir.path(name).exists() for name in stage.outputs})
            return load(stage, method)(config, run_dir)

        return work

    monkeypatch.setattr(pipeline.Stage, "load", load_watched)
    run(root, "generate.seed=9")
    assert found == {"conditioning": True, "synthetic_with_dp": False, "synthetic_no_dp": False, "base_texts": False, "generate_counts": False}


def test_one_stage_needs_those_before_it(calls, root):
    with pytest.raises(RunDirError, match="the stage ingest is not done") as caught:
        run(root, names=("train",))
    assert "penname ingest" in str(caught.value)
    assert calls == []
    run(root, names=("ingest", "records"))
    run(root, names=("train",))
    assert calls == ["ingest", "records", "train"]
    assert run(root, names=("records",)) is False


def test_a_folder_that_is_in_use_is_refused(calls, root):
    run(root, names=("ingest",))
    with RunDir(root).lock(), pytest.raises(RunDirError, match="another penname process"):
        run(root)


def test_the_summary_names_what_is_there(calls, root):
    run(root, names=("ingest",))
    assert summarize(root) == []
    run(root)
    write_json(RunDir(root).path("certificate"), {"releasable": True})
    lines = summarize(root)
    assert len(lines) == 5
    for line in lines:
        visibility, path = line.split()
        assert visibility in ("PRIVATE", "RELEASABLE")
        assert path.startswith(str(root))


def test_stages_and_artefacts_fit_together():
    # What people make, no stage does.
    made = {name for name, artefact in ARTEFACTS.items() if artefact.is_optional}
    for stage in STAGES:
        assert set(stage.inputs) <= made, stage.name
        assert set(stage.outputs) <= set(ARTEFACTS)
        made |= set(stage.outputs)
        for section in stage.sections:
            pipeline._section(Config(), section)
    assert dataclasses.is_dataclass(STAGES[0])


@pytest.mark.parametrize("releasable", [True, False])
def test_the_summary_calls_releasable_only_what_the_certificate_lets_go(tmp_path, releasable):
    run_dir = RunDir(tmp_path)
    run_dir.path("synthetic_with_dp").write_text("{}\n")
    write_json(run_dir.path("certificate"), {"releasable": releasable})
    (line,) = summarize(tmp_path)
    assert line.split()[0] == ("RELEASABLE" if releasable else "PRIVATE")
