"""The stage: every attack on what the twin wrote and on its models, and the verdict on the claim."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from penname.audit.attacks.bounds import find_bounds
from penname.audit.attacks.exposure import find_exposure
from penname.audit.attacks.leaks import find_leaks
from penname.audit.attacks.membership import find_echoes, find_membership
from penname.audit.attacks.originals import find_originals
from penname.audit.attacks.text_metrics import measure_texts
from penname.audit.evidence import Evidence
from penname.audit.findings import Findings
from penname.config import Config
from penname.privacy.ledger import Ledger
from penname.progress import show_progress
from penname.records.canaries import count_canary_units
from penname.run_dir import RunDir, write_json

SCHEMA_VERSION = 1

Attack = Callable[[Evidence, Findings], None]
_ATTACKS: tuple[tuple[str, Attack], ...] = (
    ("leaks", find_leaks),
    ("exposure", find_exposure),
    ("membership", find_membership),
    ("echoes", find_echoes),
    ("lower bounds", find_bounds),
)


def run_attack(config: Config, run_dir: RunDir) -> None:
    """Writes the artefacts privacy_metrics, attacks and left_out. A claim that does not hold is written there, not raised.

    Args:
      config: Sections `audit`, `evaluate`, `privacy`.
      run_dir: The audit; its twin has written, and its models were asked.
    """
    evidence, findings = Evidence(config, run_dir), Findings()
    attacks = _ATTACKS if config.audit.original_shares is None else (("strings", find_originals),)
    with show_progress("attack", len(attacks)) as progress:
        for name, attack in attacks:
            attack(evidence, findings)
            progress.advance(note=name)
    findings.say_left_out()
    if config.audit.original_shares is None:
        # It says itself what it leaves out.
        measure_texts(evidence, findings)
    found = {
        "schema_version": SCHEMA_VERSION,
        "experiment": "canaries" if config.audit.original_shares is None else "original",
        "arms": evidence.arms,
        "promise": _describe_promise(evidence),
        "canaries": _count_canaries(evidence) if config.audit.original_shares is None else [],
        "tables": findings.tables,
        "failures": findings.failures,
    }
    write_json(run_dir.path("privacy_metrics"), findings.rows)
    write_json(run_dir.path("left_out"), findings.left_out)
    write_json(run_dir.path("attacks"), found)


def _describe_promise(evidence: Evidence) -> dict[str, Any]:
    privacy, counts = evidence.config.privacy, evidence.counts
    spent = [Ledger.read(twin.run_dir.path("ledger")).epsilon_spent() for twin in evidence.twins] if "with_dp" in evidence.arms else []
    return {
        "target_epsilon": privacy.target_epsilon if spent else None,
        "delta": privacy.delta,
        "epsilon_spent": max(spent, default=None),
        "privacy_unit": counts["privacy_unit"],
        "unit_column": counts["unit_column"],
        "max_records_per_unit": counts["max_records_per_unit"],
        "num_train_records": counts["num_records"]["train"],
    }


def _count_canaries(evidence: Evidence) -> list[dict[str, int]]:
    """By repetition: drawn, planted, and the units that carry one."""
    bound = evidence.counts["max_records_per_unit"]
    rows: list[dict[str, int]] = []
    for repetition in sorted({canary.num_repetitions for canary in evidence.canaries}):
        own = [canary for canary in evidence.canaries if canary.num_repetitions == repetition]
        units = count_canary_units(own[0], max_records_per_unit=bound)
        rows.append({"num_repetitions": repetition, "num_canaries": len(own), "num_in": sum(canary.is_in for canary in own), "num_units": units})
    return rows
