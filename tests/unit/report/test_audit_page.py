"""The page of an audit: its numbers stand on it, a failure stands first, and nothing from the data does anything."""

import json
import re
from dataclasses import replace

import pytest

from penname.config import load_config
from penname.errors import RunDirError
from penname.report.audit_figures import draw_attack_curves, draw_leaks
from penname.report.audit_inputs import read_audit
from penname.report.audit_report import run_audit_report
from penname.report.audit_wording import explain_attacker, explain_repetition, write_audit_verdict
from penname.report.figures import save_figure
from penname.run_dir import RunDir, write_json
from tests.unit.report.conftest import HOSTILE, metric

PROMISE = {
    "target_epsilon": 8.0, "delta": 1e-5, "epsilon_spent": 7.991, "privacy_unit": "user", "unit_column": None, "max_records_per_unit": 4,
    "num_train_records": 400,
}  # fmt: skip
CANARIES = [{"num_repetitions": num, "num_canaries": 20, "num_in": 9, "num_units": -(-num // 4)} for num in (1, 64)]


def list_leaks(arm, leaked):
    fields = {"part": "any", "threshold": 81.0, "threshold_note": HOSTILE[0], "num_searched": 160, "num_texts": leaked, "texts_per_10_000": 1.0}
    groups = [(way, match, num) for way in ("generated", "asked", "begun") for match in ("exact", "fuzzy") for num in (0, 1, 64)]
    return [
        {
            "arm": arm,
            "way": way,
            "match": match,
            "num_repetitions": num,
            "num_canaries": 9,
            "num_leaked": leaked * (num == 64),
            "leaked_ci95": [0, 0.9],
            **fields,
        }
        for way, match, num in groups
    ]


def make_tables():
    tables = {"leaks": [], "exposure": [], "membership": [], "curves": [], "bounds": []}
    for arm, leaked, bits, auroc, epsilon in (("no_dp", 7, 6.2, 0.8125, 2.34), ("with_dp", 0, 1.5, 0.51, 0.12)):
        tables["leaks"] += list_leaks(arm, leaked)
        sizes = {"ceiling_bits": 7.0, "num_canaries": 9, "num_references": 120}
        tables["exposure"] += [{"arm": arm, "way": "rank", "num_repetitions": num, "mean_bits": bits, "ci95": [1.2, 6.5], **sizes} for num in (1, 64)]
        sides = {"num_members": 200, "num_non_members": 200, "reference": 0.5}
        tables["membership"] += [
            {"arm": arm, "signal": "calibrated", "level": level, "auroc": auroc, "ci95": [auroc - 0.04, auroc + 0.05], **sides}
            for level in ("record", "canary")
        ]
        tables["curves"] += [
            {"arm": arm, "signal": "calibrated", "level": level, "fprs": [0, 0.01, 0.3, 1], "tprs": [0, 0.2, 0.6, 1]} for level in ("record", "canary")
        ]
        numbers = {"num_canaries": 128, "num_guesses": 32, "num_correct": 20, "delta": 1e-5, "max_epsilon": 3.6}
        claim = 8.0 if arm == "with_dp" else None
        tables["bounds"] += [
            {"arm": arm, "method": "one_run", "signal": signal, "num_units": 1, "epsilon": epsilon, "claimed_epsilon": claim, **numbers}
            for signal in ("model", "text")
        ]
    return tables


@pytest.fixture
def run_dir(tmp_path):
    return RunDir(tmp_path / "audit")


@pytest.fixture
def build(run_dir, monkeypatch):
    """Writes an audit with some keys replaced; returns the HTML, without figures unless they are asked for."""

    def build_page(*, draws=False, **changes):
        if not draws:
            monkeypatch.setattr("penname.report.audit_report.draw_audit_figures", lambda *_: [])
        found = {
            "schema_version": 1,
            "experiment": "canaries",
            "arms": ["with_dp", "no_dp"],
            "promise": PROMISE,
            "canaries": CANARIES,
            "tables": make_tables(),
            "failures": [],
        }
        rows = [metric("privacy", "replayed_pii_num", arm, value, direction="lower") for arm, value in (("no_dp", 12.0), ("with_dp", 0.0))]
        write_json(run_dir.path("attacks"), found | changes)
        write_json(run_dir.path("privacy_metrics"), [{**row, "version": 1} for row in rows])
        left_out = [
            {"family": "privacy", "name": f"tpr_{num}", "arm": "with_dp", "reason": HOSTILE[num]} for num in range(len(HOSTILE)) if "\ud800" not in HOSTILE[num]
        ]
        write_json(run_dir.path("left_out"), left_out)
        run_audit_report(load_config(), run_dir)
        return run_dir.path("report").read_text(encoding="utf-8")

    return build_page


def words_of(html):
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_the_page_holds_both_arms_side_by_side_with_the_runs_numbers(build, run_dir):
    html = build(draws=True)
    words = words_of(html)
    for number in (
        "2.34",
        "0.12",
        "0.812",
        "0.510",
        "128 canaries could show 3.60",
        "6.2",
        "7.991",
        "7 of 9 of those in 64 records; 160 texts",
        "0 of 9 left out",
        "12",
    ):
        assert number in words, number
    assert "FAILED" not in html
    assert "No attack refuted the claim: the audited lower bound on epsilon is 0.12, the claim is 8" in words
    assert html.index("Claimed") < html.index("Audited: at least")
    rows = json.loads(run_dir.path("metrics").read_text())
    assert [row["name"] for row in rows] == ["replayed_pii_num"] * 2
    assert {path.name for path in run_dir.path("figures").iterdir()} == {
        f"audit_{name}.{kind}" for name in ("curves", "exposure", "leaks") for kind in ("png", "svg")
    }
    assert not run_dir.path("release").exists()
    assert not run_dir.path("certificate").exists()


def test_the_two_paragraphs_tell_this_audits_numbers(build, run_dir):
    build()
    audit = read_audit(run_dir)
    attacker, repetition = explain_attacker(audit), explain_repetition(audit)
    for part in (
        "parts of 7 came out in 160 generated reviews, and 7 when",
        "AUROC of 0.81",
        "at least 2.34",
        "AUROC of 0.51",
        "guessing, 0.5, is within that",
        "another one may get further",
    ):
        assert part in attacker
    for part in ("carried by 16 users: epsilon 128", "at most 4 reviews", "6.2 without", "1.5 bits with privacy", "at epsilon 800"):
        assert part in repetition
    alone = explain_repetition(replace(audit, promise=PROMISE | {"privacy_unit": "record", "max_records_per_unit": 1}))
    assert "is 100 units: epsilon 800" in alone


def test_a_failed_audit_says_so_first_and_in_red(build):
    html = build(failures=[f"audit: {HOSTILE[0]} leaks at least epsilon 9.1"])
    assert "<title>Audit FAILED</title>" in html
    assert html.index('class="stop"') < html.index('class="verdict"')
    assert "the guarantee does not hold" in words_of(html)


def test_nothing_from_the_data_is_markup(build):
    html = build(failures=[HOSTILE[1]])
    body = html[html.index("<body>") :]
    assert "<script" not in body
    assert "<img" not in body
    assert "onerror=alert(1)&gt;" in body
    assert "evil.example" in body
    assert "href='https" not in body
    assert "49" not in words_of(html).split("Left out", 2)[-1].split("Every figure")[0]
    assert "\u202e" not in body


def test_without_claim_or_bound_the_verdict_says_what_there_is(build, run_dir):
    build(
        arms=["no_dp"],
        promise=PROMISE | {"target_epsilon": None, "epsilon_spent": None},
        tables={name: [row for row in rows if row["arm"] == "no_dp"] for name, rows in make_tables().items()},
    )
    audit = read_audit(run_dir)
    assert "no claim to test" in write_audit_verdict(audit)
    assert "Nothing is promised here" in explain_repetition(audit)
    build(tables={**make_tables(), "bounds": []})
    assert "the claim of 8 was not tested" in write_audit_verdict(read_audit(run_dir))


def test_the_originals_experiment_stands_beside_its_authors_figures(build, run_dir):
    fields = {"twin": "amazon_train_canary_10", "share": 0.1, "num_records": 40, "num_units": 31, "num_texts": 4, "num_searched": 2000, "ci95": [7.8, 51.0]}
    rows = [
        {"arm": "no_dp", "part": part, "per_10_000": 20.0, "theirs": theirs, **fields}
        for part, theirs in zip(("name", "street", "phone", "whole"), (23, 20, 23, 20), strict=True)
    ]
    words = words_of(build(experiment="original", canaries=[], tables={"originals": rows}))
    assert "23 / 20 / 23 / 20" in words
    assert "8 to 51" in words
    assert "40 of 31 units" not in words
    assert "40 in the data of 31 units" in words
    assert "carried by 31 users" in explain_repetition(read_audit(run_dir))


def test_figures_are_the_same_bytes_for_the_same_numbers(tmp_path):
    tables = make_tables()
    for draw, rows in ((draw_attack_curves, tables["curves"]), (draw_leaks, [row for row in tables["leaks"] if row["match"] == "exact"])):
        same = [save_figure(draw(rows), tmp_path, "same").read_bytes() for _ in range(2)]
        assert same[0] == same[1]
        assert len(same[0]) > 2000


def test_a_damaged_audit_is_one_line(build, run_dir):
    build()
    run_dir.path("attacks").write_text('{"arms": []}')
    with pytest.raises(RunDirError, match=r"attacks\.json: is damaged"):
        read_audit(run_dir)
