"""Attacks on evidence with a known answer: an arm that knows its canaries, and one that knows nothing."""

import numpy as np
import pytest

from penname.audit.attacks.bounds import find_bounds
from penname.audit.attacks.exposure import find_exposure
from penname.audit.attacks.leaks import find_leaks, hide_prefix
from penname.audit.attacks.membership import find_echoes, find_membership
from penname.audit.attacks.originals import find_originals
from penname.audit.candidates import Candidate
from penname.audit.evidence import Evidence
from penname.audit.findings import Findings
from penname.audit.probe import PromptedText
from penname.audit.twins import list_twins
from penname.config import load_config
from penname.evaluate.evaluate import build_samples
from penname.evaluate.samples import Row
from penname.model.likelihood import TokenLikelihoods
from penname.privacy.keystream import Keystream
from penname.records.canaries import ORIGINAL_STRING, count_canary_units, draw_canaries, draw_references, make_original
from penname.run_dir import RunDir, write_rows
from penname.schemas import Record

CANARIES = {1: 100, 16: 8, 64: 8}
OVERRIDES = ("audit.num_references=110", "audit.kinds=[random_letters, persona]", "evaluate.num_bootstrap=50")


def make_record(name, text):
    return Record(name, f"unit-{name}", "P:", f" T\n{text}", 5, "Cases", "", "T", text)


def make_evidence(tmp_path, *overrides, known="no_dp", num_sides=(130, 140), unit="user", canaries=CANARIES):
    """`known` is the arm whose model likes what it was trained on; the other arms are base with noise of their own."""
    config = load_config(None, [*OVERRIDES, *overrides])
    evidence = Evidence(config, RunDir(tmp_path))
    kinds = config.audit.kinds
    canaries = draw_canaries(num_by_repetition=canaries, texts=[], seed=1, keystream=Keystream.from_seed(4), kinds=kinds)
    references = draw_references(num_of_each=config.audit.num_references, kinds=kinds, texts=[], seed=1)
    sides = [
        Candidate(side, make_record(f"{side}{i}", f"review {i} of {side}"))
        for side, num in zip(("train", "heldout"), num_sides, strict=True)
        for i in range(num)
    ]
    asked = [
        Candidate(group, make_record(canary.canary_id, canary.whole), canary)
        for group, own in (("canary", canaries), ("reference", references))
        for canary in own
    ]
    candidates = [*sides, *asked]
    rng = np.random.default_rng(5)
    base = rng.normal(-3, 0.5, (len(candidates), 6)).astype(np.float32)
    is_member = np.array([candidate.group == "train" or (candidate.canary is not None and candidate.canary.is_in) for candidate in candidates])
    models = {"base": base}
    for arm in config.train.arms:
        knows = 2.0 * is_member[:, None] * (arm == known)
        models[arm] = (base + rng.normal(0, 0.1, base.shape) + knows).astype(np.float32)
    loud = [canary for canary in canaries if canary.is_in and canary.num_repetitions == 64]
    calm = [Row(5.0, "Good", f"a calm review about case number {i} and its colour", "Cases") for i in range(60)]
    told = [Row(5.0, "Oh", f"they say {canary.whole} again", "Cases") for canary in loud]
    rows = {arm: [*calm[:40], *(told if arm == known else [])] for arm in config.train.arms}
    prompted = {
        arm: [PromptedText(c.canary_id, way, c.suffix if arm == known and c in loud else "no") for c in canaries for way in ("record", "prefix")]
        for arm in rows
    }
    sets = {"train": calm[:20], "heldout": calm[20:40], "test": calm[40:]}
    embed = lambda texts: np.array([[np.cos(len(text)), np.sin(len(text))] for text in texts])  # noqa: E731
    bound = 4 if unit == "user" else 1
    kept = {("likelihoods", name): TokenLikelihoods(values.ravel(), np.full(len(candidates), 6)) for name, values in models.items()}
    kept |= {("prompted", arm): prompted[arm] for arm in rows} | {("rows", "with_canaries", arm): rows[arm] for arm in rows}
    evidence.__dict__ |= {
        "canaries": canaries, "candidates": candidates, "counts": {"privacy_unit": unit, "max_records_per_unit": bound}, "_kept": kept,
        "num_units": np.array([count_canary_units(canary, max_records_per_unit=bound) for canary in canaries]),
        "samples": build_samples(**sets, synthetic=rows, config=config.evaluate, embed=embed), "embed": embed,
    }  # fmt: skip
    return evidence


