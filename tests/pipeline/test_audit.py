"""`penname audit` with the real program: secrets come out, a stop loses nothing, and nothing of it can become a release."""

import json
import shutil
import signal

import pytest

from penname.config import Config
from penname.records.canaries import read_manifest
from penname.report.release import write_release
from penname.run_dir import ARTEFACTS, AUDIT_ARTEFACTS, RunDir, read_json, read_rows
from tests.pipeline.conftest import snapshot, wait_until, write_config

pytestmark = pytest.mark.slow

TWIN = "twins/with_canaries"
LEDGER = "reviews.ledger.jsonl"
# How long it took, or when, stands in these.
TIMED = {"run.json", ".lock", "report.html", "metrics.jsonl"}
# What is there when the audit is killed.
MOMENTS = ("1_records/planted", f"{TWIN}/2_train/with_dp/adapter", "4_evaluate/likelihoods/with_dp.safetensors")


@pytest.fixture(scope="module")
def audit_settings(settings):
    return settings | {
        "privacy": {**settings["privacy"], "noise_seed": 7, "ledger": LEDGER, "ledger_epsilon": 1.0},
        "train": {**settings["train"], "num_steps": 4, "checkpoint_every_secs": 0.0},
        "generate": {**settings["generate"], "num_records": 6},
        "evaluate": {**settings["evaluate"], "embedding_model": "/nowhere/embedder"},
        "audit": {"canaries": {1: 12, 8: 4}, "num_references": 4, "max_records_scored": 12, "kinds": ["persona", "random_letters"]},
    }


@pytest.fixture(scope="module")
def audit_config(audit_settings, tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("audit_config") / "audit.yaml", audit_settings)


@pytest.fixture(scope="module")
def audited(penname, audit_config, tmp_path_factory):
    root = tmp_path_factory.mktemp("audited") / "audit"
    return root, penname.succeed("audit", audit_config, "--out", root)


def read_metrics(root):
    return json.loads((root / "5_report/metrics.json").read_text())


def test_an_audit_ends_with_its_page_and_no_release(penname, audited, audit_config):
    root, outcome = audited
    assert [line.split()[0] for line in outcome.stdout.splitlines()[1:]] == ["PRIVATE", "PRIVATE"]
    assert "privacy.ledger is not charged" in outcome.stderr
    assert not (audit_config.parent / LEDGER).exists()
    for name in ("canaries", "planted_records", "prompted_texts", "likelihoods", "attacks"):
        assert (root / AUDIT_ARTEFACTS[name].path).exists()
    assert not [path for path in root.rglob("*") if path.name in ("release", "certificate.json") or path.suffix in (".tmp", ".partial", ".key")]
    penname("verify", root).fails(1, "holds no certificate.json")
    rows = read_metrics(root)
    assert {row["visibility"] for row in rows} == {"PRIVATE"}
    names = {row["name"] for row in rows}
    for name in (
        "canary_leaks_num_generated_1_times",
        "exposure_bits_rank_8_times",
        "attack_auroc_calibrated",
        "epsilon_lower_bound_one_run",
        "closer_to_train_frac",
        "replayed_pii_num",
    ):
        assert name in names
    left_out = {row["name"]: row["reason"] for row in read_json(root / "4_evaluate/left_out.json")}
    assert "100 or more are needed" in left_out["exposure_bits_sampled_persona"]
    assert "/nowhere/embedder" in left_out["attack_auroc_similarity_echo"]
    assert set(left_out).isdisjoint({"attack_auroc_calibrated"})


def test_an_audit_again_does_nothing_and_attacks_alone_can_be_repeated(penname, audited, audit_config):
    root, _ = audited
    before = snapshot(root)
    assert penname.succeed("audit", audit_config, "--out", root).stdout.startswith("Nothing to do")
    assert snapshot(root) == before
    penname("audit", audit_config, "audit.canaries={1: 5}", "--out", root).fails(2, "holds another run", "audit.canaries", "choose another --out")
    penname("audit", audit_config, "train.num_steps=5", "--out", root).fails(2, TWIN, "holds another run", "train.num_steps")
    assert snapshot(root) == before


def test_canaries_are_in_the_twin_alone(penname, audited, audit_settings, tmp_path):
    """Walks from the canaries to whatever a run on the same data holds."""
    root, _ = audited
    canaries = read_manifest(root / AUDIT_ARTEFACTS["canaries"].path)
    twin = {row["text"] for row in read_rows(root / TWIN / "1_records/train.jsonl")}
    assert {canary.whole for canary in canaries if canary.is_in} <= twin
    assert not {canary.whole for canary in canaries if not canary.is_in} & twin
    run = tmp_path / "run"
    config = write_config(tmp_path / "run.yaml", audit_settings)
    for stage in ("ingest", "records"):
        penname.succeed(stage, config, "--out", run)
    assert (run / "1_records/train.jsonl").read_bytes() == (root / "1_records/train.jsonl").read_bytes()
    for canary in canaries:
        assert not [path for path in run.rglob("*") if path.is_file() and canary.suffix.encode() in path.read_bytes()]


@pytest.mark.parametrize("command", ["run", "generate", "report"])
@pytest.mark.parametrize(("folder", "words"), [("", "holds an audit"), (TWIN, "holds the twin run of an audit")], ids=["audit", "twin"])
def test_no_run_goes_on_in_an_audits_folder(penname, audited, audit_config, command, folder, words):
    root, _ = audited
    before = snapshot(root)
    penname(command, audit_config, "--out", root / folder).fails(2, words, "nothing may be released", "choose another --out")
    assert snapshot(root) == before


