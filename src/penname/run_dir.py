"""The run folder: every artefact with its path, schema version, hash and visibility, and which stages are done.

Nothing is written in place: a file is written under a temporary name beside its target, flushed and renamed, so that a killed
process leaves either the old file or the new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from penname.errors import RunDirError, UsageError
from penname.schemas import Visibility

MANIFEST = "run.json"
MANIFEST_VERSION = 3

Kind = Literal["run", "audit", "twin"]
"""What a folder holds: a run, an audit, or the twin run of an audit. The last two have canaries in their data and never a release."""


@dataclass(frozen=True)
class Artefact:
    """One file or folder of a run."""

    path: str
    visibility: Visibility
    schema_version: int = 1
    is_optional: bool = False
    """Made by people or for the web page: a whole run may lack it."""


ARTEFACTS: dict[str, Artefact] = {
    "sample_data": Artefact("0_ingest/sample_data", "PRIVATE"),
    "reviews": Artefact("0_ingest/reviews", "PRIVATE", 2),
    "catalogue": Artefact("0_ingest/catalogue.parquet", "RELEASABLE"),
    "rejects": Artefact("0_ingest/rejects.jsonl", "PRIVATE"),
    "ingest_counts": Artefact("0_ingest/counts.json", "PRIVATE"),
    "train_records": Artefact("1_records/train.jsonl", "PRIVATE"),
    "heldout_records": Artefact("1_records/heldout.jsonl", "PRIVATE"),
    "test_records": Artefact("1_records/test.jsonl", "PRIVATE"),
    "records_counts": Artefact("1_records/counts.json", "PRIVATE"),
    "unit_count": Artefact("2_train/unit_count.json", "RELEASABLE"),
    "noise_key": Artefact("2_train/noise.key", "PRIVATE"),
    "self_checks": Artefact("2_train/self_checks.json", "RELEASABLE"),
    "start_adapter": Artefact("2_train/start_adapter.json", "RELEASABLE", is_optional=True),
    "adapter_with_dp": Artefact("2_train/with_dp/adapter", "RELEASABLE"),
    "population_with_dp": Artefact("2_train/with_dp/population.jsonl", "RELEASABLE", is_optional=True),
    "train_metrics_with_dp": Artefact("2_train/with_dp/metrics.jsonl", "PRIVATE"),
    "adapter_no_dp": Artefact("2_train/no_dp/adapter", "PRIVATE"),
    "population_no_dp": Artefact("2_train/no_dp/population.jsonl", "PRIVATE", is_optional=True),
    "train_metrics_no_dp": Artefact("2_train/no_dp/metrics.jsonl", "PRIVATE"),
    "conditioning": Artefact("3_generate/conditioning.json", "RELEASABLE"),
    "synthetic_with_dp": Artefact("3_generate/generated_sequences_with_dp.jsonl", "RELEASABLE"),
    "synthetic_no_dp": Artefact("3_generate/generated_sequences_no_dp.jsonl", "PRIVATE"),
    "base_texts": Artefact("3_generate/base_texts.jsonl", "PRIVATE", is_optional=True),
    "generate_counts": Artefact("3_generate/counts.json", "PRIVATE"),
    "privacy_metrics": Artefact("4_evaluate/privacy.json", "PRIVATE"),
    "fidelity_metrics": Artefact("4_evaluate/fidelity.json", "PRIVATE"),
    "utility_metrics": Artefact("4_evaluate/utility.json", "PRIVATE"),
    "left_out": Artefact("4_evaluate/left_out.json", "PRIVATE"),
    "embeddings": Artefact("4_evaluate/embeddings", "PRIVATE", is_optional=True),
    "figure_data": Artefact("4_evaluate/figure_data.json", "PRIVATE"),
    "downstream_scores": Artefact("4_evaluate/downstream", "PRIVATE", is_optional=True),
    "human_sample": Artefact("4_evaluate/human/sample.json", "PRIVATE", is_optional=True),
    "human_ratings": Artefact("4_evaluate/human/ratings.sqlite", "PRIVATE", is_optional=True),
    "human_summary": Artefact("4_evaluate/human/summary.json", "PRIVATE", is_optional=True),
    "human_metrics": Artefact("4_evaluate/human.json", "PRIVATE", is_optional=True),
    "records_index": Artefact("web/records.sqlite", "PRIVATE", is_optional=True),
    "metrics": Artefact("5_report/metrics.json", "PRIVATE"),
    "figures": Artefact("5_report/figures", "PRIVATE"),
    "report": Artefact("5_report/report.html", "PRIVATE"),
    "certificate": Artefact("5_report/certificate.json", "RELEASABLE"),
    "release": Artefact("release", "RELEASABLE"),
    "ledger": Artefact("ledger.jsonl", "RELEASABLE"),
}
AUDIT_ARTEFACTS: dict[str, Artefact] = {
    "coins_key": Artefact("1_records/coins.key", "PRIVATE"),
    "canaries": Artefact("1_records/canaries.jsonl", "PRIVATE"),
    "planted_records": Artefact("1_records/planted", "PRIVATE"),
    "prompted_texts": Artefact("3_generate/prompted", "PRIVATE"),
    "likelihoods": Artefact("4_evaluate/likelihoods", "PRIVATE"),
    "attacks": Artefact("4_evaluate/attacks.json", "PRIVATE"),
}
"""What an audit has beside the artefacts of a run; its twins are run folders under `twins/`. Nothing of an audit is ever released."""
_PATHS = {name: artefact.path for name, artefact in (ARTEFACTS | AUDIT_ARTEFACTS).items()}

_OTHER_KINDS: dict[str, str] = {
    "run": "holds a run, and an audit needs a folder of its own: choose another --out",
    "audit": "holds an audit, with canaries in its data, of which nothing may be released; go on with `penname audit`, or choose another --out",
    "twin": "holds the twin run of an audit, with canaries in its data, of which nothing may be released; choose another --out",
}
"""What to say to whoever takes a folder of this kind for one of another."""


class RunDir:
    """One run on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        """Where the artefact `name` of `ARTEFACTS` or `AUDIT_ARTEFACTS` is, or will be; its parent folder exists afterwards."""
        path = self.root / _PATHS[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def create(self, kind: Kind = "run") -> None:
        """Makes the folder, or checks that what is there is ours and of this kind.

        Raises:
          RunDirError: it is a file, or holds other people's files.
          UsageError: it holds something of another kind.
        """
        if self.root.exists() and not self.root.is_dir():
            raise RunDirError(f"{self.root}: is a file; --out needs a folder")
        # A process killed while it wrote its first manifest leaves only a temporary file: that is no stranger's.
        own = (".lock", f".{MANIFEST}.")
        strangers = [p.name for p in self.root.iterdir() if not p.name.startswith(own)] if self.root.is_dir() else []
        if strangers and MANIFEST not in strangers:
            raise RunDirError(f"{self.root}: is not empty and holds no penname run; choose a new folder for --out")
        self.root.mkdir(parents=True, exist_ok=True)
        if not strangers:
            write_json(self.root / MANIFEST, {"schema_version": MANIFEST_VERSION, "kind": kind, "stages": {}})
        if self.read_kind() != kind:
            raise UsageError(f"{self.root}: {_OTHER_KINDS[self.read_kind()]}")

    @contextlib.contextmanager
    def lock(self) -> Generator[None]:
        """Holds the run for this process.

        Raises:
          RunDirError: another process works in it.
        """
        with open(self.root / ".lock", "w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RunDirError(f"{self.root}: another penname process is working in this folder; wait for it or choose another --out") from None
            self._sweep()
            yield

    def _sweep(self) -> None:
        """Removes what a killed process left half written; nobody else writes while the lock is held."""
        for pattern in (".*.tmp", ".*.old"):
            for path in sorted(self.root.rglob(pattern)):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)

    def read_manifest(self) -> dict[str, Any]:
        """The manifest: which stage ran with which config and input hashes, and what it wrote.

        Raises:
          RunDirError: there is none, or it is damaged or of another version.
        """
        path = self.root / MANIFEST
        if not path.is_file():
            raise RunDirError(f"{self.root}: holds no penname run ({MANIFEST} is missing)")
        manifest = read_json(path)
        if not isinstance(manifest, dict) or not isinstance(manifest.get("stages"), dict):
            raise RunDirError(f"{path}: is damaged; choose a new folder for --out")
        if manifest.get("schema_version") != MANIFEST_VERSION:
            raise RunDirError(f"{path}: was written by another version of penname; choose a new folder for --out")
        if manifest.get("kind") not in list(_OTHER_KINDS):
            raise RunDirError(f"{path}: is damaged; choose a new folder for --out")
        return manifest

    def read_kind(self) -> Kind:
        """What the folder holds; a folder without a manifest counts as a run.

        Raises:
          RunDirError: the manifest is damaged or of another version.
        """
        return self.read_manifest()["kind"] if (self.root / MANIFEST).is_file() else "run"

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Replaces the manifest in one rename."""
        write_json(self.root / MANIFEST, manifest)


@contextlib.contextmanager
def write_atomic(path: Path, mode: str = "w") -> Generator[IO[Any]]:
    """Opens a temporary file beside `path` that takes its name when the block ends well, and vanishes when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle_num, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        encoding = None if "b" in mode else "utf-8"
        with os.fdopen(handle_num, mode, encoding=encoding) as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


@contextlib.contextmanager
def replace_folder(path: Path) -> Generator[Path]:
    """Gives an empty folder beside `path` that takes its place when the block ends well, and vanishes when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    try:
        yield new
        os.chmod(new, 0o755)  # noqa: S103  mkdtemp makes it 0700; a run folder is as readable as its owner's umask usually makes it
        if path.exists():
            old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".old"))
            os.replace(path, old / path.name)
            os.replace(new, path)
            shutil.rmtree(old)
        else:
            os.replace(new, path)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Writes JSON for people and programs: indented, keys in the order given, atomically."""
    with write_atomic(path) as handle:
        json.dump(value, handle, indent=2, ensure_ascii=False, allow_nan=False)
        handle.write("\n")


def read_json(path: Path) -> Any:
    """Reads a JSON file of ours.

    Raises:
      RunDirError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunDirError(f"{path}: is missing; run the stage that writes it") from None
    except (ValueError, UnicodeDecodeError):
        raise RunDirError(f"{path}: is damaged (not valid JSON)") from None


def write_rows(path: Path, rows: Any) -> int:
    """Writes an iterable of dicts as JSON lines, atomically; returns how many."""
    count = 0
    with write_atomic(path) as handle:
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Reads JSON lines of ours, one dict at a time.

    Raises:
      RunDirError: the file is missing or a line is damaged.
    """
    try:
        handle = open(path, encoding="utf-8")
    except FileNotFoundError:
        raise RunDirError(f"{path}: is missing; run the stage that writes it") from None
    with handle:
        for line_num, line in enumerate(handle, 1):
            try:
                yield json.loads(line)
            except ValueError:
                raise RunDirError(f"{path}:{line_num}: is damaged (not valid JSON)") from None


def hash_path(path: Path) -> str:
    """SHA-256 of a file, or of a folder's sorted relative names and contents."""
    digest = hashlib.sha256()
    if path.is_dir():
        for inner in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{inner.relative_to(path).as_posix()}\0{hash_path(inner)}\n".encode())
    else:
        with open(path, "rb") as handle:
            while chunk := handle.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def hash_value(value: Any) -> str:
    """SHA-256 of a JSON value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
