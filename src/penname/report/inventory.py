"""What is in the run folder, who may see it, and whether release/ holds exactly what the certificate lists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penname.report.inputs import artefact_path
from penname.run_dir import ARTEFACTS, RunDir, hash_path

CERTIFICATE = "certificate.json"
_OF_THIS_PAGE = ("metrics", "figures", "report")


@dataclass(frozen=True)
class InventoryLine:
    """One artefact of the run."""

    path: str
    visibility: str
    num_bytes: int | None
    """None: not in this run."""


@dataclass(frozen=True)
class ReleasedFile:
    """One file of release/, or of the certificate's list."""

    path: str
    sha256: str
    num_bytes: int | None
    state: str
    """`as certified`, `the certificate`, `changed since`, `missing` or `not certified`."""


def list_artefacts(run_dir: RunDir, *, releasable: bool) -> list[InventoryLine]:
    """Every artefact with its size; in a run that may not be released, nothing is called RELEASABLE.

    The three artefacts that the report itself writes are listed without a size: they do not exist yet.
    """
    lines = []
    for name, artefact in ARTEFACTS.items():
        path = artefact_path(run_dir, name)
        visibility = artefact.visibility if releasable or artefact.visibility == "PRIVATE" else "NOT RELEASABLE"
        shown = artefact.path + ("/" if path.is_dir() or name == "figures" else "")
        lines.append(InventoryLine(shown, visibility, None if name in _OF_THIS_PAGE else _size(path)))
    return lines


def is_of_this_page(path: str) -> bool:
    """Whether the report writes this artefact itself, in the same moment as the page."""
    return path.rstrip("/") in {ARTEFACTS[name].path for name in _OF_THIS_PAGE}


def _size(path: Path) -> int | None:
    if path.is_dir():
        return sum(inner.stat().st_size for inner in path.rglob("*") if inner.is_file())
    return path.stat().st_size if path.is_file() else None


def list_release(run_dir: RunDir, certificate: dict[str, Any]) -> list[ReleasedFile]:
    """The files of release/ against the certificate's hashes, by path."""
    root = artefact_path(run_dir, "release")
    certified: dict[str, str] = certificate.get("files") or {}
    present = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()} if root.is_dir() else {}
    lines = []
    for name in sorted(present.keys() | certified.keys()):
        if name not in present:
            lines.append(ReleasedFile(name, certified[name], None, "missing"))
            continue
        found, size = hash_path(present[name]), present[name].stat().st_size
        if name in certified:
            state = "as certified" if found == certified[name] else "changed since"
        else:
            state = "the certificate" if name == CERTIFICATE else "not certified"
        lines.append(ReleasedFile(name, found, size, state))
    return lines


def format_bytes(num_bytes: int) -> str:
    """A size as a person says it.

    >>> format_bytes(999), format_bytes(20_480), format_bytes(3_500_000)
    ('999 B', '20 kB', '3.5 MB')
    """
    if num_bytes < 1000:
        return f"{num_bytes} B"
    for unit, size in (("kB", 1e3), ("MB", 1e6)):
        if num_bytes < 1000 * size:
            return f"{num_bytes / size:.1f} {unit}" if num_bytes < 10 * size else f"{num_bytes / size:.0f} {unit}"
    return f"{num_bytes / 1e9:.1f} GB"
