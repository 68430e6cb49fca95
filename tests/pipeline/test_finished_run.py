"""What a finished run holds, that it is left alone, and what it allows to change."""

import json

import pytest
import yaml

from penname.config import Config
from penname.generate import synthesize
from penname.run_dir import ARTEFACTS, RunDir, read_rows
from tests.pipeline.conftest import snapshot


def test_all_stages_end_with_their_files(finished_run, first_outcome):
    for name, artefact in ARTEFACTS.items():
        if name != "noise_key" and not artefact.is_optional:
            assert (finished_run / artefact.path).exists(), name
    assert not (finished_run / ARTEFACTS["noise_key"].path).exists()
    assert sorted(path.name for path in (finished_run / "release").iterdir()) == [
        "README.md", "adapter", "certificate.json", "generated_sequences_with_dp.jsonl", "ledger.jsonl",
    ]  # fmt: skip
    for arm in ("with_dp", "no_dp"):
        rows = list(read_rows(finished_run / f"3_generate/generated_sequences_{arm}.jsonl"))
        assert len(rows) == 10
        assert {row["arm"] for row in rows} == {arm}
        assert all(row["title"].strip() and row["text"].strip() for row in rows)
    base = list(read_rows(finished_run / "3_generate/base_texts.jsonl"))
    assert [row["record_id"] for row in base] == [row["record_id"] for row in rows]
    assert {(row["arm"], row["num_draws"]) for row in base} == {("base", 1)}
    lines = first_outcome.stdout.splitlines()
    assert lines[0].startswith("Done in ")
    named = {line.split()[1]: line.split()[0] for line in lines[1:]}
    assert {path.rpartition("/run/")[2]: visibility for path, visibility in named.items()} == {
        "5_report/report.html": "PRIVATE", "5_report/metrics.json": "PRIVATE", "3_generate/generated_sequences_with_dp.jsonl": "RELEASABLE",
        "3_generate/generated_sequences_no_dp.jsonl": "PRIVATE", "release/": "RELEASABLE",
    }  # fmt: skip
    assert not [path for path in finished_run.rglob("*") if path.name.endswith((".tmp", ".partial", ".old"))]


def test_standard_error_holds_our_lines_alone(first_outcome):
    allowed = (
        "ingest: ",
        "records: ",
        "privacy: ",
        "self-check: ",
        "train: ",
        "train with_dp: ",
        "train no_dp: ",
        "generate: ",
        "evaluate: ",
        "report: ",
        "generate ",
    )
    foreign = [line for line in first_outcome.stderr.splitlines() if not line.startswith(allowed)]
    assert foreign == []


def test_metrics_and_page(finished_run):
    metrics = json.loads((finished_run / "5_report/metrics.json").read_text())
    assert {row["arm"] for row in metrics} >= {"with_dp", "no_dp"}
    for row in metrics:
        assert set(row) == {"family", "name", "arm", "value", "ci95", "reference", "direction", "visibility", "num_records", "source"}
    page = (finished_run / "5_report/report.html").read_text()
    assert 'src="http' not in page
    assert "<script" not in page.lower() or "http" not in page.lower().split("<script", 1)[1].split(">", 1)[0]


def test_verify_passes_then_fails_after_one_byte(penname, finished_run):
    outcome = penname.succeed("verify", finished_run)
    assert outcome.stdout.startswith("VERIFIED ")
    assert "epsilon" in outcome.stdout
    files = sorted(path for path in (finished_run / "release").rglob("*") if path.is_file())
    assert len(files) >= 5
    for path in files:
        whole = path.read_bytes()
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        penname("verify", finished_run / "release").fails(1, path.name)
        path.write_bytes(whole)
    (finished_run / "release" / "more.txt").write_text("x")
    penname("verify", finished_run).fails(1, "more.txt")
    (finished_run / "release" / "more.txt").unlink()
    penname.succeed("verify", finished_run)


def test_run_again_does_nothing_and_says_so(penname, finished_run, config_file):
    before = snapshot(finished_run)
    outcome = penname.succeed("run", config_file, "--out", finished_run)
    assert outcome.stdout.startswith("Nothing to do: ")
    assert outcome.stderr == ""
    assert snapshot(finished_run) == before


