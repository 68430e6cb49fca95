"""What a user can do wrong: one line on standard error, the exit code of the design, nothing half written."""

import gzip
import json
import os
import shutil
import signal
import time

import pytest
import yaml

from tests.pipeline.conftest import wait_until, write_config

HEADER = "rating,text,title,category\n"
GOOD = "5,Good case for the price,Nice,A\n"
ROWS = HEADER + GOOD * 40


@pytest.fixture
def table(tmp_path, settings):
    """Writes a config for a table and returns it."""

    def write(content, *, name="r.csv", **data):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        columns = {"rating": "rating", "text": "text", "title": "title", "category": "category"}
        values = {"format": "table", "reviews": str(path), "columns": columns, "categories": ["A"], **data}
        return write_config(
            tmp_path / "c.yaml", settings | {"data": values, "records": {"prompt_template": "{category} {rating}:", "completion_template": " {title}|{text}"}}
        )

    return write


def nothing_written(root):
    """The run folder holds its manifest at most."""
    left = [path for path in root.rglob("*") if path.is_file()] if root.is_dir() else []
    return {path.name for path in left} <= {"run.json", ".lock"}


def _bad_rows(num_bad, line):
    return HEADER + GOOD * 20 + line * num_bad + GOOD * 20


BAD_TABLES = {
    "missing": (None, {}, 1, ["r.csv", "no such file"]),
    "empty": ("", {}, 1, ["r.csv", "is empty"]),
    "only a header": (HEADER, {}, 1, ["r.csv"]),
    "wrong delimiter": (ROWS.replace(",", ";"), {}, 2, ["r.csv", "column"]),
    "no such column": (ROWS, {"columns": {"rating": "stars", "text": "text", "title": "title", "category": "category"}}, 2, ["stars", "rating"]),
    "not UTF-8": (ROWS.encode("utf-16"), {}, 1, ["r.csv:1", "utf-16"]),
    "latin-1": (_bad_rows(30, "5,caf\xe9 cr\xe8me,Nice,A\n").encode("latin-1"), {}, 1, ["r.csv:22"]),
    "rating five": (_bad_rows(5, "five,Good,Nice,A\n"), {}, 1, ["r.csv:22", "max_malformed_frac"]),
    "other category": (ROWS.replace(",A\n", ",B\n"), {}, 1, ["r.csv"]),
    "no title and no text": (HEADER + "5,,,A\n" * 40, {}, 1, ["r.csv"]),
    "a binary": (os.urandom(5000), {}, 1, ["r.csv"]),
    "parquet by another name": (b"PAR1" + bytes(100), {}, 1, ["Parquet"]),
    "no such encoding": (ROWS, {"encoding": "utf-9"}, 2, ["utf-9"]),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_table_that_cannot_be_used(penname, table, tmp_path, name):
    content, data, code, words = BAD_TABLES[name]
    penname("run", table(content, **data), "--out", tmp_path / "run").fails(code, *words)
    assert nothing_written(tmp_path / "run")


USERS = ["rating,text,title,category,user,home"] + [f"{1 + i % 5},Text number {i} of it,Title {i},A,u{i},h{i % 7}" for i in range(60)]
WITH_USER = {"columns": {"rating": "rating", "text": "text", "title": "title", "category": "category", "user_id": "user"}}


def replace_users(ids):
    """The table with another user id in the first rows."""
    rows = [row.split(",") for row in USERS[1:]]
    for row, user in zip(rows, ids, strict=False):
        row[4] = user
    return "\n".join([USERS[0], *(",".join(row) for row in rows)]) + "\n"


BAD_UNITS = {
    "a null id in some rows": (replace_users(["", "u1", ""]), {}, 1, ["data.columns.user_id", "2 of 60 rows"]),
    "zero users": (replace_users([""] * 60), {}, 1, ["data.columns.user_id", "zero users"]),
    "one user owns all": (replace_users(["me"] * 60), {}, 1, ["privacy.unit=user", "one unit"]),
    "no such unit column": (replace_users([]), {"unit": "column", "unit_column": "house"}, 2, ["privacy.unit_column", "house", "home"]),
    "unit column without unit": (replace_users([]), {"unit_column": "home"}, 2, ["privacy.unit_column"]),
    "unit without unit column": (replace_users([]), {"unit": "column"}, 2, ["privacy.unit_column"]),
    "epsilon 0": (replace_users([]), {"target_epsilon": 0}, 2, ["privacy.target_epsilon"]),
    "epsilon below 0": (replace_users([]), {"target_epsilon": -1.0}, 2, ["privacy.target_epsilon"]),
    "epsilon NaN": (replace_users([]), {"target_epsilon": float("nan")}, 2, ["privacy.target_epsilon"]),
    "delta 0": (replace_users([]), {"delta": 0.0}, 2, ["privacy.delta"]),
    "delta 1": (replace_users([]), {"delta": 1.0}, 2, ["privacy.delta"]),
    "delta above 1/N": (replace_users([]), {"delta": 0.03}, 1, ["privacy.delta", "N^-1.1"]),
    "a budget too small to calibrate": (replace_users([]), {"target_epsilon": 1e-9}, 1, ["target_epsilon", "too small"]),
}


@pytest.mark.parametrize("name", BAD_UNITS)
def test_units_and_promises_that_are_none_spend_nothing(penname, table, tmp_path, name):
    content, privacy, code, words = BAD_UNITS[name]
    config = table(content, **WITH_USER)
    write_config(config, yaml.safe_load(config.read_text()) | {"privacy": privacy})
    penname("run", config, "--out", tmp_path / "run").fails(code, *words)
    assert not (tmp_path / "run/ledger.jsonl").exists()
    assert not list((tmp_path / "run").glob("2_train/*.json"))


def test_a_column_can_be_the_unit(penname, table, tmp_path):
    rows = "".join(f"{1 + i % 5},Text number {i} of it,Title {i},A,u{i},h{i % 70}\n" for i in range(280))
    config, root = table(USERS[0] + "\n" + rows, **WITH_USER), tmp_path / "run"
    values = yaml.safe_load(config.read_text())
    write_config(config, values | {"privacy": {**values["privacy"], "unit": "column", "unit_column": "home"}})
    penname.succeed("run", config, "--out", root, "train.num_steps=1", "generate.num_records=4", "train.arms=[with_dp]")
    counts = json.loads((root / "1_records/counts.json").read_text())
    assert sum(counts["num_units"].values()) == 70
    assert counts["num_records"]["train"] == 2 * counts["num_units"]["train"]
    certificate = json.loads((root / "release/certificate.json").read_text())
    assert (certificate["privacy_unit"], certificate["unit_column"]) == ("column", "home")
    assert "for one value of the column home" in penname.succeed("verify", root).stdout
    assert "value of the column home" in (root / "5_report/report.html").read_text()


def test_a_few_bad_rows_are_rejected_and_counted(penname, table, tmp_path):
    config = table(HEADER + "".join(f"{1 + i % 5},Text number {i},Title {i},A\n" for i in range(300)) + "five,Good,Nice,A\n")
    penname.succeed("ingest", config, "--out", tmp_path / "run")
    rejects = [json.loads(line) for line in (tmp_path / "run/0_ingest/rejects.jsonl").read_text().splitlines()]
    assert len(rejects) == 1
    assert rejects[0]["line"] == 302


def test_a_directory_a_cut_gzip_and_a_cut_json_line(penname, table, tmp_path):
    root = tmp_path / "run"
    (tmp_path / "folder.csv").mkdir()
    penname("run", table(None, name="folder.csv"), "--out", root).fails(1, "is a directory")
    whole = gzip.compress((HEADER + "".join(f"5,Text {i} {os.urandom(9).hex()},T,A\n" for i in range(4000))).encode())
    penname("run", table(whole[: len(whole) // 2], name="r.csv.gz"), "--out", root).fails(1, "r.csv.gz:", "gzip stream is cut off")
    line = json.dumps({"rating": 5, "text": "Good", "title": "Nice", "category": "A"})
    cut = f"{line}\n" * 10 + line[:30] + "\n"
    penname("run", table(cut, name="r.jsonl"), "--out", root).fails(1, "r.jsonl:11")
    assert nothing_written(root)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "gone.yaml", "--out", "run"], 2, ["gone.yaml", "no such config file"]),
        (["run", ".", "--out", "run"], 2, ["is a directory"]),
        (["run", "privacy.target_epsilon=0", "--out", "run"], 2, ["privacy.target_epsilon", "greater than 0"]),
        (["run", "privacy.epsilon=1", "--out", "run"], 2, ["privacy.epsilon", "unknown key"]),
        (["run", "evaluate.metrics=[tstr]", "--out", "run"], 2, ["evaluate.metrics", "tstr"]),
        (["run", "a.yaml", "b.yaml", "--out", "run"], 2, ["b.yaml"]),
        (["run", "--oot", "run"], 2, ["--oot"]),
        (["rnu"], 2, ["rnu"]),
        (["ingest"], 2, ["--out"]),
        (["verify", "."], 1, ["certificate.json"]),
        (["verify", "gone"], 1, ["certificate.json"]),
        (
            ["plan", "data.format=table", "data.reviews=r.csv", "data.categories=[A]", "data.columns={rating: a, text: b, title: c, category: d}"],
            2,
            ["--num-units"],
        ),
        (["run", "train.physical_batch_tokens=7", "--out", "run"], 2, ["train.physical_batch_tokens", "8"]),
        (["run", "model.device=gpu", "--out", "run"], 2, ["model.device", "gpu"]),
        (["sample-data", "here", "--reviews", "0"], 2, ["--reviews"]),
        (["sample-data", "c.txt", "--reviews", "5"], 1, ["c.txt"]),
        (["evaluate", "--real", "r.csv", "--out", "run"], 2, ["--synthetic"]),
        (["evaluate", "--real", "gone.csv", "--synthetic", "a=gone.csv", "--out", "run"], 1, ["gone.csv"]),
        (["run", "--out", "c.txt"], 1, ["c.txt", "is a file"]),
        (["run", "--out", "thesis"], 1, ["is not empty and holds no penname run"]),
        (["report", "--out", "run"], 1, ["the stage ingest is not done"]),
    ],
)
def test_a_command_that_cannot_be_meant(penname, tmp_path, arguments, code, words):
    (tmp_path / "c.txt").write_text("a file")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.tex").write_text("a stranger's")
    penname(*arguments, cwd=tmp_path).fails(code, *words)
    assert nothing_written(tmp_path / "run")
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]
    assert (tmp_path / "c.txt").read_text() == "a file"