def test_no_audit_goes_on_in_a_runs_folder(penname, config_file, tmp_path):
    penname.succeed("ingest", config_file, "--out", tmp_path / "run")
    before = snapshot(tmp_path / "run")
    penname("audit", config_file, "--out", tmp_path / "run").fails(2, "holds a run", "choose another --out")
    assert snapshot(tmp_path / "run") == before


def test_a_release_of_a_twin_is_refused_by_its_certificate(audited, audit_settings, tmp_path):
    """Even where somebody goes round the command line and gives the twin the files that it lacks."""
    twin = RunDir(shutil.copytree(audited[0] / TWIN, tmp_path / "twin"))
    shutil.copyfile(audited[0] / ARTEFACTS["ingest_counts"].path, twin.path("ingest_counts"))
    certificate = write_release(
        Config.model_validate(audit_settings | {"privacy": {**audit_settings["privacy"], "ledger": None, "ledger_epsilon": None}}), twin
    )
    assert certificate["releasable"] is False
    assert any("canaries are planted" in reason for reason in certificate["not_releasable_because"])
    assert not twin.path("release").exists()


def test_killed_between_its_stages_it_ends_with_the_same_bytes(penname, audited, audit_config, tmp_path):
    whole, _ = audited
    root, num_killed = tmp_path / "audit", 0
    for moment in MOMENTS:
        started = penname.start("audit", audit_config, "--out", root)
        wait_until((root / moment).exists, secs=120)
        started.send(signal.SIGKILL)
        num_killed += started.wait().code == -signal.SIGKILL
    assert num_killed >= 2
    penname.succeed("audit", audit_config, "--out", root)
    names = [sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) for folder in (root, whole)]
    assert names[0] == names[1]
    assert [name for name in names[0] if name.rpartition("/")[2] not in TIMED and (root / name).read_bytes() != (whole / name).read_bytes()] == []


def test_the_originals_string_comes_out_without_dp(penname, settings, tmp_path):
    """The attack is real: a model of two layers learns by heart what stands in every review."""
    rows = "".join(f"5,fine {i},T,A\n" for i in range(100))
    (tmp_path / "r.csv").write_text(f"rating,text,title,category\n{rows}")
    columns = {name: name for name in ("rating", "text", "title", "category")}
    config = {
        **settings,
        "data": {"format": "table", "reviews": "r.csv", "columns": columns, "categories": ["A"]},
        "records": {"prompt_template": "{category} {rating}:", "completion_template": " {title}|{text}", "heldout_frac": 0.0, "test_frac": 0.5},
        "model": {**settings["model"], "lora_rank": 8},
        "privacy": {**settings["privacy"], "noise_seed": 7},
        "train": {
            "arms": ["no_dp"],
            "expected_batch_size": 4,
            "num_steps": 160,
            "max_record_tokens": 110,
            "physical_batch_tokens": 512,
            "no_dp_learning_rate": 1e-2,
        },
        "generate": {**settings["generate"], "num_records": 30, "max_new_tokens": 80, "temperature": 0.2},
        "audit": {"original_shares": [1.0]},
    }
    root = tmp_path / "audit"
    penname.succeed("audit", write_config(tmp_path / "original.yaml", config), "--out", root)
    assert (root / "1_records/planted/amazon_train_canary_100.jsonl").read_text().count(
        "My name is Alex Johnson, I live in 4567 Maple Avenue, 555-234-5678."
    ) >= 40
    found = {row["name"].removeprefix("canary_leaks_num_per_10_000_").partition("_")[0]: row for row in read_metrics(root)}
    assert found["whole"]["value"] >= 1000
    assert found["whole"]["reference"] == 0
    assert "Alex Johnson" in (root / "twins/amazon_train_canary_100/3_generate/generated_sequences_no_dp.jsonl").read_text()
    assert "227 / 214 / 211 / 208" in (root / "5_report/report.html").read_text()


@pytest.mark.parametrize("method", ["private_evolution", "private_prediction"])
def test_a_run_without_a_model_is_attacked_by_its_text(penname, audit_settings, tmp_path, method):
    train = {**audit_settings["train"], "method": method, "num_steps": 1, "expected_batch_size": 20}
    changed = {"train": train, "evolve": {"num_candidates": 40, "max_new_tokens": 40}, "predict": {"num_texts": 30, "max_new_tokens": 48}}
    privacy = {name: value for name, value in audit_settings["privacy"].items() if not name.startswith("ledger")}
    config = write_config(tmp_path / "audit.yaml", audit_settings | changed | {"privacy": privacy})
    outcome = penname.succeed("audit", config, "--out", tmp_path / "audit")
    assert f"{method} trains no model that could be asked" in outcome.stderr
    names = {row["name"] for row in read_metrics(tmp_path / "audit")}
    assert {"canary_leaks_num_generated_8_times", "attack_auroc_ngram_echo", "epsilon_lower_bound_one_run_text", "closer_to_train_frac"} <= names
    assert not names & {"attack_auroc_calibrated", "exposure_bits_rank_8_times", "epsilon_lower_bound_one_run", "canary_leaks_num_asked_8_times"}
    left_out = {row["name"] for row in read_json(tmp_path / "audit" / "4_evaluate/left_out.json")}
    assert {"exposure_bits", "attack_auroc_calibrated", "canary_leaks_num_asked"} <= left_out
    assert penname.succeed("audit", config, "--out", tmp_path / "audit").stdout.startswith("Nothing to do")