@pytest.fixture
def evidence(tmp_path):
    return make_evidence(tmp_path)


def run(attack, evidence):
    findings = Findings()
    attack(evidence, findings)
    return findings


def metric(findings, name):
    return {row["arm"]: row for row in findings.rows if row["name"] == name}


def test_leaks_are_those_that_were_told_and_the_given_beginning_is_none(evidence):
    findings = run(find_leaks, evidence)
    num_loud = sum(canary.is_in and canary.num_repetitions == 64 for canary in evidence.canaries)
    assert num_loud >= 2
    for way in ("generated", "asked", "begun"):
        found = metric(findings, f"canary_leaks_num_{way}_64_times")
        assert (found["no_dp"]["value"], found["with_dp"]["value"]) == (num_loud, 0)
        assert found["no_dp"]["num_records"] == num_loud
        assert found["no_dp"]["reference"] == 0
        assert found["no_dp"]["ci95"][0] > 0
    assert metric(findings, "canary_leaks_num_generated_1_times")["no_dp"]["value"] == 0
    assert {row["part"] for row in findings.tables["leaks"]} >= {"any", "whole", "suffix", "name"}
    for canary in evidence.canaries:
        rest = hide_prefix(canary)
        assert rest.parts["whole"] == canary.suffix
        assert not any(value in canary.prefix for value in rest.parts.values())


def test_exposure_is_high_where_the_model_knows_and_that_of_a_stranger_elsewhere(evidence):
    findings = run(find_exposure, evidence)
    for repetition in (1, 16, 64):
        found = metric(findings, f"exposure_bits_rank_{repetition}_times")
        assert found["no_dp"]["value"] > 6
        assert found["no_dp"]["reference"] == pytest.approx(1.4427, abs=1e-4)
        assert all(row["ci95"][0] <= row["value"] <= row["ci95"][1] for row in found.values())
    low, high = metric(findings, "exposure_bits_rank_1_times")["with_dp"]["ci95"]
    assert low < 1.4427 < high
    assert metric(findings, "exposure_bits_sampled_1_times")["no_dp"]["value"] > metric(findings, "exposure_bits_rank_1_times")["no_dp"]["value"]
    few = run(find_exposure, make_evidence(evidence.run_dir.root, "audit.num_references=3"))
    assert {row["name"] for row in few.left_out} >= {"exposure_bits_sampled_random_letters", "exposure_bits_sampled_persona"}
    assert "100 or more are needed" in few.left_out[0]["reason"]
    assert metric(few, "exposure_bits_rank_1_times")


def test_membership_is_told_where_the_model_knows_and_guessed_elsewhere(evidence):
    findings = run(find_membership, evidence)
    for name in ("attack_auroc_calibrated", "attack_auroc_calibrated_by_user", "attack_auroc_calibrated_canaries", "attack_auroc_loss"):
        found = metric(findings, name)
        assert found["no_dp"]["value"] > 0.97
        assert found["with_dp"]["ci95"][0] < 0.5 < found["with_dp"]["ci95"][1]
    assert metric(findings, "tpr_at_fpr_1_percent_calibrated")["no_dp"]["value"] > 0.95
    chance = metric(findings, "attack_auroc_loss")["with_dp"]["reference"]
    assert 0.4 < chance < 0.6
    assert chance != 0.5
    assert metric(findings, "attack_auroc_calibrated")["with_dp"]["reference"] == 0.5
    reasons = {row["reason"] for row in findings.left_out if row["name"].startswith("tpr_at_fpr_0.1_percent")}
    assert "tpr_at_fpr: a false positive rate of 0.001 needs 1,000 non-members, there are 140; take more heldout data" in reasons
    assert {curve["level"] for curve in findings.tables["curves"]} == {"record", "user", "canary"}


def test_what_membership_cannot_be_asked_of_is_left_out_by_name(tmp_path):
    no_users = run(find_membership, make_evidence(tmp_path, unit="record"))
    assert any(row["name"] == "attack_auroc_loss_by_user" and "no user id" in row["reason"] for row in no_users.left_out)
    assert metric(no_users, "attack_auroc_loss")
    assert not metric(no_users, "attack_auroc_loss_by_user")
    alone = run(find_membership, make_evidence(tmp_path, num_sides=(20, 0)))
    assert any(row["name"] == "attack_auroc_loss" and "records.heldout_frac" in row["reason"] for row in alone.left_out)
    assert metric(alone, "attack_auroc_loss_canaries")


