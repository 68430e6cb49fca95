"""The certificate: what is promised, what was spent and on what, and the hashes of what may be given away. And its verification."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from penname.privacy.accounting import METHOD, METHOD_WITH_DRAWS, accountant_version, describe_method
from penname.privacy.errors import PrivacyError, show_value
from penname.privacy.ledger import COUNT_ID, HISTOGRAM_ID, TRAINING_ID, Ledger
from penname.privacy.unit import define_unit

SCHEMA_VERSION = 2
SELF_CHECKS = ("only_adapters_train", "batch_mates", "sensitivity", "noise", "sampler", "adapters_moved")
"""What must have passed before anything is released."""
CERTIFICATE_NAME = "certificate.json"
LEDGER_NAME = "ledger.jsonl"
DATA_SET_LEDGER_NAME = "data_set_ledger.jsonl"
_ACCOUNTANT = "dp-accounting"
_NEEDED_VERSIONS = ("penname", "python", "torch", _ACCOUNTANT)
_EVENT_TYPES = {COUNT_ID: {"gaussian"}, TRAINING_ID: {"poisson_sampled_gaussian", "exponential"}, HISTOGRAM_ID: {"gaussian"}}
"""A release is made of these events, each once."""
_MAX_BYTES = 4 * 1024 * 1024

NOT_COVERED = (
    "Whoever has the run folder: it holds the private data itself.",
    "People whom somebody else wrote about, and groups whose members write alike: the guarantee is for one unit.",
    "Side channels (time, memory, power) of the machine that trained, and whether a run ended or stopped with an error.",
    "Floating point of the noise: it is summed from four draws as a remedy against known attacks, but a proof for exact arithmetic does not carry over. "
    "(What a unit adds to a sum is the same bits beside any other units, and the rounding of sums is within the clip norm.)",
    "What the base model knew before: its pre-training data is taken as public.",
)
_OTHER_RUNS = "Other runs on the same data: this one is accounted alone, without a data set's ledger, and what others spend adds up."
_OTHER_USES = "Uses of the same data that are not charged to the data set's ledger: what they spend adds up."

# Relative difference of a stated figure from the recomputed one that rounding explains: of the same accountant, and of two versions of it.
_SAME_VERSION_TOLERANCE, _OTHER_VERSION_TOLERANCE = 1e-6, 0.05


def build_certificate(
    ledger: Ledger | None,
    *,
    data_set: Ledger | None = None,
    obstacles: Sequence[str] = (),
    assumed_public: Sequence[str],
    files: Mapping[str, str],
    self_checks: Sequence[Mapping[str, Any]],
    versions: Mapping[str, str],
    machine: str,
) -> dict[str, Any]:
    """Builds the certificate of a run from its ledger and from nothing else that could be edited.

    Args:
      ledger: None when no private arm was trained: then nothing is promised and nothing may be released.
      data_set: The ledger of the data set as it is now, where the run shares one.
      obstacles: Reasons not to release that only the run folder shows, in sentences.
      assumed_public: What the guarantee takes as known to everybody.
      files: Relative path -> SHA-256 of every released file.
      self_checks: name, passed, detail.
      versions: Of the programs involved.
      machine: In words.
    Returns:
      A JSON object; its keys are documented in docs/certificate.md. RELEASABLE.
    """
    spent, all_spent = (one.epsilon_spent() if one else None for one in (ledger, data_set))
    reasons = [*_find_obstacles(ledger, spent, data_set, all_spent, self_checks), *obstacles]
    certificate: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "releasable": not reasons, "not_releasable_because": reasons}
    certificate |= _state_promise(ledger)
    certificate |= {
        "epsilon_spent": _finite(spent),
        "epsilon_method": describe_method([event for _, event in ledger.named_events] if ledger else []),
        "epsilon_rdp": _finite(ledger.epsilon_rdp()) if ledger else None,
        "accountant": {"name": _ACCOUNTANT, "version": accountant_version()},
        "data_set": _describe_data_set(data_set, all_spent) if data_set else None,
        "self_checks": [dict(check) for check in self_checks],
        "assumed_public": list(assumed_public),
        "not_covered": _list_not_covered(has_data_set=data_set is not None),
        "files": dict(files),
        "versions": dict(versions),
        "machine": machine,
    }
    return certificate | {"sha256": _hash(certificate)}


def list_files(certificate: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
    """The same certificate for these files: relative path -> SHA-256."""
    listed = {**certificate, "files": dict(files)}
    return {**listed, "sha256": _hash(listed)}


def _state_promise(ledger: Ledger | None) -> dict[str, Any]:
    """What the certificate repeats of the ledger; null throughout where there is none."""
    if ledger is None:
        names = ("promise", "privacy_unit", "unit_column", "unit_definition", "neighboring_relation", "noise_source")
        return {**dict.fromkeys(names), "events": []}
    promise = ledger.promise
    return {
        "promise": {"target_epsilon": promise.target_epsilon, "delta": promise.delta},
        "privacy_unit": promise.privacy_unit,
        "unit_column": promise.unit_column,
        "unit_definition": define_unit(promise.privacy_unit, promise.unit_column),
        "neighboring_relation": promise.neighboring_relation,
        "noise_source": promise.noise_source,
        "events": [{"name": entry["event_id"], "mechanism": entry["event"]} for entry in ledger.entries],
    }


def _describe_data_set(data_set: Ledger, epsilon_spent: float | None) -> dict[str, Any]:
    promise = data_set.promise
    return {
        "target_epsilon": promise.target_epsilon,
        "delta": promise.delta,
        "epsilon_spent": _finite(epsilon_spent),
        "num_events": len(data_set.entries),
    }


def _list_not_covered(*, has_data_set: bool) -> list[str]:
    return [*NOT_COVERED, _OTHER_USES if has_data_set else _OTHER_RUNS]


def _finite(value: float | None) -> float | None:
    """JSON has no infinity."""
    return value if value is not None and math.isfinite(value) else None


def _to_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)


def _hash(certificate: Mapping[str, Any]) -> str:
    """Of everything but the hash itself. Who edits with intent can compute it anew; it finds damage and slips."""
    return hashlib.sha256(_to_json({name: value for name, value in certificate.items() if name != "sha256"}).encode()).hexdigest()


def _find_obstacles(
    ledger: Ledger | None, spent: float | None, data_set: Ledger | None, all_spent: float | None, self_checks: Sequence[Mapping[str, Any]]
) -> list[str]:
    if ledger is None:
        return ["no arm was trained with differential privacy"]
    reasons: list[str] = []
    if ledger.promise.noise_source != "operating_system":
        reasons.append("sampling and noise come from a seed: whoever knows it can subtract the noise")
    if spent is None or not spent <= ledger.promise.target_epsilon:
        reasons.append("more was spent than promised")
    if not ledger.entries:
        reasons.append("nothing was charged to the ledger")
    for find_fault in (lambda: _check_events(ledger), lambda: _check_same_book(ledger, data_set)):
        try:
            find_fault()
        except PrivacyError as error:
            reasons.append(str(error))
    if data_set is not None and (all_spent is None or not all_spent <= data_set.promise.target_epsilon):
        reasons.append("all runs together spent more than the budget of the data set")
    reasons.extend(f"self-check {check['name']} failed" for check in self_checks if check["passed"] is not True)
    reasons.extend(f"self-check {name} was not made" for name in SELF_CHECKS if name not in {check["name"] for check in self_checks})
    return reasons


def _check_events(ledger: Ledger) -> None:
    """A release is made of three events, all under one key."""
    charged = {entry["event_id"]: entry["event"]["type"] for entry in ledger.entries}
    is_complete = set(charged) == set(_EVENT_TYPES) and len(ledger.entries) == len(_EVENT_TYPES)
    if not is_complete or any(kind not in _EVENT_TYPES[name] for name, kind in charged.items()):
        raise PrivacyError(f"the ledger does not hold {', '.join(_EVENT_TYPES)}, each once and nothing else")
    if len({entry["key_commitment"] for entry in ledger.entries}) != 1:
        raise PrivacyError("the ledger holds events of more than one key, so of more than one run")


def _check_same_book(ledger: Ledger, data_set: Ledger | None) -> None:
    """The data set's ledger is the one that the run is charged to, and holds all that the run was charged."""
    if (data_set.heading_sha256 if data_set else None) != ledger.scope.data_set_ledger or ledger.is_of_data_set:
        raise PrivacyError("the ledger of the data set is not the one that the run's ledger names")
    if data_set is None:
        return
    if not data_set.is_of_data_set:
        raise PrivacyError("the ledger of the data set is the ledger of a run")
    for name in ("delta", "privacy_unit", "unit_column", "neighboring_relation", "noise_source"):
        if getattr(data_set.promise, name) != getattr(ledger.promise, name):
            raise PrivacyError(f"the ledger of the data set has another {name} than the run")
    bound = ("event_id", "event", "key_commitment", "inputs_commitment")
    known = {_to_json([entry[name] for name in bound]) for entry in data_set.entries}
    for entry in ledger.entries:
        if _to_json([entry[name] for name in bound]) not in known:
            raise PrivacyError(f"the ledger of the data set lacks {entry['event_id']} of this run")


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
    data_set = Ledger.read(folder / DATA_SET_LEDGER_NAME) if DATA_SET_LEDGER_NAME in certificate["files"] else None
    for name, value in _state_promise(ledger).items():
        if _to_json(certificate[name]) != _to_json(value):
            raise PrivacyError(f"{path}: {name} is not what the ledger says")
    if _to_json(certificate["not_covered"]) != _to_json(_list_not_covered(has_data_set=data_set is not None)):
        raise PrivacyError(f"{path}: not_covered is not what such a certificate says")
    promise = ledger.promise
    if promise.noise_source != "operating_system":
        raise PrivacyError(f"{folder}: is not releasable: its noise comes from a seed")
    try:
        _check_events(ledger)
        _check_same_book(ledger, data_set)
    except PrivacyError as error:
        raise PrivacyError(f"{folder}: is not releasable: {error}") from None
    spent = _recompute(folder / LEDGER_NAME, ledger)
    if certificate["epsilon_method"] != describe_method([event for _, event in ledger.named_events]):
        raise PrivacyError(f"{path}: epsilon_method is not how the epsilon of these events is computed")
    _check_figure(path, certificate, "epsilon_spent", spent)
    _check_figure(path, certificate, "epsilon_rdp", ledger.epsilon_rdp())
    lines = [
        f"{len(certificate['files'])} files: epsilon {spent:.4g} of {promise.target_epsilon:g} at delta {promise.delta:g}, "
        f"{promise.neighboring_relation}, for {define_unit(promise.privacy_unit, promise.unit_column)}",
        _verify_data_set(path, certificate, data_set),
        _compare_versions(certificate),
    ]
    return "; ".join(line for line in lines if line)


