"""Work that is kept piece by piece, so that a benchmark can be stopped and go on where it was, until its code changes."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Task = Callable[[], Any]
"""A piece of work; its result can be written as JSON."""

WORK_IS_LEFT = 3
"""Exit status when the time was over before the work was, so that a loop in the shell knows."""
_FLAGS = ("avx512f", "avx512_bf16", "amx_bf16")


def add_arguments(parser: argparse.ArgumentParser, *, parts: str) -> None:
    """What every resumable benchmark takes besides --quick."""
    parser.add_argument("--only", nargs="+", default=[], metavar="PART", help=parts)
    parser.add_argument(
        "--max-minutes", type=float, default=float("inf"), help="begin no task after this; exit with 3 while work is left, and run again to go on"
    )


def do_tasks(
    tasks: dict[str, Task],
    results: dict[str, Any],
    *,
    only: Iterable[str],
    max_minutes: float,
    keep: Callable[[], None],
    before_each: Callable[[], None] = lambda: None,
) -> list[str]:
    """Does what is not done yet; returns the names of what is left when the time is over.

    Args:
      tasks: By name, part/piece, in the order in which they are done.
      results: Of an earlier run; gets the new ones, each with its seconds and its process.
      only: Parts that are wanted; none: all.
      max_minutes: No task begins after this.
      keep: Called after every task.
      before_each: Called before every task, done or not.
    """
    deadline = time.monotonic() + 60 * max_minutes
    chosen = set(only)
    wanted = [name for name in tasks if not chosen or name.partition("/")[0] in chosen]
    for place, name in enumerate(wanted):
        before_each()
        if name in results:
            continue
        if time.monotonic() > deadline:
            return [name for name in wanted[place:] if name not in results]
        began = time.perf_counter()
        try:
            result = tasks[name]()
        except RuntimeError as error:
            # Something that does not run here is a finding, not the end of the others.
            result = {"error": (str(error).strip().splitlines() or [type(error).__name__])[0]}
        results[name] = {"result": result, "secs": round(time.perf_counter() - began, 1), "process": os.getpid()}
        keep()
        print(f"{name} ({results[name]['secs']} s): {json.dumps(result)[:300]}", file=sys.stderr, flush=True)
    return []


def read_kept(file: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """Results of an earlier run of the same code, seed and data; empty where there are none."""
    if not file.is_file():
        return {}
    kept = json.loads(file.read_text(encoding="utf-8"))
    return kept["results"] if kept["identity"] == identity else {}


def write_atomically(file: Path, text: str) -> None:
    """Whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, file)


def hash_files(files: Iterable[Path]) -> str:
    """Of the contents, in the order of the names."""
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def describe_machine() -> dict[str, Any]:
    """Processor, its instructions for bf16, cores and threads."""
    import torch

    result: dict[str, Any] = {"cores": os.cpu_count(), "torch_threads": torch.get_num_threads(), "processor": platform.processor() or platform.machine()}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        fields = dict(line.split(":", 1) for line in cpuinfo.read_text(encoding="utf-8").split("\n\n")[0].splitlines() if ":" in line)
        named = {name.strip(): value.strip() for name, value in fields.items()}
        result |= {"processor": named.get("model name", ""), "flags": [flag for flag in _FLAGS if flag in named.get("flags", "").split()]}
    return result


def replace_between_markers(document: Path, marker: str, lines: list[str]) -> None:
    """Writes generated lines into a page, between `<!-- marker:begin -->` and `<!-- marker:end -->`.

    Raises:
      ValueError: the page has no such markers.
    """
    begin, end = f"<!-- {marker}:begin -->", f"<!-- {marker}:end -->"
    before, found, rest = document.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{document}: has no {begin} ... {end}")
    write_atomically(document, f"{before}{begin}\n{chr(10).join(lines)}\n{end}{after}")
