"""The certificate: what is promised, what was spent and on what, and the hashes of what may be given away. And its verification."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from penname.privacy.accounting import METHOD, accountant_version, compute_epsilon, compute_epsilon_rdp
from penname.privacy.errors import PrivacyError
from penname.privacy.ledger import Ledger
from penname.privacy.unit import UNIT_DEFINITIONS

SCHEMA_VERSION = 1
CERTIFICATE_NAME = "certificate.json"
LEDGER_NAME = "ledger.jsonl"

NOT_COVERED = (
    "Whoever has the run folder: it holds the private data itself.",
    "People whom somebody else wrote about, and groups whose members write alike: the guarantee is for one unit.",
    "Side channels (time, memory, power) of the machine that trained.",
    "Floating point: noise is summed from four draws as a mitigation, but a proof for exact arithmetic does not carry over bit by bit.",
    "What the base model knew before: its pre-training data is taken as public.",
)


def build_certificate(
    ledger: Ledger | None,
    *,
    assumed_public: Sequence[str],
    files: Mapping[str, str],
    self_checks: Sequence[Mapping[str, Any]],
    versions: Mapping[str, str],
    machine: str,
) -> dict[str, Any]:
    """Builds the certificate of a run from its ledger and from nothing else that could be edited.

    Args:
      ledger: None when no private arm was trained: then nothing is promised and nothing may be released.
      assumed_public: What the guarantee takes as known to everybody.
      files: Relative path -> SHA-256 of every released file.
      self_checks: name, passed, detail.
      versions: Of the programs involved.
      machine: In words.
    Returns:
      A JSON object; its keys are documented in docs/certificate.md. RELEASABLE.
    """
    reasons = _find_obstacles(ledger, self_checks)
    certificate: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "releasable": not reasons, "not_releasable_because": reasons}
    if ledger is not None:
        promise = ledger.promise
        certificate |= {
            "promise": {"target_epsilon": promise.target_epsilon, "delta": promise.delta},
            "privacy_unit": promise.privacy_unit,
            "unit_definition": UNIT_DEFINITIONS[promise.privacy_unit],
            "neighboring_relation": promise.neighboring_relation,
            "noise_source": promise.noise_source,
            "events": [{"name": entry["event_id"], "mechanism": entry["event"]} for entry in ledger.entries],
            "epsilon_spent": ledger.epsilon_spent(),
            "epsilon_method": METHOD,
            "epsilon_rdp": compute_epsilon_rdp(ledger.events, delta=promise.delta),
            "accountant": {"name": "dp-accounting", "version": accountant_version()},
        }
    else:
        certificate |= {"promise": None, "events": [], "epsilon_spent": None}
    return certificate | {
        "self_checks": [dict(check) for check in self_checks],
        "assumed_public": list(assumed_public),
        "not_covered": list(NOT_COVERED),
        "files": dict(files),
        "versions": dict(versions),
        "machine": machine,
    }


def _find_obstacles(ledger: Ledger | None, self_checks: Sequence[Mapping[str, Any]]) -> list[str]:
    if ledger is None:
        return ["no arm was trained with differential privacy"]
    reasons = []
    if ledger.promise.noise_source != "operating_system":
        reasons.append("sampling and noise come from a seed: whoever knows it can subtract the noise")
    if ledger.epsilon_spent() > ledger.promise.target_epsilon:
        reasons.append("more was spent than promised")
    reasons.extend(f"self-check {check['name']} failed" for check in self_checks if not check["passed"])
    return reasons


def verify_release(folder: Path) -> str:
    """Checks a release folder against its own certificate and ledger; needs no model, no GPU and no private data.

    Args:
      folder: With certificate.json, ledger.jsonl and the released files.
    Returns:
      One line: what is certified, and for whom.
    Raises:
      PrivacyError: the first thing that does not hold.
    """
    certificate = _read_certificate(folder / CERTIFICATE_NAME)
    _check_files(folder, certificate["files"])
    ledger = Ledger.read(folder / LEDGER_NAME)
    promise, events = ledger.promise, [{"name": entry["event_id"], "mechanism": entry["event"]} for entry in ledger.entries]
    stated = {
        "promise": {"target_epsilon": promise.target_epsilon, "delta": promise.delta},
        "privacy_unit": promise.privacy_unit,
        "unit_definition": UNIT_DEFINITIONS.get(promise.privacy_unit),
        "neighboring_relation": promise.neighboring_relation,
        "noise_source": promise.noise_source,
        "events": events,
    }
    for name, value in stated.items():
        if certificate.get(name) != value:
            raise PrivacyError(f"{folder / CERTIFICATE_NAME}: {name} is not what the ledger says")
    if not certificate["releasable"] or certificate["not_releasable_because"] or promise.noise_source != "operating_system":
        raise PrivacyError(f"{folder}: is not releasable: {'; '.join(certificate['not_releasable_because']) or 'its noise comes from a seed'}")
    failed = [check["name"] for check in certificate["self_checks"] if check["passed"] is not True]
    if failed:
        raise PrivacyError(f"{folder / CERTIFICATE_NAME}: self-check {failed[0]} did not pass")
    spent = compute_epsilon(ledger.events, delta=promise.delta)
    # The accountant's own rounding differs between versions and machines in the last digits.
    if not math.isclose(spent, certificate["epsilon_spent"], rel_tol=1e-6, abs_tol=1e-9):
        raise PrivacyError(f"{folder / CERTIFICATE_NAME}: epsilon_spent is {certificate['epsilon_spent']}, the ledger's events give {spent}")
    if not events or spent > promise.target_epsilon:
        raise PrivacyError(f"{folder}: the ledger spends epsilon {spent:.4g}, promised is {promise.target_epsilon:g}")
    return (
        f"{len(certificate['files'])} files: epsilon {spent:.4g} of {promise.target_epsilon:g} at delta {promise.delta:g}, "
        f"{promise.neighboring_relation}, for {UNIT_DEFINITIONS[promise.privacy_unit]}"
    )


_NEEDED = {"schema_version", "releasable", "not_releasable_because", "promise", "events", "epsilon_spent", "files", "self_checks"}


def _read_certificate(path: Path) -> dict[str, Any]:
    try:
        certificate = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PrivacyError(f"{path.parent}: holds no {CERTIFICATE_NAME}; give the release folder, or a run that has one") from None
    except (OSError, ValueError):
        raise PrivacyError(f"{path}: is damaged (not valid JSON)") from None
    if not isinstance(certificate, dict) or _NEEDED - set(certificate):
        raise PrivacyError(f"{path}: lacks fields of a certificate")
    if certificate["schema_version"] != SCHEMA_VERSION:
        raise PrivacyError(f"{path}: has schema version {certificate['schema_version']!r}, this penname reads {SCHEMA_VERSION}")
    return certificate


def _check_files(folder: Path, files: Mapping[str, str]) -> None:
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {CERTIFICATE_NAME}
    for name in sorted(set(files) - present):
        raise PrivacyError(f"{folder / name}: is in the certificate and missing from the folder")
    for name in sorted(present - set(files)):
        raise PrivacyError(f"{folder / name}: is not in the certificate; nothing else may be in this folder")
    for name, sha256 in files.items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != sha256:
            raise PrivacyError(f"{folder / name}: has changed since it was certified")
