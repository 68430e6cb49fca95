"""The notebooks under examples/, executed as they are committed, on a tiny model; and what Python sees of the runs that they leave."""

import importlib.util
import json
import shutil
from pathlib import Path

import polars as pl
import pytest

import penname
from penname.config import Config
from penname.errors import RunDirError, UsageError

ROOT = Path(__file__).parents[2]
NAMES = ["1_data", "2_train_and_generate", "3_audits", "4_fidelity_and_utility"]


def flatten(settings, prefix=""):
    """{"train": {"num_steps": 1}} -> {"train.num_steps": 1}"""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


@pytest.fixture(scope="module")
def penname_program(request):
    """The command line; here `penname` is the module."""
    return request.getfixturevalue("penname")


def load_execute():
    spec = importlib.util.spec_from_file_location("execute_examples", ROOT / "examples" / "execute.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def executed(penname_program, settings, _first_run, tmp_path_factory):
    """Notebooks by name, with their outputs, and the folder of their runs. Run and audit are done already, as after `make demo` and `penname audit`: the
    kernel would spend most of its time on loading libraries that the program has loaded."""
    run = dict(flatten(settings))
    audit = {
        **run,
        "data.sample_num_reviews": 200,
        "train.num_steps": 1,
        "audit.canaries": {"1": 4, "4": 2},
        "audit.num_references": 2,
        "audit.max_records_scored": 8,
        "evaluate.embedding_model": "/nowhere/embedder",
        "generate.num_records": 4,
        "generate.max_new_tokens": 24,
    }
    folder, execute = tmp_path_factory.mktemp("examples"), load_execute()
    shutil.copytree(_first_run[0], folder / "demo")
    penname_program.succeed("audit", *(f"{key}={json.dumps(value)}" for key, value in audit.items()), "--out", folder / "audit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PENNAME_RUNS", str(folder))
        patch.setenv("PENNAME_SETTINGS", json.dumps(run))
        patch.setenv("PENNAME_AUDIT_SETTINGS", json.dumps(audit))
        patch.setenv("HF_HUB_OFFLINE", "1")
        notebooks = execute.execute(execute.list_notebooks())
    return {path.stem: notebook for path, notebook in notebooks.items()}, folder


def outputs_of(notebook):
    """All text that a notebook shows as results."""
    return "\n".join(
        output.text if output.output_type == "stream" else str(output.get("data", {}))
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )


def test_every_cell_of_every_notebook_runs(executed):
    notebooks, _ = executed
    assert list(notebooks) == NAMES
    for notebook in notebooks.values():
        codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert [cell.execution_count for cell in codes] == list(range(1, len(codes) + 1))
        assert not [output for cell in codes for output in cell.outputs if output.output_type == "error"]


def test_the_notebooks_show_what_they_speak_of(executed):
    notebooks, _ = executed
    assert "mean words" in outputs_of(notebooks["1_data"])
    assert "first loss" in outputs_of(notebooks["2_train_and_generate"])
    assert "epsilon_lower_bound" in outputs_of(notebooks["3_audits"])
    last = outputs_of(notebooks["4_fidelity_and_utility"])
    assert "VERIFIED" in last
    assert "image/png" in last
    assert "dealt_anew" in last


def test_a_run_is_what_its_folder_holds(executed):
    run = penname.open_run(executed[1] / "demo")
    assert run.stages["status"].unique().to_list() == ["done"]
    assert set(run.records) == {"reviews", "catalogue", "train", "heldout", "test", "with_dp", "no_dp"}
    assert run.records["with_dp"].height == 10
    assert set(run.training["arm"]) == {"with_dp", "no_dp"}
    assert run.config.generate.num_records == 10
    assert 0 < run.epsilon_spent <= run.config.privacy.target_epsilon
    reported = json.loads((run.folder / "5_report/metrics.json").read_text())
    assert run.metrics.height == len(reported)
    first = run.metrics.row(0, named=True)
    assert [first["value"], first["ci95_low"], first["ci95_high"]] == [reported[0]["value"], *reported[0]["ci95"]]
    assert set(run.metrics["name"]) == set(run.config.evaluate.metrics)
    assert run.verify().startswith("VERIFIED")
    assert run.report.is_file()


def test_a_run_and_its_figures_show_themselves(executed):
    run = penname.open_run(executed[1] / "demo")
    assert "epsilon spent" in run._repr_html_()
    assert "done ingest, records, train, generate, evaluate, report" in repr(run)
    figure = run.figures["utility_evaluation_result_1"]
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert run.figures._repr_html_().count("data:image/png;base64,") == len(run.figures) > 3


def test_an_audit_opens_like_a_run(executed):
    audit = penname.open_run(executed[1] / "audit")
    assert "epsilon_lower_bound" in "".join(audit.metrics["name"])
    assert audit.certificate is None
    assert audit.epsilon_spent is None
    assert isinstance(audit.read("attacks"), dict | list)


def test_the_same_settings_run_nothing_again(executed, capfd):
    before = penname.open_run(executed[1] / "demo")
    again = penname.run(before.config, out=before.folder)
    assert again.stages.equals(before.stages)
    assert "done in" not in capfd.readouterr().err


def test_stages_run_one_after_the_other(tmp_path):
    settings = {"data": {"sample_num_reviews": 60}}
    run = penname.run(settings, out=tmp_path / "run", stages="ingest")
    assert (list(run.records), run.stages["stage"].to_list()) == (["reviews", "catalogue"], ["ingest"])
    assert (run.report, run.metrics.height, run.left_out.height, run.training.height, len(run.figures)) == (None, 0, 0, 0, 0)
    assert "records: reviews, catalogue" in run._repr_html_()
    again = penname.run(settings, {"records.test_frac": 0.2}, out=tmp_path / "run", stages=["records"])
    assert set(again.records) == {"reviews", "catalogue", "train", "heldout", "test"}
    with pytest.raises(RunDirError, match="the stage train is not done"):
        penname.run(settings, {"records.test_frac": 0.2}, out=tmp_path / "run", stages="generate")


def test_what_is_not_there_is_said(executed, tmp_path):
    run = penname.open_run(executed[1] / "demo")
    with pytest.raises(RunDirError, match="no artefact 'reviws'"):
        run.read("reviws")
    with pytest.raises(RunDirError, match="is missing"):
        run.read("human_metrics")
    with pytest.raises(RunDirError, match="holds no penname run"):
        penname.open_run(tmp_path)
    with pytest.raises(KeyError):
        run.records["nothing"]
    with pytest.raises(UsageError, match="no stage 'trian'"):
        penname.run(stages="trian", out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_damaged_table_is_one_line(tmp_path):
    from penname.api.finished_run import read_table

    path = tmp_path / "train.jsonl"
    path.write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(RunDirError, match=r"train.jsonl: is damaged"):
        read_table(path)


def test_settings_may_be_values_a_config_or_a_file(tmp_path):
    from penname.api.calls import read_config

    path = tmp_path / "my.yaml"
    path.write_text("train: {num_steps: 3}\ndata: {format: table, reviews: r.csv, categories: [a], columns: {rating: r, text: t, title: h, category: c}}\n")
    assert read_config(path).data.reviews == str(tmp_path / "r.csv")
    assert read_config({"train": {"num_steps": 3}}, {"train.arms": ["with_dp"]}).train.arms == ["with_dp"]
    assert read_config(Config(), ["train.num_steps=4"]).train.num_steps == 4
    given = {"train": {"num_steps": 3}}
    assert read_config(given, {"train.num_steps": 5, "privacy.delta": 1e-6}).privacy.delta == 1e-6
    assert given == {"train": {"num_steps": 3}}
    for config, overrides, words in (
        ({"trian": {}}, (), "did you mean train"),
        (3, (), "is a int"),
        (None, "train.num_steps=1", "is one text"),
        (None, {"evaluate.metrics": ["tstr_acuracy_score"]}, "did you mean tstr_accuracy_score"),
    ):
        with pytest.raises(UsageError, match=words):
            read_config(config, overrides)


def test_files_and_frames_compare_alike(executed, tmp_path):
    run = penname.open_run(executed[1] / "demo")
    overrides = {"evaluate.metrics": ["jensen_shannon_divergence"], "evaluate.num_bootstrap": 20}
    frame = pl.concat([run.records["with_dp"], run.records["no_dp"]]).with_columns(text=pl.lit("<script>alert(1)</script>"))
    frame.write_csv(tmp_path / "rows.csv")
    real, by_frame, by_file = run.records["train"], {"a": frame}, {"a": tmp_path / "rows.csv"}
    of_frames = penname.evaluate(real=real, synthetic=by_frame, overrides=overrides, out=tmp_path / "out")
    assert of_frames.equals(penname.evaluate(real=real, synthetic=by_file, overrides=overrides))
    assert json.loads((tmp_path / "out/metrics.json").read_text())[0]["name"] == "jensen_shannon_divergence"
    assert "<script>" not in frame._repr_html_()
    with pytest.raises(UsageError, match="rows are a int"):
        penname.evaluate(real=3, synthetic=by_file)
    with pytest.raises(UsageError, match="is made of letters"):
        penname.evaluate(real=real, synthetic={"../a": frame})


def test_the_rest_of_the_command_line(tmp_path):
    assert [path.name for path in penname.sample_data(tmp_path / "data", num_reviews=20)] == sorted(path.name for path in (tmp_path / "data").iterdir())
    assert "80" in repr(penname.plan(model_size="llama-3.1-8b"))
    with pytest.raises(UsageError, match="cannot be fetched"):
        penname.fetch("nothing", "All_Beauty", out=tmp_path)