def _recompute(path: Path, ledger: Ledger) -> float:
    """What the ledger's events spend, which its promise must cover."""
    spent, promised = ledger.epsilon_spent(), ledger.promise.target_epsilon
    if not spent <= promised:
        raise PrivacyError(f"{path}: its events spend epsilon {spent:.4g}, promised is {promised:g}")
    return spent


def _verify_data_set(path: Path, certificate: Mapping[str, Any], data_set: Ledger | None) -> str:
    """Recomputes what all runs on the data have spent; returns what to say of it."""
    stated = certificate["data_set"]
    if data_set is None:
        if stated is not None:
            raise PrivacyError(f"{path}: data_set has figures, but there is no {DATA_SET_LEDGER_NAME}")
        return ""
    spent = _recompute(path.parent / DATA_SET_LEDGER_NAME, data_set)
    described = _describe_data_set(data_set, spent)
    row = cast("dict[str, Any]", stated) if isinstance(stated, dict) else {}
    if _to_json({**row, "epsilon_spent": None}) != _to_json({**described, "epsilon_spent": None}):
        raise PrivacyError(f"{path}: data_set is not what {DATA_SET_LEDGER_NAME} says")
    _check_figure(path, {**certificate, "data_set.epsilon_spent": row.get("epsilon_spent")}, "data_set.epsilon_spent", spent)
    return f"the data set so far, {len(data_set.entries)} events of all runs: epsilon {spent:.4g} of {data_set.promise.target_epsilon:g}"


