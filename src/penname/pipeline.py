"""The stages in order. A stage whose settings, inputs and outputs are unchanged is skipped."""

from __future__ import annotations

import importlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penname.config import Config
from penname.errors import DataError, RunDirError, UsageError
from penname.ingest.input_files import find_files
from penname.model.device import return_freed_memory
from penname.progress import format_secs, say
from penname.run_dir import ARTEFACTS, RunDir, hash_path, hash_value, read_json
from penname.schemas import ARMS


@dataclass(frozen=True)
class Stage:
    """One stage: what it reads and writes, and where its code is."""

    name: str
    module: str
    function: str
    sections: tuple[str, ...]
    """Config sections, or `section.key`, that its result depends on."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    is_frozen: bool = False
    """Once done it is never done again in this folder: what was spent on it is spent."""
    other_methods: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    """Where the code is for another `train.method`: module and function."""

    def load(self, method: str = "dp_sgd") -> Callable[[Config, RunDir], None]:
        """Imports the stage; heavy libraries are imported here and not before.

        Args:
          method: `train.method`.
        """
        module, function = self.other_methods.get(method, (self.module, self.function))
        return getattr(importlib.import_module(module), function)


STAGES = (
    Stage(
        "ingest",
        "penname.ingest.ingest",
        "run_ingest",
        ("data", "privacy.unit", "privacy.unit_column"),
        (),
        ("reviews", "catalogue", "rejects", "ingest_counts"),
        is_frozen=True,
    ),
    Stage(
        "records",
        "penname.records.records",
        "run_records",
        ("records", "privacy.unit", "privacy.unit_column"),
        ("reviews", "ingest_counts"),
        ("train_records", "heldout_records", "test_records", "records_counts"),
        is_frozen=True,
    ),
    Stage(
        "train",
        "penname.train.train",
        "run_train",
        ("model", "privacy", "train", "evolve", "predict"),
        ("train_records", "records_counts"),
        (
            "adapter_with_dp",
            "adapter_no_dp",
            "population_with_dp",
            "population_no_dp",
            "train_metrics_with_dp",
            "train_metrics_no_dp",
            "self_checks",
            "unit_count",
            "start_adapter",
        ),
        is_frozen=True,
        other_methods={
            "private_evolution": ("penname.generate.evolution", "run_evolution"),
            "private_prediction": ("penname.generate.private_prediction", "run_private_prediction"),
        },
    ),
    Stage(
        "generate",
        "penname.generate.synthesize",
        "run_generate",
        ("generate", "records", "model"),
        ("train_records", "catalogue", "adapter_with_dp", "adapter_no_dp", "population_with_dp", "population_no_dp"),
        ("conditioning", "synthetic_with_dp", "synthetic_no_dp", "base_texts", "generate_counts"),
    ),
    Stage(
        "evaluate",
        "penname.evaluate.evaluate",
        "run_evaluate",
        ("evaluate",),
        ("train_records", "heldout_records", "test_records", "synthetic_with_dp", "synthetic_no_dp", "base_texts"),
        ("privacy_metrics", "fidelity_metrics", "utility_metrics", "left_out", "figure_data"),
    ),
    Stage(
        "report",
        "penname.report.report",
        "run_report",
        ("report",),
        (
            "privacy_metrics",
            "fidelity_metrics",
            "utility_metrics",
            "left_out",
            "figure_data",
            "human_metrics",
            "synthetic_with_dp",
            "synthetic_no_dp",
            "adapter_with_dp",
            "population_with_dp",
            "test_records",
        ),
        ("metrics", "figures", "report", "certificate", "release"),
    ),
)
STAGE_NAMES = tuple(stage.name for stage in STAGES)


def run_stages(config: Config, root: Path, names: Sequence[str] = STAGE_NAMES, *, after_stage: Callable[[], None] | None = None) -> bool:
    """Runs the named stages in the folder `root`, each only where something changed.

    Args:
      config: Of the whole run.
      root: The run folder; made when there is none.
      names: Stages, in order.
      after_stage: Called after each stage that ran, when its files and the manifest are written.
    Returns:
      Whether anything ran.
    Raises:
      RunDirError: the folder holds another run, another process works in it, or an earlier stage is missing.
      UsageError: the folder is of an audit.
    """
    run_dir = RunDir(root)
    run_dir.create()
    with run_dir.lock():
        return run_in_order(config, run_dir, STAGES, names, outside=_hash_made_by_people(run_dir), after_stage=after_stage)


def _hash_made_by_people(run_dir: RunDir) -> dict[str, str]:
    """What no stage writes: the metrics of `penname serve` and `penname ratings`."""
    path = run_dir.root / ARTEFACTS["human_metrics"].path
    return {"human_metrics": hash_path(path)} if path.is_file() else {}


def run_in_order(
    config: Config,
    run_dir: RunDir,
    stages: Sequence[Stage],
    names: Sequence[str],
    *,
    outside: Mapping[str, str] | None = None,
    after_stage: Callable[[], None] | None = None,
) -> bool:
    """Runs those of some stages that have a name given, each only where something changed, in a folder that was created and is locked.

    Args:
      config: Of the whole run.
      run_dir: The folder.
      stages: All of the folder, in order.
      names: Stages, in order.
      outside: Hashes of inputs that no stage of this folder writes, by the name that stages call them by.
      after_stage: As in `run_stages`.
    Returns:
      Whether anything ran.
    Raises:
      RunDirError: an earlier stage is missing.
      UsageError: the folder holds another run.
    """
    manifest = run_dir.read_manifest()
    manifest["outside"] = dict(outside or {})
    _check_same_run(manifest, config, run_dir.root, stages)
    has_run = False
    all_names = [stage.name for stage in stages]
    for stage in stages:
        if _is_current(stage, manifest, config, run_dir):
            continue
        if stage.name not in names:
            if any(name in all_names[all_names.index(stage.name) :] for name in names):
                raise RunDirError(f"{run_dir.root}: the stage {stage.name} is not done; run `penname {stage.name}` (or `penname run`) with this config first")
            continue
        _run_stage(stage, manifest, config, run_dir)
        has_run = True
        if after_stage is not None:
            after_stage()
        if stage.name == names[-1]:
            break
    return has_run


def _run_stage(stage: Stage, manifest: dict[str, Any], config: Config, run_dir: RunDir) -> None:
    key = _stage_key(stage, manifest, config)
    entry = manifest["stages"].get(stage.name, {})
    if entry and entry["key"] != key:
        if stage.is_frozen and stage.inputs and entry["status"] == "done":
            # Its settings are the same (checked before), so its input is not: what was trained and paid for must not be cleared away.
            raise UsageError(f"{run_dir.root}: holds another run: the data that {stage.name} reads has changed; choose another --out, or put the old data back")
        # What is left of a run with other settings must not be taken for work already done. A conditioning that was released stays
        # released: it is charged, and reading it again costs nothing.
        _clear_outputs(stage, run_dir, keep={"conditioning"})
    manifest["stages"][stage.name] = {"status": "started", "key": key}
    manifest["config"] = config.model_dump(mode="json")
    run_dir.write_manifest(manifest)
    began = time.monotonic()
    stage.load(config.train.method)(config, run_dir)
    # The models of this stage must not stand beside those of the next.
    return_freed_memory()
    outputs = {name: describe_output(run_dir.path(name)) for name in stage.outputs if run_dir.path(name).exists()}
    secs = round(time.monotonic() - began, 1)
    manifest["stages"][stage.name] = {"status": "done", "key": key, "outputs": outputs, "secs": secs}
    run_dir.write_manifest(manifest)
    say(f"{stage.name}: done in {format_secs(secs)}")


def _clear_outputs(stage: Stage, run_dir: RunDir, *, keep: set[str]) -> None:
    for name in stage.outputs:
        path = run_dir.path(name)
        if name in keep:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _is_current(stage: Stage, manifest: dict[str, Any], config: Config, run_dir: RunDir) -> bool:
    entry = manifest["stages"].get(stage.name)
    if not entry or entry["status"] != "done" or not _outputs_are_whole(entry["outputs"], run_dir):
        return False
    return entry["key"] == _stage_key(stage, manifest, config)


def _outputs_are_whole(outputs: dict[str, Any], run_dir: RunDir) -> bool:
    for name, known in outputs.items():
        path = run_dir.path(name)
        if not path.exists():
            return False
        # Hashing gigabytes to say "nothing to do" would take longer than it is worth: size and time of change stand in for the content.
        if _stat(path) != known["stat"] and hash_path(path) != known["sha256"]:
            return False
    return True


def describe_output(path: Path) -> dict[str, Any]:
    """Hash of a file or folder, and what `stat` says of it."""
    return {"sha256": hash_path(path), "stat": _stat(path)}


def _stat(path: Path) -> list[int]:
    files = [inner for inner in path.rglob("*") if inner.is_file()] if path.is_dir() else [path]
    stats = [file.stat() for file in files]
    return [len(files), sum(stat.st_size for stat in stats), max((stat.st_mtime_ns for stat in stats), default=0)]


def _stage_key(stage: Stage, manifest: dict[str, Any], config: Config) -> str:
    """Hash of everything that the stage's result depends on."""
    values = {section: _section(config, section) for section in stage.sections}
    inputs = {name: _known_hash(name, manifest) for name in stage.inputs}
    if stage.name == "ingest":
        # A file in a store is known by its address: once it is ingested, no run needs the store again.
        inputs = {path: _external_signature(Path(path)) for path in (config.data.reviews, config.data.catalogue) if path}
    return hash_value({"sections": values, "inputs": inputs, "arms": config.train.arms})


