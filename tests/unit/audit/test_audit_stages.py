"""The audit's bookkeeping: its stages fit together, its default is the example config, and a broken claim is said aloud."""

from pathlib import Path

import pytest

from penname.audit import audit as module
from penname.audit.audit import DEFAULT_CONFIG, check_launch, check_verdict, list_stages, run_audit
from penname.audit.findings import Findings
from penname.audit.twins import TWIN_STAGES, config_of_twin, list_twins
from penname.config import load_config
from penname.errors import UsageError
from penname.evaluate.privacy.errors import AuditFailureError, LeftOutError
from penname.run_dir import ARTEFACTS, AUDIT_ARTEFACTS, RunDir, write_json

ROOT = Path(__file__).parents[3]


def test_stages_and_artefacts_fit_together():
    twin = {"planted_records"}
    for stage in TWIN_STAGES:
        assert set(stage.inputs) <= twin
        twin |= set(stage.outputs)
        assert stage.load()
    made = {"twins"}
    for stage in list_stages(load_config(DEFAULT_CONFIG)):
        assert set(stage.inputs) <= made, stage.name
        made |= set(stage.outputs)
        assert set(stage.outputs) <= {*ARTEFACTS, *AUDIT_ARTEFACTS}
        assert stage.load()
    assert not set(ARTEFACTS) & set(AUDIT_ARTEFACTS)
    assert {artefact.visibility for artefact in AUDIT_ARTEFACTS.values()} == {"PRIVATE"}
    assert "release" not in made | twin
    assert "certificate" not in made | twin


def test_the_default_is_the_example_and_protects_users():
    assert DEFAULT_CONFIG.read_bytes() == (ROOT / "configs/audit.yaml").read_bytes()
    config = load_config(DEFAULT_CONFIG)
    assert config.privacy.unit == "user"
    assert max(config.audit.canaries) == 64
    assert load_config(ROOT / "configs/audit_original.yaml").audit.original_shares == [0.01, 0.1, 1.0]


def test_the_originals_experiment_has_a_twin_a_share_and_asks_no_model(tmp_path):
    config = load_config(None, ["audit.original_shares=[0.01, 0.1, 1.0]"])
    assert [stage.name for stage in list_stages(config)] == ["ingest", "records", "plant", "attack", "report"]
    twins = list_twins(config, RunDir(tmp_path))
    assert [(twin.name, twin.share) for twin in twins] == [("amazon_train_canary_1", 0.01), ("amazon_train_canary_10", 0.1), ("amazon_train_canary_100", 1.0)]


def test_a_twin_leaves_the_ledger_of_the_data_alone():
    config = load_config(None, ["privacy.ledger=x.jsonl", "privacy.ledger_epsilon=9"])
    twin = config_of_twin(config)
    assert (twin.privacy.ledger, twin.privacy.ledger_epsilon) == (None, None)
    assert twin.privacy.target_epsilon == config.privacy.target_epsilon


@pytest.mark.parametrize(("failures", "words"), [(["it leaks"], "it leaks; see"), (["it leaks", "and more"], r"it leaks \(and 1 more\); see")])
def test_a_claim_that_does_not_hold_is_an_error_that_names_the_page(tmp_path, failures, words):
    write_json(RunDir(tmp_path).path("attacks"), {"failures": failures})
    with pytest.raises(AuditFailureError, match=words) as caught:
        check_verdict(tmp_path)
    assert caught.value.exit_code == 1
    write_json(RunDir(tmp_path).path("attacks"), {"failures": []})
    check_verdict(tmp_path)


def test_nothing_is_brought_to_a_store_while_a_twins_key_lies_there(tmp_path, monkeypatch):
    brought = []
    monkeypatch.setattr(module, "run_in_order", lambda *args, after_stage, **more: after_stage())
    monkeypatch.setattr(module, "run_twin", lambda *args, **more: False)
    monkeypatch.setattr(module, "hash_twins", lambda twins: "")
    config, root = load_config(DEFAULT_CONFIG), tmp_path / "audit"
    run_audit(config, root, after_stage=lambda: brought.append(1))
    assert len(brought) == 2
    (twin,) = list_twins(config, RunDir(root))
    twin.run_dir.path("noise_key").write_bytes(bytes(32))
    run_audit(config, root, after_stage=lambda: brought.append(1))
    assert len(brought) == 2


def test_several_ranks_are_refused():
    check_launch(1)
    with pytest.raises(UsageError, match="without torchrun"):
        check_launch(2)


@pytest.mark.parametrize(
    "override",
    ["audit.canaries={1: 0}", "audit.canaries={}", "audit.canaries={0: 3}", "audit.kinds=[]", "audit.original_shares=[0]", "audit.original_shares=[]"],
)
def test_settings_that_plant_nothing_are_refused(override):
    with pytest.raises(UsageError, match="audit"):
        load_config(None, [override])


def test_what_cannot_be_had_is_named_once_a_reason(capsys):
    findings = Findings()
    for name in ("a", "b", "a"):
        with findings.attempt(name, "with_dp"):
            raise LeftOutError("too few")
    findings.tabulate("t", value=float("inf"), other=1)
    findings.say_left_out()
    assert [row["name"] for row in findings.left_out] == ["a", "b", "a"]
    assert capsys.readouterr().err == "audit: a and 1 more left out: too few\n"
    assert findings.tables["t"] == [{"value": None, "other": 1}]