NO_DP = "train.arms=[no_dp]"


@pytest.fixture(scope="module")
def recorded_run(penname, config_file, tmp_path_factory):
    """A run as far as the model is needed, of the arm that needs no calibration first."""
    root = tmp_path_factory.mktemp("recorded") / "run"
    for stage in ("ingest", "records"):
        penname.succeed(stage, config_file, NO_DP, "--out", root)
    return root


def test_a_damaged_manifest(penname, config_file, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.json").write_text('{"schema_version": 1, "sta')
    penname("run", config_file, "--out", tmp_path / "run").fails(1, "run.json", "damaged")


@pytest.mark.parametrize("damage", ["no folder", "hub name", "no config.json", "cut weights", "no such layers"])
def test_a_model_that_cannot_be_used(penname, config_file, recorded_run, letter_model_dir, tmp_path, damage):
    root, model = shutil.copytree(recorded_run, tmp_path / "run"), tmp_path / "model"
    overrides = [f"model.name={model}"]
    if damage in ("no config.json", "cut weights"):
        shutil.copytree(letter_model_dir, model)
    if damage == "no config.json":
        (model / "config.json").unlink()
    elif damage == "cut weights":
        weights = model / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:5000])
    elif damage == "hub name":
        overrides = ["model.name=nobody/no-such-model"]
    elif damage == "no such layers":
        overrides = ["model.target_modules=[c_attn]"]
    began = time.monotonic()
    penname("run", config_file, NO_DP, *overrides, "--out", root).fails(1, "model.")
    assert time.monotonic() - began < 60
    assert not list((root / "2_train").rglob("adapter*"))
    assert not list(root.rglob("*.tmp"))


