"""A compact run folder with everything that the report reads."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from penname.config import Config, load_config
from penname.report.build import run_report_page
from penname.report.page_figures import PageFigure, draw_page_figures
from penname.run_dir import RunDir, hash_path, write_json, write_rows

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7*7 }} {% include '/etc/passwd' %}",
    "bell\x07 escape\x1b[31m nul\x00",
    "exe\u202egnp.txt",
    "lone \ud800 surrogate",
    "</style></svg><a href='https://evil.example'>x</a>",
    "Price: $5 \\frac{1}{2} $x$",
]
CATEGORIES = ("Cases", 'Chargers <b onclick="x()"> $&$ \u202e')

CERTIFICATE: dict[str, Any] = {
    "schema_version": 1,
    "promise": {"target_epsilon": 8.0, "delta": 1e-5},
    "privacy_unit": "user",
    "unit_definition": "all reviews of one user_id",
    "neighboring_relation": "ADD_OR_REMOVE_ONE user",
    "events": [
        {
            "event_id": "train",
            "name": "DP-SGD",
            "mechanism": {
                "type": "poisson_sampled_gaussian",
                "noise_multiplier": 0.673251,
                "sampling_prob": 0.0532,
                "num_steps": 40,
                "l2_sensitivity": 1.0,
            },
        },
        {"event_id": "marginals", "name": "Histogram", "mechanism": {"type": "gaussian", "noise_multiplier": 5.2, "l2_sensitivity": 2.0, "num_releases": 3}},
    ],
    "epsilon_spent": 7.9871,
    "epsilon_method": "privacy loss distribution",
    "epsilon_rdp": 8.9,
    "accountant": {"name": "dp_accounting", "version": "0.6.0"},
    "noise_source": "operating_system",
    "releasable": True,
    "not_releasable_because": [],
    "assumed_public": ["the base model"],
    "not_covered": ["timing"],
    "self_checks": [{"name": "sensitivity", "passed": True, "detail": "0.98 <= 1.0"}],
    "files": {},
    "versions": {"python": "3.11.9", "torch": "2.9.1"},
    "machine": "a test machine",
}


def metric(family: str, name: str, arm: str, value: float, **other: Any) -> dict[str, Any]:
    row = {"family": family, "name": name, "arm": arm, "value": value, "ci95": [value - 0.01, value + 0.02], "reference": 0.9}
    return row | {"direction": "higher", "visibility": "PRIVATE", "num_records": 12, "source": "a paper"} | other


def record(num: int, text: str, label: str) -> dict[str, Any]:
    titles = {"title": f"{label} title {num}", "text": f"{label} {num} {text}", "product_title": f"{label} product"}
    return {"record_id": str(num), "rating": num % 5 + 1, "category": CATEGORIES[num % 2]} | titles


def write_raw_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """ASCII JSON, so that a lone surrogate can stand in a file as it does in real data."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="ascii")