def _compare_versions(certificate: Mapping[str, Any]) -> str:
    made, here = certificate["accountant"]["version"], accountant_version()
    return "" if made == here else f"recomputed with {_ACCOUNTANT} {here}, certified with {made}"


def _check_figure(path: Path, certificate: Mapping[str, Any], name: str, recomputed: float) -> None:
    stated = certificate[name]
    # The recomputed figure decides. A stated one may differ in the last digits, and by a little more where another version computed it.
    tolerance = _OTHER_VERSION_TOLERANCE if _compare_versions(certificate) else _SAME_VERSION_TOLERANCE
    if not isinstance(stated, int | float) or isinstance(stated, bool) or not math.isclose(stated, recomputed, rel_tol=tolerance, abs_tol=1e-9):
        raise PrivacyError(f"{path}: {name} is {show_value(stated)}, the ledger's events give {recomputed}")


def _read_certificate(path: Path) -> dict[str, Any]:
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise PrivacyError(f"{path}: is a link or a special file; a release holds plain files only")
    try:
        with open(path, "rb") as handle:
            raw = handle.read(_MAX_BYTES + 1)
        if len(raw) > _MAX_BYTES:
            raise PrivacyError(f"{path}: is longer than any certificate ({_MAX_BYTES:,} bytes)")
        certificate = json.loads(raw.decode("utf-8"))
        # One form only: a second value under the same key, say, would be read by another program than ours.
        is_ours = raw.decode("utf-8") == json.dumps(certificate, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except FileNotFoundError:
        raise PrivacyError(f"{path.parent}: holds no {CERTIFICATE_NAME}; give the release folder, or a run that has one") from None
    except (OSError, ValueError, RecursionError):
        raise PrivacyError(f"{path}: is damaged (not valid JSON)") from None
    if not isinstance(certificate, dict) or "schema_version" not in certificate:
        raise PrivacyError(f"{path}: lacks fields of a certificate")
    certificate = cast("dict[str, Any]", certificate)
    version = certificate["schema_version"]
    if type(version) is not int or version != SCHEMA_VERSION:
        raise PrivacyError(f"{path}: has schema version {show_value(version)}, this penname reads {SCHEMA_VERSION}")
    if not is_ours or certificate.get("sha256") != _hash(certificate):
        raise PrivacyError(f"{path}: was edited: it does not have the form or the hash that it states")
    reasons = certificate.get("not_releasable_because")
    if certificate.get("releasable") is not True or reasons != []:
        why = "; ".join(reason for reason in cast("list[Any]", reasons) if _is_text(reason)) if isinstance(reasons, list) else show_value(reasons)
        raise PrivacyError(f"{path.parent}: is not releasable: {why}")
    _check_schema(path, certificate)
    return certificate


def _is_text(value: Any) -> bool:
    """A line for a person; nothing in it moves the cursor of a terminal."""
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and value != [] and all(map(_is_text, cast("list[Any]", value)))


def _is_text_map(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_text(text) for pair in cast("dict[str, Any]", value).items() for text in pair)


def _is_files(value: Any) -> bool:
    return _is_text_map(value) and all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in value.values())