CANNOT_TRAIN = {
    "records longer than the model reads": (["train.max_record_tokens=513"], ["train.max_record_tokens", "513", "512"]),
    "no room behind any prompt": (["train.max_record_tokens=8"], ["train.max_record_tokens", "no record has room"]),
    "some of the layers are not there": (["model.target_modules=[q_proj, w9]"], ["model.target_modules", "w9"]),
    "a CUDA device that is not there": (["model.device=cuda:99"], ["model.device", "cuda:99", "CUDA device"]),
    "packed records for opacus": (["train.layout=packed", "train.gradients=opacus"], ["train.layout", "train.gradients"]),
}


@pytest.mark.parametrize("name", CANNOT_TRAIN)
def test_settings_that_the_model_cannot_be_trained_with_cost_nothing(penname, config_file, tmp_path, name):
    overrides, words = CANNOT_TRAIN[name]
    root = tmp_path / "run"
    penname("run", config_file, *overrides, "--out", root).fails(1, *words)
    assert not (root / "ledger.jsonl").exists(), "it was paid for what cannot be done"
    assert not list((root / "2_train").rglob("*.json*"))


def test_a_text_longer_than_the_model_writes(penname, config_file, recorded_run, tmp_path):
    root = shutil.copytree(recorded_run, tmp_path / "run")
    penname("run", config_file, NO_DP, "generate.max_new_tokens=600", "--out", root).fails(1, "generate.max_new_tokens", "600", "512")
    assert not list((root / "3_generate").glob("generated*"))