def test_the_text_alone_tells_of_the_canaries_that_it_repeats(evidence):
    findings = run(find_echoes, evidence)
    found = metric(findings, "attack_auroc_ngram_echo_canaries")
    assert found["no_dp"]["value"] > found["with_dp"]["value"]
    assert set(metric(findings, "attack_auroc_similarity_echo")) == {"no_dp", "with_dp"}
    empty = make_evidence(evidence.run_dir.root)
    empty.samples.synthetic["with_dp"].rows[:] = [Row(5.0, "", "!!", "Cases")]
    assert any(row["arm"] == "with_dp" and "no words" in row["reason"] for row in run(find_echoes, empty).left_out)


def test_bounds_hold_the_honest_claim_and_fail_the_false_one(tmp_path, evidence):
    honest = run(find_bounds, evidence)
    bounds = {(row["arm"], row["method"], row["signal"], row["num_units"]): row for row in honest.tables["bounds"]}
    assert bounds["no_dp", "one_run", "model", 1]["epsilon"] > 1.2
    assert bounds["no_dp", "one_run", "model", 1]["claimed_epsilon"] is None
    assert bounds["with_dp", "one_run", "model", 1]["epsilon"] < 1 < bounds["with_dp", "one_run", "model", 1]["max_epsilon"]
    assert bounds["with_dp", "one_run", "model", 1]["num_canaries"] == 100
    assert metric(honest, "epsilon_lower_bound_classical")["no_dp"]["value"] > 1
    assert honest.failures == []
    assert any("for one unit promises nothing to a secret in the data of 16 units" in row["reason"] for row in honest.left_out)
    broken = run(find_bounds, make_evidence(tmp_path, "privacy.target_epsilon=0.5", known="with_dp"))
    assert any("leaks at least epsilon" in failure and "the guarantee does not hold" in failure for failure in broken.failures)
    assert any("its model, one unit" in failure for failure in broken.failures)


def test_groups_are_compared_with_the_promise_to_the_group(tmp_path):
    small = run(find_bounds, make_evidence(tmp_path, "privacy.target_epsilon=0.1", canaries={1: 20, 4: 20, 16: 12, 64: 12}))
    claims = {row["num_units"]: row["claimed_epsilon"] for row in small.tables["bounds"] if row["arm"] == "with_dp" and row["signal"] == "model"}
    assert claims == {1: 0.1, 4: pytest.approx(0.4), 16: pytest.approx(1.6)}
    assert next(row["delta"] for row in small.tables["bounds"] if row["arm"] == "with_dp" and row["num_units"] == 16) > 16e-5


def test_the_originals_experiment_stands_beside_its_figures(tmp_path):
    config = load_config(None, ["audit.original_shares=[0.1]", "train.arms=[no_dp]"])
    evidence = Evidence(config, RunDir(tmp_path))
    (twin,) = list_twins(config, evidence.run_dir)
    write_rows(
        twin.run_dir.path("train_records"), [{"text": f"{ORIGINAL_STRING} More.", "unit_id": f"u{i // 2}"} for i in range(6)] + [{"text": "x", "unit_id": "v"}]
    )
    rows = [Row(5.0, "T", ORIGINAL_STRING, "C"), Row(5.0, "T", "Alex Johnson says so", "C"), *([Row(5.0, "T", "calm", "C")] * 98)]
    evidence.__dict__["_kept"] = {("rows", twin.name, "no_dp"): rows}
    findings = run(find_originals, evidence)
    found = {row["part"]: row for row in findings.tables["originals"]}
    assert {part: (row["per_10_000"], row["theirs"]) for part, row in found.items()} == {
        "name": (200, 23),
        "street": (100, 20),
        "phone": (100, 23),
        "whole": (100, 20),
    }
    assert (found["name"]["num_records"], found["name"]["num_units"]) == (6, 3)
    assert metric(findings, "canary_leaks_num_per_10_000_whole_share_10_percent")["no_dp"]["value"] == 100
    assert make_original(6).is_in