_SCHEMA: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("schema_version", "releasable", "not_releasable_because", "sha256"), lambda _: True),
    **dict.fromkeys(("promise", "privacy_unit", "unit_column", "unit_definition", "neighboring_relation", "noise_source", "events"), lambda _: True),
    **dict.fromkeys(("epsilon_spent", "epsilon_rdp", "data_set", "not_covered", "self_checks"), lambda _: True),
    "epsilon_method": lambda value: value in (METHOD, METHOD_WITH_DRAWS),
    "accountant": lambda value: _is_text_map(value) and set(value) == {"name", "version"} and value["name"] == _ACCOUNTANT,
    "assumed_public": _is_texts,
    "files": _is_files,
    "versions": lambda value: _is_text_map(value) and set(_NEEDED_VERSIONS) <= set(value),
    "machine": _is_text,
}
"""Every key, and what its value must look like where nothing else says so: the others are compared with the ledger or recomputed."""


def _check_schema(path: Path, certificate: Mapping[str, Any]) -> None:
    for name in sorted(set(_SCHEMA) ^ set(certificate)):
        raise PrivacyError(f"{path}: lacks fields of a certificate: {name}" if name in _SCHEMA else f"{path}: {show_value(name)} is no field of a certificate")
    for name, is_right in _SCHEMA.items():
        if not is_right(certificate[name]):
            raise PrivacyError(f"{path}: {name} does not have the form that docs/certificate.md gives it")
    if certificate["versions"][_ACCOUNTANT] != certificate["accountant"]["version"]:
        raise PrivacyError(f"{path}: accountant and versions name two versions of {_ACCOUNTANT}")
    _check_self_checks(path, certificate["self_checks"])


