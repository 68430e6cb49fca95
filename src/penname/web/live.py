"""How far a run is, from the files that its stages write while they work. Nothing is locked or changed by looking."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penname.run_dir import ARTEFACTS
from penname.web.runs import RunSummary
from penname.web.strips import Curve

MAX_CURVE_POINTS = 200
_LOCKS = Path("/proc/locks")


@dataclass(frozen=True)
class Work:
    """One piece of work of a run: an arm in training or in generation."""

    stage: str
    arm: str
    done: int
    total: int
    note: str
    secs_since: float | None
    """Since its file last grew; None where nothing was written yet."""


@dataclass(frozen=True)
class LiveState:
    """Where a run is now. PRIVATE."""

    is_running: bool | None
    """Whether a process holds the run; None where this system does not say."""
    work: list[Work]
    curves: list[Curve]
    num_steps: int


def read_live_state(run: RunSummary) -> LiveState:
    """Reads training and generation of every arm, finished or not."""
    arms = [str(arm) for arm in run.config.get("train", {}).get("arms", [])]
    train = run.config.get("train", {})
    # Private prediction writes all of its texts in one.
    num_steps = 1 if train.get("method") == "private_prediction" else int(train.get("num_steps", 0))
    num_records = int(run.config.get("generate", {}).get("num_records", 0))
    work, curves = [], []
    for arm in arms:
        path = run.root / ARTEFACTS[f"train_metrics_{arm}"].path
        rows = _read_steps(path)
        losses = [(int(row["step"]), float(row["loss"])) for row in rows if isinstance(row.get("loss"), int | float)]
        note = f"loss {losses[-1][1]:.3f}" if losses else ""
        work.append(Work("train", arm, len(rows), num_steps, note, _secs_since(path)))
        if losses:
            curves.append(Curve(arm, _thin(losses)))
    for arm in arms:
        target = run.root / ARTEFACTS[f"synthetic_{arm}"].path
        partial = target.with_name(f".{target.name}.partial")
        # The first line of the unfinished file says under which settings it is written.
        done = _count_lines(target) if target.is_file() else max(0, _count_lines(partial) - 1)
        work.append(Work("generate", arm, done, num_records, "", _secs_since(target if target.is_file() else partial)))
    return LiveState(is_held(run.root / ".lock"), work, curves, num_steps)


def _read_steps(path: Path) -> list[dict[str, Any]]:
    """Whole lines of the log; the last may be the one that is being written."""
    rows: list[dict[str, Any]] = []
    if not path.is_file():
        return rows
    for line in path.read_bytes().split(b"\n"):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


def _thin(points: list[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """At most MAX_CURVE_POINTS of them, evenly, the last among them."""
    stride = -(-len(points) // MAX_CURVE_POINTS)
    return tuple(reversed(points[::-1][::stride]))


def _count_lines(path: Path) -> int:
    if not path.is_file():
        return 0
    with open(path, "rb") as handle:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: handle.read(1 << 20), b""))


def _secs_since(path: Path) -> float | None:
    return max(0.0, time.time() - path.stat().st_mtime) if path.is_file() else None


def is_held(lock: Path) -> bool | None:
    """Whether a process holds the lock file, without trying for the lock: a `penname run` that begins at this moment must not find it taken by us."""
    if not lock.is_file():
        return False
    if not _LOCKS.is_file():
        return None
    # 1: FLOCK  ADVISORY  WRITE 18351 fe:00:3195082 0 EOF
    inode = str(lock.stat().st_ino)
    lines = [line.split() for line in _LOCKS.read_text(encoding="ascii", errors="replace").splitlines()]
    return any(len(line) > 5 and line[1] == "FLOCK" and line[5].rpartition(":")[2] == inode for line in lines)
