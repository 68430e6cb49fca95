"""The twin run: trained on a copy of the records with canaries in it, written by the stages of any run, and never released."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from penname.config import Config
from penname.pipeline import STAGES, Stage, run_in_order
from penname.run_dir import RunDir, hash_value, read_json, read_rows, write_atomic, write_json

TWINS_FOLDER = "twins"
PLANTED_NAME = "with_canaries"
"""The twin, and the file of its training records, of the audit with canaries; that of a share is called as the original's file is."""

_COPY = Stage("copy", "penname.audit.twins", "run_copy", (), ("planted_records",), ("train_records", "records_counts", "catalogue"), is_frozen=True)
TWIN_STAGES = (_COPY, *(stage for stage in STAGES if stage.name in ("train", "generate")))


@dataclass(frozen=True)
class Twin:
    """One twin run of an audit."""

    name: str
    run_dir: RunDir
    share: float | None
    """Of the original's experiment: the share of the reviews that hold the string."""


def list_twins(config: Config, run_dir: RunDir) -> list[Twin]:
    """One, or one a share of the original's experiment.

    Args:
      config: Section `audit`.
      run_dir: The audit.
    """
    shares = config.audit.original_shares
    names: list[tuple[str, float | None]] = [(PLANTED_NAME, None)] if shares is None else [(f"amazon_train_canary_{100 * share:g}", share) for share in shares]
    return [Twin(name, RunDir(run_dir.root / TWINS_FOLDER / name), share) for name, share in names]


def config_of_twin(config: Config) -> Config:
    """The run's own settings, but that the data set's ledger is left alone, and no texts are written that no attack reads."""
    privacy = config.privacy.model_copy(update={"ledger": None, "ledger_epsilon": None})
    return config.model_copy(update={"privacy": privacy, "generate": config.generate.model_copy(update={"num_base_records": 0})})


def run_twin(config: Config, run_dir: RunDir, twin: Twin, *, after_stage: Callable[[], None]) -> bool:
    """Copies, trains and writes, each only where something changed.

    Args:
      config: Of the audit.
      run_dir: The audit, locked; its canaries are planted.
      twin: Which.
      after_stage: Called after each stage that ran.
    Returns:
      Whether anything ran.
    """
    twin.run_dir.create("twin")
    planted = run_dir.read_manifest()["stages"]["plant"]["outputs"]["planted_records"]["sha256"]
    names = [stage.name for stage in TWIN_STAGES]
    return run_in_order(config_of_twin(config), twin.run_dir, TWIN_STAGES, names, outside={"planted_records": planted}, after_stage=after_stage)


def run_copy(config: Config, run_dir: RunDir) -> None:
    """The first stage of a twin: takes from its audit what training and generation read.

    Args:
      config: Not used; every stage gets it.
      run_dir: The twin, in the folder of its audit.
    """
    audit = RunDir(run_dir.root.parent.parent)
    planted = audit.path("planted_records") / f"{run_dir.root.name}.jsonl"
    for source, name in ((planted, "train_records"), (audit.path("catalogue"), "catalogue")):
        with open(source, "rb") as read, write_atomic(run_dir.path(name), "wb") as written:
            shutil.copyfileobj(read, written)
    counts = read_json(audit.path("records_counts"))
    units = [row["unit_id"] for row in read_rows(run_dir.path("train_records"))]
    counts["num_records"]["train"], counts["num_units"]["train"] = len(units), len(set(units))
    write_json(run_dir.path("records_counts"), counts)


def hash_twins(twins: Sequence[Twin]) -> str:
    """Hash of all that the twins wrote, as their manifests have it."""
    found: dict[str, str] = {}
    for twin in twins:
        for stage, entry in twin.run_dir.read_manifest()["stages"].items():
            found |= {f"{twin.name}/{stage}/{name}": output["sha256"] for name, output in entry["outputs"].items()}
    return hash_value(found)
