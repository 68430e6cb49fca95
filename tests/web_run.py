"""A run folder as the stages leave it, written by hand: what the web pages show, without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from penname.config import Config
from penname.pipeline import STAGE_NAMES
from penname.run_dir import RunDir, write_json, write_rows

SCRIPT = "<script>document.title = 'taken over'; fetch('http://198.51.100.7/')</script><img src=x onerror=\"document.title='taken over'\">"
LONG = "long words that go on and on. " * 667  # 20,010 characters
CERTIFICATE: dict[str, Any] = {
    "promise": {"target_epsilon": 8.0, "delta": 1e-5},
    "epsilon_spent": 7.9871,
    "privacy_unit": "user",
    "noise_source": "operating_system",
    "releasable": True,
    "not_releasable_because": [],
    "self_checks": [],
}
_WORDS = "case charger holds fits broke after one week love the colour cheap cable bright screen cover phone drops battery lasts small good"


def make_text(label: str, place: int) -> str:
    """A text of its own for every record, made of ordinary words."""
    known = _WORDS.split()
    words = [known[(place * 7 + step * (3 + place % 5)) % len(known)] for step in range(12)]
    return f"The {' '.join(words)}. Number {label}{place}."


def make_record(label: str, place: int, **other: Any) -> dict[str, Any]:
    """One record of a set."""
    row = {"record_id": f"{label}-{place}", "rating": place % 5 + 1, "category": ("Cases", "Chargers & <b>cables</b>")[place % 2]}
    row |= {"product_title": f"Product {place % 7}", "title": f"Title {place}", "text": make_text(label, place)}
    return row | ({"arm": label, "finish_reason": "stop", "num_draws": 1} if label in ("with_dp", "no_dp") else {}) | other


def make_metric(family: str, name: str, arm: str, value: float, **other: Any) -> dict[str, Any]:
    """One row of a metrics file."""
    row = {"family": family, "name": name, "arm": arm, "value": value, "ci95": [value - 0.02, value + 0.02], "reference": 0.9, "direction": "higher"}
    return row | {"visibility": "PRIVATE", "num_records": 12, "source": "a paper"} | other


def write_web_run(root: Path, *, num: int = 24, done: tuple[str, ...] = STAGE_NAMES, shift: float = 0.0, **settings: Any) -> RunDir:
    """Writes the run; the first records of each set are hostile or long.

    Args:
      root: The folder.
      num: Records of each set.
      done: Stages that are done; the next one is begun.
      shift: Added to the utility metric.
      settings: Sections of the config.
    """
    run = RunDir(root)
    run.create()
    config = Config.model_validate({"generate": {"num_records": num}, "train": {"num_steps": 6}, **settings})
    hostile = ({"text": SCRIPT, "title": SCRIPT}, {"text": LONG}, {"text": "so good so good so good so good", "title": ""})
    for name, label in (("train_records", "train"), ("heldout_records", "heldout"), ("test_records", "test")):
        write_rows(run.path(name), (make_record(label, place, **(hostile[place] if place < 3 else {})) for place in range(num)))
    for arm in ("with_dp", "no_dp") if "generate" in done else ():
        write_rows(run.path(f"synthetic_{arm}"), (make_record(arm, place, **(hostile[place] if place < 3 else {})) for place in range(num)))
    for arm in ("with_dp", "no_dp"):
        steps = range(6 if "train" in done else 3)
        write_rows(run.path(f"train_metrics_{arm}"), ({"step": step, "loss": 4.0 - step / 5, "tokens": 90, "secs": 1.0} for step in steps))
    if "evaluate" in done:
        arms = (("real", 0.87), ("no_dp", 0.84), ("with_dp", 0.81 + shift))
        write_json(run.path("utility_metrics"), [make_metric("utility", "tstr_accuracy_score", arm, value) for arm, value in arms])
    if "report" in done:
        write_json(run.path("certificate"), CERTIFICATE)
        run.path("report").write_text("<!DOCTYPE html><html lang=en><title>Report</title><h1>The report</h1>", encoding="utf-8")
    stages = {stage: {"status": "done"} for stage in done}
    stages |= {stage: {"status": "started"} for stage in STAGE_NAMES[len(done) : len(done) + 1]}
    run.write_manifest(run.read_manifest() | {"stages": stages, "config": json.loads(config.model_dump_json())})
    return run
