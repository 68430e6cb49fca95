"""The audit in order: data, canaries, the twin run, questions to its models, attacks, the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from penname.audit.twins import TWINS_FOLDER, hash_twins, list_twins, run_twin
from penname.config import Config
from penname.errors import UsageError
from penname.evaluate.privacy.errors import AuditFailureError
from penname.pipeline import STAGES, Stage, run_in_order
from penname.progress import say
from penname.run_dir import ARTEFACTS, RunDir, read_json

DEFAULT_CONFIG = Path(__file__).with_name("default.yaml")
"""What `penname audit` without a config runs: the fictional marketplace, small enough for two cores and half an hour."""

_INGEST, _RECORDS = (stage for stage in STAGES if stage.name in ("ingest", "records"))
_PLANT = Stage(
    "plant",
    "penname.audit.plant",
    "run_plant",
    ("records", "privacy.noise_seed", *(f"audit.{key}" for key in ("canaries", "kinds", "with_original", "original_shares", "seed"))),
    ("train_records", "heldout_records", "test_records", "records_counts"),
    ("canaries", "planted_records"),
    is_frozen=True,
)
_PROBE = Stage(
    "probe",
    "penname.audit.probe",
    "run_probe",
    ("audit", "model", "generate", "train.max_record_tokens"),
    ("train_records", "heldout_records", "canaries", "twins"),
    ("prompted_texts", "likelihoods"),
)
_ATTACK = Stage(
    "attack",
    "penname.audit.attack",
    "run_attack",
    ("audit", "evaluate", "privacy"),
    ("train_records", "heldout_records", "test_records", "canaries", "planted_records", "twins", "prompted_texts", "likelihoods"),
    ("privacy_metrics", "attacks", "left_out"),
)
_REPORT = Stage(
    "report",
    "penname.report.audit_report",
    "run_audit_report",
    ("report", "audit"),
    ("privacy_metrics", "attacks", "left_out"),
    ("metrics", "figures", "report"),
)


def list_stages(config: Config) -> tuple[Stage, ...]:
    """The stages of the audit folder; the original's experiment counts strings, and asks no model anything."""
    asked = () if config.audit.original_shares is not None else (_PROBE,)
    return (_INGEST, _RECORDS, _PLANT, *asked, _ATTACK, _REPORT)


def run_audit(config: Config, root: Path, *, after_stage: Callable[[], None] | None = None) -> bool:
    """Runs the audit in the folder `root`, each stage only where something changed; stopped, it goes on where it was.

    Guarantee: canaries are planted in a copy of the training records, inside the audit folder; no run folder is read or changed, and nothing under `root`
    can be released. The data set's ledger (`privacy.ledger`) is not charged.

    Args:
      config: Of the run that is audited, and section `audit`.
      root: The audit folder; made when there is none. PRIVATE.
      after_stage: Called after each stage that ran, unless the secret key of a twin lies in the folder.
    Returns:
      Whether anything ran. What was found is said by `check_verdict`.
    Raises:
      UsageError: the folder holds a run, or another audit.
      RunDirError: another process works in it, or a file is damaged.
      DataError: there are no words to make canaries of.
    """
    run_dir = RunDir(root)
    run_dir.create("audit")
    if config.privacy.ledger is not None:
        say("audit: privacy.ledger is not charged: the twin is accounted in a ledger of its own, and nothing of an audit is released")
    stages = list_stages(config)
    names = [stage.name for stage in stages]

    def bring() -> None:
        if after_stage is not None and not any(root.glob(f"{TWINS_FOLDER}/*/{ARTEFACTS['noise_key'].path}")):
            after_stage()

    with run_dir.lock():
        has_run = run_in_order(config, run_dir, stages, names[:3], after_stage=bring)
        for twin in list_twins(config, run_dir):
            has_run = run_twin(config, run_dir, twin, after_stage=bring) or has_run
        outside = {"twins": hash_twins(list_twins(config, run_dir))}
        return run_in_order(config, run_dir, stages, names[3:], outside=outside, after_stage=bring) or has_run


def check_verdict(root: Path) -> None:
    """Says aloud what an audit found against the claim.

    Args:
      root: A finished audit.
    Raises:
      AuditFailureError: a lower bound is above the claimed epsilon.
    """
    failures = read_json(RunDir(root).path("attacks"))["failures"]
    if failures:
        raise AuditFailureError(f"{failures[0]}{f' (and {len(failures) - 1} more)' if failures[1:] else ''}; see {RunDir(root).path('report')}")


def check_launch(num_ranks: int) -> None:
    """An audit trains in this process, or on Ray.

    Raises:
      UsageError: torchrun started several.
    """
    if num_ranks > 1:
        raise UsageError("penname audit: runs in one process; start it without torchrun, or share the training out with engine=ray")