def _check_self_checks(path: Path, self_checks: Any) -> None:
    """Each check that a release needs was made once and passed; nothing else is in the list."""
    rows = cast("list[Any]", self_checks if isinstance(self_checks, list) else [self_checks])
    made: list[str] = []
    for check in rows:
        row = cast("dict[str, Any]", check) if isinstance(check, dict) else {}
        if set(row) != {"name", "passed", "detail"} or not _is_text(row["name"]) or not _is_text(row["detail"]):
            raise PrivacyError(f"{path}: self_checks has a row that is not name, passed, detail: {show_value(check)}")
        if row["passed"] is not True:
            raise PrivacyError(f"{path}: self-check {row['name']} did not pass")
        if row["name"] in made or row["name"] not in SELF_CHECKS:
            raise PrivacyError(f"{path}: self-check {row['name']} is in the list twice, or not known")
        made.append(row["name"])
    for name in SELF_CHECKS:
        if name not in made:
            raise PrivacyError(f"{path}: self-check {name} was not made")


def _check_files(folder: Path, files: Mapping[str, Any]) -> None:
    present: set[str] = set()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        # A link would certify what lies elsewhere and can change there.
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise PrivacyError(f"{folder}: {show_value(name)} is a link or a special file; a release holds plain files only")
        if path.is_file():
            present.add(name)
        elif not any(file.startswith(f"{name}/") for file in files):
            raise PrivacyError(f"{folder}: {show_value(name)} is not in the certificate; nothing else may be in this folder")
    present.discard(CERTIFICATE_NAME)
    for name in sorted(set(files) - present):
        raise PrivacyError(f"{folder}: {show_value(name)} is in the certificate and missing from the folder")
    for name in sorted(present - set(files)):
        raise PrivacyError(f"{folder}: {show_value(name)} is not in the certificate; nothing else may be in this folder")
    for name, sha256 in files.items():
        with open(folder / name, "rb") as handle:
            if hashlib.file_digest(handle, "sha256").hexdigest() != sha256:
                raise PrivacyError(f"{folder}: {show_value(name)} has changed since it was certified")
    if LEDGER_NAME not in files:
        raise PrivacyError(f"{folder}: {LEDGER_NAME} is not in the certificate")
