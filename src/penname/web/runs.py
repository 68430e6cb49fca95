"""The runs in a folder, and what a page says of each: stages, promise, metrics. Read anew for every page, so that a run that goes on is seen."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from penname.errors import RunDirError, UsageError
from penname.pipeline import STAGE_NAMES
from penname.report.metric_tables import MetricTable, build_metric_tables
from penname.report.wording import reasons_not_to_release
from penname.run_dir import ARTEFACTS, MANIFEST, RunDir, read_json
from penname.schemas import FAMILIES, MetricResult

MAX_DEPTH = 3
MAX_RUNS = 500


@dataclass(frozen=True)
class RunSummary:
    """One run, as the list shows it. PRIVATE."""

    key: str
    """In addresses: the path below the folder, with ~ for /."""
    name: str
    root: Path
    kind: str
    problem: str | None
    """Why it cannot be shown: a damaged manifest, another version."""
    stages: tuple[tuple[str, str], ...]
    """Stage and `done`, `started` or `waiting`."""
    config: dict[str, Any]
    certificate: dict[str, Any] | None

    @property
    def address(self) -> str:
        """Where its pages are; a folder may have any name."""
        return f"/run/{quote(self.key)}"

    @property
    def is_finished(self) -> bool:
        """Whether every stage is done."""
        return all(status == "done" for _, status in self.stages)

    @property
    def reasons(self) -> list[str]:
        """Why nothing of it may be released; empty where all of `release/` may, or there is no certificate yet."""
        return reasons_not_to_release(self.certificate) if self.certificate else []


class RunFolder:
    """A run folder, or a folder of run folders."""

    def __init__(self, folder: Path) -> None:
        """Checks that there is something to show.

        Raises:
          UsageError: the folder is not there, cannot be read, or holds no run.
        """
        self.folder = folder
        if re.match(r"(s3|hf):/", str(folder)):
            raise UsageError(f"{folder}: is in a store; copy the run to this machine, then serve that folder")
        if not folder.is_dir():
            raise UsageError(f"{folder}: is no folder; give a run folder, or a folder of them")
        if not os.access(folder, os.R_OK | os.X_OK):
            raise UsageError(f"{folder}: cannot be read; check its permissions")
        if not self.find():
            raise UsageError(f"{folder}: holds no penname run (a folder with {MANIFEST}); give the folder that was --out of `penname run`, or one above it")

    def find(self) -> dict[str, Path]:
        """Key -> run folder, in the order of their paths; at most MAX_RUNS."""
        found = {}
        for path in _walk(self.folder, MAX_DEPTH):
            relative = path.relative_to(self.folder).as_posix()
            found[self.folder.resolve().name or "run" if relative == "." else relative.replace("/", "~")] = path
            if len(found) == MAX_RUNS:
                break
        return found

    def open(self, key: str) -> RunSummary | None:
        """The run of this key; None where there is none. A key is looked up, never joined to a path."""
        root = self.find().get(key)
        return summarise_run(key, root) if root else None

    def list(self) -> list[RunSummary]:
        """All runs."""
        return [summarise_run(key, root) for key, root in self.find().items()]


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    """Folders with a manifest; inside a run only its twins are looked at, and links are not followed."""
    is_run = (folder / MANIFEST).is_file()
    if is_run:
        yield folder
    if depth == 0:
        return
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."))
    except OSError:
        return
    for name in names:
        if not is_run or name == "twins":
            yield from _walk(folder / name, depth - 1)


def summarise_run(key: str, root: Path) -> RunSummary:
    """What the list and the head of every page say of a run; what is damaged is said and does not stop the others."""
    name = key.replace("~", "/")
    try:
        manifest = RunDir(root).read_manifest()
        certificate = _read_if_there(root / ARTEFACTS["certificate"].path)
    except (RunDirError, OSError) as error:
        return RunSummary(key, name, root, "run", str(error), (), {}, None)
    done = manifest["stages"]
    names = [*STAGE_NAMES, *(stage for stage in done if stage not in STAGE_NAMES)] if manifest["kind"] == "run" else list(done)
    stages = tuple((stage, str(done.get(stage, {}).get("status", "waiting"))) for stage in names)
    return RunSummary(key, name, root, manifest["kind"], None, stages, manifest.get("config") or {}, certificate)


def _read_if_there(path: Path) -> Any:
    return read_json(path) if path.is_file() else None


def read_metrics(root: Path) -> list[MetricResult]:
    """The metrics of every family that the run has, people's among them. PRIVATE.

    Raises:
      RunDirError: a file is damaged.
    """
    metrics: list[MetricResult] = []
    for family in FAMILIES:
        path = root / ARTEFACTS[f"{family}_metrics"].path
        if path.is_file():
            try:
                metrics += [MetricResult(**{key: value for key, value in row.items() if key != "version"}) for row in read_json(path)]
            except (TypeError, AttributeError):
                raise RunDirError(f"{path}: is damaged; run `penname evaluate` again") from None
    return metrics


def read_metric_tables(root: Path) -> list[MetricTable]:
    """The same, by family, as the report shows them."""
    return build_metric_tables(read_metrics(root))
