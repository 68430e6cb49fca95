"""The certificate: what is promised, what was spent and on what, and the hashes of what may be given away. And its verification."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from penname.privacy.accounting import METHOD, accountant_version, compute_epsilon, compute_epsilon_rdp
from penname.privacy.errors import PrivacyError
from penname.privacy.ledger import Ledger
from penname.privacy.unit import UNIT_DEFINITIONS

SCHEMA_VERSION = 1
SELF_CHECKS = ("only_adapters_train", "batch_mates", "sensitivity", "noise", "sampler", "adapters_moved")
"""What must have passed before anything is released."""
CERTIFICATE_NAME = "certificate.json"
LEDGER_NAME = "ledger.jsonl"

NOT_COVERED = (
    "Whoever has the run folder: it holds the private data itself.",
    "People whom somebody else wrote about, and groups whose members write alike: the guarantee is for one unit.",
    "Side channels (time, memory, power) of the machine that trained, and whether a run ended or stopped with an error.",
    "Floating point: noise is summed from four draws as a mitigation, but a proof for exact arithmetic does not carry over bit by bit. "
    "The rounding of a record's gradient depends a little on the records it is computed with, most where the base model is in bfloat16.",
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
    certificate |= {
        "self_checks": [dict(check) for check in self_checks],
        "assumed_public": list(assumed_public),
        "not_covered": list(NOT_COVERED),
        "files": dict(files),
        "versions": dict(versions),
        "machine": machine,
    }
    return certificate | {"sha256": _hash(certificate)}


def _hash(certificate: Mapping[str, Any]) -> str:
    """Of everything but the hash itself. Who edits with intent can compute it anew; it finds damage and slips."""
    body = {name: value for name, value in certificate.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _find_obstacles(ledger: Ledger | None, self_checks: Sequence[Mapping[str, Any]]) -> list[str]:
    if ledger is None:
        return ["no arm was trained with differential privacy"]
    reasons: list[str] = []
    if ledger.promise.noise_source != "operating_system":
        reasons.append("sampling and noise come from a seed: whoever knows it can subtract the noise")
    if ledger.epsilon_spent() > ledger.promise.target_epsilon:
        reasons.append("more was spent than promised")
    if not ledger.entries:
        reasons.append("nothing was charged to the ledger")
    reasons.extend(f"self-check {check['name']} failed" for check in self_checks if check["passed"] is not True)
    reasons.extend(f"self-check {name} was not made" for name in SELF_CHECKS if name not in {check["name"] for check in self_checks})
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
    path = folder / CERTIFICATE_NAME
    certificate = _read_certificate(path)
    _check_files(folder, certificate["files"])
    ledger = Ledger.read(folder / LEDGER_NAME)
    promise = ledger.promise
    _check_statements(path, certificate, ledger)
    if promise.noise_source != "operating_system":
        raise PrivacyError(f"{folder}: is not releasable: its noise comes from a seed")
    _check_self_checks(path, certificate["self_checks"])
    spent = compute_epsilon(ledger.events, delta=promise.delta)
    _check_figure(path, certificate, "epsilon_spent", spent)
    _check_figure(path, certificate, "epsilon_rdp", compute_epsilon_rdp(ledger.events, delta=promise.delta))
    if not ledger.events or not spent <= promise.target_epsilon:
        raise PrivacyError(f"{folder}: the ledger spends epsilon {spent:.4g}, promised is {promise.target_epsilon:g}")
    return (
        f"{len(certificate['files'])} files: epsilon {spent:.4g} of {promise.target_epsilon:g} at delta {promise.delta:g}, "
        f"{promise.neighboring_relation}, for {UNIT_DEFINITIONS[promise.privacy_unit]}"
    )


def _check_statements(path: Path, certificate: Mapping[str, Any], ledger: Ledger) -> None:
    """The certificate says of promise and events what the ledger says."""
    promise = ledger.promise
    stated = {
        "promise": {"target_epsilon": promise.target_epsilon, "delta": promise.delta},
        "privacy_unit": promise.privacy_unit,
        "unit_definition": UNIT_DEFINITIONS[promise.privacy_unit],
        "neighboring_relation": promise.neighboring_relation,
        "noise_source": promise.noise_source,
        "events": [{"name": entry["event_id"], "mechanism": entry["event"]} for entry in ledger.entries],
    }
    for name, value in stated.items():
        if certificate.get(name) != value:
            raise PrivacyError(f"{path}: {name} is not what the ledger says")


def _check_self_checks(path: Path, self_checks: Sequence[Any]) -> None:
    passed: set[str] = set()
    for check in self_checks:
        row = cast("dict[str, Any]", check) if isinstance(check, dict) else {}
        if row.get("passed") is not True:
            raise PrivacyError(f"{path}: self-check {row.get('name') if row else check!r} did not pass")
        passed.add(str(row.get("name")))
    for name in SELF_CHECKS:
        if name not in passed:
            raise PrivacyError(f"{path}: self-check {name} was not made")


def _check_figure(path: Path, certificate: Mapping[str, Any], name: str, recomputed: float) -> None:
    stated = certificate.get(name)
    # The accountant's own rounding differs between versions and machines in the last digits.
    if not isinstance(stated, int | float) or isinstance(stated, bool) or not math.isclose(stated, recomputed, rel_tol=1e-6, abs_tol=1e-9):
        raise PrivacyError(f"{path}: {name} is {stated!r}, the ledger's events give {recomputed}")


def _read_certificate(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        certificate = json.loads(text)
        # One form only: a second value under the same key, say, would be read by another program than ours.
        is_ours = text == json.dumps(certificate, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except FileNotFoundError:
        raise PrivacyError(f"{path.parent}: holds no {CERTIFICATE_NAME}; give the release folder, or a run that has one") from None
    except (OSError, ValueError, RecursionError):
        raise PrivacyError(f"{path}: is damaged (not valid JSON)") from None
    if not isinstance(certificate, dict) or "schema_version" not in certificate:
        raise PrivacyError(f"{path}: lacks fields of a certificate")
    certificate = cast("dict[str, Any]", certificate)
    if certificate["schema_version"] != SCHEMA_VERSION:
        raise PrivacyError(f"{path}: has schema version {certificate['schema_version']!r}, this penname reads {SCHEMA_VERSION}")
    if not is_ours or certificate.get("sha256") != _hash(certificate):
        raise PrivacyError(f"{path}: was edited: it does not have the form or the hash that it states")
    reasons = certificate.get("not_releasable_because")
    if certificate.get("releasable") is not True or reasons != []:
        raise PrivacyError(f"{path.parent}: is not releasable: {'; '.join(map(str, cast('list[Any]', reasons))) if isinstance(reasons, list) else reasons}")
    if not isinstance(certificate.get("files"), dict) or not isinstance(certificate.get("self_checks"), list):
        raise PrivacyError(f"{path}: lacks fields of a certificate")
    return certificate


def _check_files(folder: Path, files: Mapping[str, Any]) -> None:
    present: set[str] = set()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        # A link would certify what lies elsewhere and can change there.
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise PrivacyError(f"{path}: is a link or a special file; a release holds plain files only")
        if path.is_file():
            present.add(name)
        elif not any(file.startswith(f"{name}/") for file in files):
            raise PrivacyError(f"{path}: is not in the certificate; nothing else may be in this folder")
    present.discard(CERTIFICATE_NAME)
    for name in sorted(set(files) - present):
        raise PrivacyError(f"{folder / name}: is in the certificate and missing from the folder")
    for name in sorted(present - set(files)):
        raise PrivacyError(f"{folder / name}: is not in the certificate; nothing else may be in this folder")
    for name, sha256 in files.items():
        with open(folder / name, "rb") as handle:
            if hashlib.file_digest(handle, "sha256").hexdigest() != sha256:
                raise PrivacyError(f"{folder / name}: has changed since it was certified")