def read_steps(root):
    return [json.loads(line) for line in (root / "2_train/no_dp/metrics.jsonl").read_text().splitlines()]


def test_a_physical_batch_smaller_than_a_record_is_said_and_done(penname, config_file, recorded_run, tmp_path):
    found = []
    for tokens in (16, 1024):
        root = shutil.copytree(recorded_run, tmp_path / f"run{tokens}")
        outcome = penname.succeed("train", config_file, NO_DP, "privacy.noise_seed=3", f"train.physical_batch_tokens={tokens}", "--out", root)
        found.append([row["loss"] for row in read_steps(root)])
        assert ("train.physical_batch_tokens: a record of more than 16 tokens" in outcome.stderr) == (tokens == 16)
        assert {row["tile_tokens"] for row in read_steps(root)} == {tokens}
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def test_the_same_adapter_with_less_memory(penname, config_file, recorded_run, tmp_path):
    weights = []
    for recomputes in ([False], [True], [False, True]):
        root = shutil.copytree(recorded_run, tmp_path / str(recomputes))
        command = ["train", config_file, NO_DP, "privacy.noise_seed=3", "train.num_steps=40", "train.checkpoint_every_secs=0", "--out", root]
        if len(recomputes) > 1:
            started = penname.start(*command, "train.gradient_checkpointing=false")
            wait_until((root / "2_train/no_dp/checkpoint/state.safetensors").exists, secs=60)
            started.send(signal.SIGKILL)
            assert started.wait().code == -signal.SIGKILL
        penname.succeed(*command, f"train.gradient_checkpointing={recomputes[-1]}")
        weights.append((root / "2_train/no_dp/adapter/adapter_model.safetensors").read_bytes())
    assert weights[0] == weights[1] == weights[2], "a run that goes on with it is another run"


def test_a_tile_is_chosen_once_and_kept_by_a_run_that_goes_on(penname, config_file, recorded_run, tmp_path):
    root = shutil.copytree(recorded_run, tmp_path / "run")
    command = ("train", config_file, NO_DP, "train.physical_batch_tokens=null", "train.num_steps=60", "train.checkpoint_every_secs=0", "--out", root)
    tile, checkpoint = root / "2_train/checkpoint/tile.json", root / "2_train/no_dp/checkpoint/state.safetensors"
    started = penname.start(*command)
    wait_until(checkpoint.exists, secs=60)
    started.send(signal.SIGKILL)
    assert "tokens at a time (train.physical_batch_tokens), chosen from free memory" in started.wait().stderr
    kept = json.loads(tile.read_text())
    assert kept["tile_tokens"] in (64, 128, 256, 512)
    # As if memory had run out once.
    tile.write_text(json.dumps(kept | {"tile_tokens": 40}))
    penname.succeed(*command)
    sizes = [row["tile_tokens"] for row in read_steps(root)]
    assert len(sizes) == 60
    assert set(sizes) == {kept["tile_tokens"], 40}
    assert sizes == sorted(sizes, reverse=True)
    assert not tile.parent.exists()


def test_a_promise_that_this_data_does_not_allow(penname, config_file, tmp_path):
    root = tmp_path / "run"
    penname("run", config_file, "privacy.delta=0.1", "--out", root).fails(1, "privacy.delta", "N^-1.1")
    assert not (root / "ledger.jsonl").exists()


def test_a_model_that_never_writes_the_form(penname, config_file, finished_run):
    overrides = ["generate.max_new_tokens=4", "generate.max_draws_per_record=1", "generate.num_records=40"]
    penname("run", config_file, *overrides, "--out", finished_run).fails(1, "did not parse", "max_draws_per_record")