def _section(config: Config, name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def _known_hash(name: str, manifest: dict[str, Any]) -> str | None:
    if name in manifest["outside"]:
        return manifest["outside"][name]
    for entry in manifest["stages"].values():
        if name in entry.get("outputs", {}):
            return entry["outputs"][name]["sha256"]
    return None


def _external_signature(path: Path) -> list[Any]:
    # ingest itself says what is wrong with a file that is not there, or with a folder of several formats.
    try:
        files = [file.path for file in find_files(path, option="")]
    except DataError:
        files = []
    return [str(path), *([file.as_posix(), *_stat(file)] for file in files if file.is_file())]


def _check_same_run(manifest: dict[str, Any], config: Config, root: Path, stages: Sequence[Stage]) -> None:
    """A folder keeps its run: data, split and training of a finished stage do not change under it."""
    before, now = manifest.get("config"), config.model_dump(mode="json")
    if before is None:
        return
    for stage in stages:
        entry = manifest["stages"].get(stage.name)
        if not stage.is_frozen or not entry or entry["status"] != "done":
            continue
        for section in (*stage.sections, "train.arms"):
            old, new = _lookup(before, section), _lookup(now, section)
            if old != new:
                key, was, wanted = _first_difference(section, old, new)
                raise UsageError(f"{root}: holds another run: {key} is {was!r} there and {wanted!r} here; choose another --out, or repeat its config")


def _lookup(values: dict[str, Any], key: str) -> Any:
    """None where the folder was made by a program that did not know the section yet."""
    found: Any = values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _first_difference(key: str, old: Any, new: Any) -> tuple[str, Any, Any]:
    if isinstance(old, dict) and isinstance(new, dict):
        for part in [*old, *new]:
            if old.get(part) != new.get(part):
                return _first_difference(f"{key}.{part}", old.get(part), new.get(part))
    return key, old, new


def summarize(root: Path) -> list[str]:
    """The files that a person wants after a run, one a line; nothing is called RELEASABLE that the certificate does not let go."""
    run_dir = RunDir(root)
    certificate = run_dir.path("certificate")
    is_releasable = certificate.is_file() and read_json(certificate)["releasable"]
    wanted = ["report", "metrics", *(f"synthetic_{arm}" for arm in ARMS), "release"]
    lines = []
    for name in wanted:
        path = run_dir.path(name)
        if path.exists():
            visibility = ARTEFACTS[name].visibility if is_releasable else "PRIVATE"
            lines.append(f"  {visibility:<10}  {path}{'/' if path.is_dir() else ''}")
    return lines