def write_run(run: RunDir) -> dict[str, Any]:
    """Writes a whole run and returns its certificate."""
    texts = [*HOSTILE, "plain words " * 5, "word " * 900]
    write_raw_rows(run.path("test_records"), [record(num, text, "real") for num, text in enumerate(texts * 2)])
    for arm in ("with_dp", "no_dp"):
        write_raw_rows(run.path(f"synthetic_{arm}"), [record(num, text, arm) for num, text in enumerate(texts)])
        log = [{"step": s, "loss": 4.0 - s / 10 if s != 2 else None, "num_records": 8, "tokens": 90, "secs": 1.5} for s in range(1, 6)]
        gradients = {"clipped_frac": 0.5, "sum_norm": 3.0, "update_norm": 4.0} if arm == "with_dp" else {"clipped_frac": None}
        write_rows(run.path(f"train_metrics_{arm}"), [row | gradients for row in log])
    write_json(
        run.path("privacy_metrics"),
        [metric("privacy", "ngram_overlap_frac", arm, value, direction="lower", reference=value / 2) for arm, value in (("no_dp", 0.4), ("with_dp", 0.2))],
    )
    write_json(run.path("fidelity_metrics"), [metric("fidelity", "frechet_distance", "with_dp", 0.25, ci95=None, direction="lower")])
    arms = (("real", 0.868), ("no_dp", 0.841), ("with_dp", 0.812))
    write_json(run.path("utility_metrics"), [metric("utility", "tstr_accuracy_score", arm, value) for arm, value in arms])
    left = {"family": "fidelity", "arm": None, "reason": "because <i>so</i>"}
    others = [left | {"name": "mauve_score", "arm": "with_dp"}, left | {"family": "utility", "name": "downstream_llm_accuracy_score", "reason": "no model"}]
    write_json(run.path("left_out"), [left | {"name": "facts_correct_frac"}, *others])
    cosines = {"real": [0.7, 0.8], "no_dp": [0.5], "with_dp": [0.4, 0.6]}
    places = {arm: [[0.1, 0.2], [0.3, 0.9]] for arm in cosines}
    words = {"words": ["the", HOSTILE[0]], "test": [60.0, 2.0], "sets": {arm: [50.0, 1.0] for arm in cosines}}
    write_json(run.path("figure_data"), {"nearest_neighbours": cosines, "embedding_map": places, "word_shares": words})
    judged = {"num_raters": 1, "num_judged": {"real": 2, "with_dp": 3}, "categories": {"good": "Good"}, "counts": {"real": {"good": 2}, "with_dp": {"good": 1}}}
    write_json(run.path("human_summary"), judged)
    human = {"value": 0.33, "ci95": [0.1, 0.6], "reference": 1.0}
    write_json(run.path("human_metrics"), [metric("human", "human_good_frac", "with_dp", **human)])
    write_json(run.path("ingest_counts"), {"num_rows": 1234, "num_kept": 1200, "rejects": {"empty_text": 34}, "sources": ["reviews.csv"]})
    parts = {"train": 70, "heldout": 15, "test": 15}
    write_json(run.path("records_counts"), {"privacy_unit": "user", "num_units": parts, "num_records": parts, "unit_note": "Split by user."})
    write_json(run.path("generate_counts"), {arm: {"num_records": 10, "num_draws": 17, "num_redrawn": 7} for arm in ("with_dp", "no_dp")})
    release = run.path("release")
    release.mkdir()
    (release / "README.md").write_text("what this is\n")
    (release / "certificate.json").write_text("{}\n")
    return copy.deepcopy(CERTIFICATE) | {"files": {"README.md": hash_path(release / "README.md")}}


@dataclass
class StandardPage:
    """The page of the whole run, drawn once a session: drawing takes two seconds."""

    run: RunDir
    html: str
    figures: dict[str, PageFigure]


@pytest.fixture(scope="session")
def standard(tmp_path_factory: pytest.TempPathFactory) -> StandardPage:
    run, drawn = RunDir(tmp_path_factory.mktemp("standard")), {}

    def draw_and_keep(*args: Any) -> dict[str, PageFigure]:
        drawn.update(draw_page_figures(*args))
        return drawn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("penname.report.build.draw_page_figures", draw_and_keep)
        run_report_page(load_config(), run, certificate=write_run(run))
    return StandardPage(run, run.path("report").read_text(encoding="utf-8"), drawn)


@pytest.fixture
def certificate() -> dict[str, Any]:
    return copy.deepcopy(CERTIFICATE)


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "run")


@pytest.fixture
def build_drawn(run_dir: RunDir) -> Callable[..., str]:
    """Builds the page of the whole run, with settings and certificate keys replaced, and returns its HTML."""
    certificate = write_run(run_dir)

    def build_page(*settings: str, config: Config | None = None, **changes: Any) -> str:
        run_report_page(config or load_config(None, list(settings)), run_dir, certificate=certificate | changes)
        return run_dir.path("report").read_text(encoding="utf-8")

    return build_page


@pytest.fixture
def build(build_drawn: Callable[..., str], standard: StandardPage, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """As `build_drawn`, with the figures of the standard page: for tests that are not about figures."""
    monkeypatch.setattr("penname.report.build.draw_page_figures", lambda *_: standard.figures)
    return build_drawn