def test_a_fresh_process_does_nothing_in_seconds(finished_run, config_file):
    import subprocess
    import sys

    before = snapshot(finished_run)
    arguments = [sys.executable, "-m", "penname.cli", "run", str(config_file), "--out", str(finished_run)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("Nothing to do: ")
    assert snapshot(finished_run) == before


def _rewritten(before, root):
    after = snapshot(root)
    return {name.split("/")[0] for name in {*before, *after} if before.get(name) != after.get(name)}


def test_other_settings_of_generate_run_what_follows_and_spend_nothing(penname, finished_run, config_file):
    before, ledger = snapshot(finished_run), (finished_run / "ledger.jsonl").read_bytes()
    old = (finished_run / "3_generate/generated_sequences_with_dp.jsonl").read_bytes()
    penname.succeed("run", config_file, "generate.num_records=7", "generate.seed=2", "--out", finished_run)
    assert _rewritten(before, finished_run) == {"3_generate", "4_evaluate", "5_report", "release", "run.json"}
    assert snapshot(finished_run)["3_generate/conditioning.json"] == before["3_generate/conditioning.json"]
    assert (finished_run / "ledger.jsonl").read_bytes() == ledger
    new = (finished_run / "3_generate/generated_sequences_with_dp.jsonl").read_bytes()
    assert len(new.splitlines()) == 7
    assert new != old
    penname.succeed("verify", finished_run)


def test_one_stage_alone_needs_those_before_it(penname, finished_run, config_file):
    override = "evaluate.seed=5"
    penname("report", config_file, override, "--out", finished_run).fails(1, "the stage evaluate is not done")
    before = snapshot(finished_run)
    penname.succeed("evaluate", config_file, override, "--out", finished_run)
    assert _rewritten(before, finished_run) == {"4_evaluate", "run.json"}


@pytest.mark.parametrize(
    "override",
    [
        "data.sample_num_reviews=301",
        "records.seed=2",
        "privacy.target_epsilon=9",
        "privacy.delta=1e-6",
        "train.num_steps=7",
        "train.arms=[no_dp]",
        "model.lora_rank=3",
    ],
)
def test_other_data_privacy_or_training_is_another_run(penname, finished_run, config_file, override):
    before = snapshot(finished_run)
    key = override.partition("=")[0]
    penname("run", config_file, override, "--out", finished_run).fails(2, "holds another run", key, "choose another --out")
    assert snapshot(finished_run) == before


def test_a_deleted_adapter_is_not_trained_again(penname, finished_run, config_file):
    adapter, ledger = finished_run / "2_train/with_dp/adapter", (finished_run / "ledger.jsonl").read_bytes()
    for path in adapter.iterdir():
        path.unlink()
    adapter.rmdir()
    line = penname("run", config_file, "--out", finished_run).fails(1, "new folder for --out")
    assert "charged before" in line or "promised" in line
    assert not adapter.exists()
    assert (finished_run / "ledger.jsonl").read_bytes().startswith(ledger)


def test_a_damaged_output_of_a_cheap_stage_is_made_again(penname, finished_run, config_file):
    synthetic = finished_run / "3_generate/generated_sequences_no_dp.jsonl"
    whole = synthetic.read_bytes()
    synthetic.write_bytes(whole[:100])
    penname.succeed("generate", config_file, "--out", finished_run)
    assert synthetic.read_bytes() == whole


def test_no_prompt_holds_a_real_title_or_text(finished_run, settings, monkeypatch):
    """Every prompt that the model really gets, against every real review."""
    prompts = []

    def watch(tokenizer, prompt):
        prompts.append(prompt)
        return tokenizer(prompt)["input_ids"]

    monkeypatch.setattr(synthesize, "encode_prompt", watch)
    config = Config.model_validate(
        settings | {"generate": {**settings["generate"], "num_records": 60, "max_new_tokens": 48}, "train": {**settings["train"], "arms": ["with_dp"]}}
    )
    run_dir = RunDir(finished_run)
    synthesize.run_generate(config, run_dir)
    real = [row for name in ("train", "heldout", "test") for row in read_rows(run_dir.path(f"{name}_records"))]
    catalogue = synthesize.read_catalogue(run_dir.path("catalogue"))
    public = {f"{product.title}\n{product.category} {rating}:" for product in catalogue for rating in range(1, 6)}
    assert len(set(prompts)) > 20
    assert set(prompts) <= public
    for prompt in set(prompts):
        for row in real:
            assert row["text"] not in prompt
            # A short title may happen to stand in a public product title; what is checked is that it is not there as a title.
            assert not prompt.endswith(row["title"])
            assert len(row["title"].split()) < 3 or row["title"] not in prompt


def test_the_config_that_was_used_is_in_the_manifest(finished_run, config_file):
    manifest = json.loads((finished_run / "run.json").read_text())
    assert [entry["status"] for entry in manifest["stages"].values()] == ["done"] * 6
    used, given = manifest["config"], yaml.safe_load(config_file.read_text())
    for section, values in given.items():
        for key, value in values.items():
            assert used[section][key] == value
