"""The files that a setting names: one file, all of a folder, or those that fit a pattern."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path

from penname.errors import DataError
from penname.ingest.input_file import plain_suffix
from penname.ingest.table import KINDS

_WILD = "*?["


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of a data set."""

    path: Path
    name: str
    """As rejects and reviews name it: relative to the folder, or to the part of the pattern that has no wildcard."""


def find_files(path: Path, *, option: str) -> list[InputFile]:
    """The files that a setting names, sorted by name, so that their order is the same on every machine.

    Args:
      path: A file, a folder (the files of a known format that stand in it, not those of folders below) or a pattern (`*`, `?`, `[...]`, `**`).
      option: The setting, for messages.
    Returns:
      At least one file; a file that does not exist is left to check_table.
    Raises:
      DataError: a folder or a pattern without files, or with files of several formats.
    """
    # A name may hold a bracket: what exists is no pattern.
    if path.is_dir():
        # Hidden files and those that begin with _ are notes of the programs that wrote the others.
        found = [inner for inner in path.iterdir() if inner.is_file() and not inner.name.startswith((".", "_")) and plain_suffix(inner) in KINDS]
        if not found:
            raise DataError(f"{path}: is a directory without a .csv, .tsv, .jsonl or .parquet file; name the file, or the folder that holds the files")
        base = path
    elif not path.exists() and any(sign in str(path) for sign in _WILD):
        found = [inner for name in glob.glob(str(path), recursive=True) if (inner := Path(name)).is_file()]  # noqa: PTH207  a Path takes no absolute pattern
        if not found:
            raise DataError(f"{path}: no file fits this pattern; check {option}")
        base = _find_base(path)
    else:
        return [InputFile(path, _printable(path.name))]
    found.sort(key=lambda inner: inner.as_posix())
    kinds = {KINDS.get(plain_suffix(inner)): inner for inner in reversed(found)}
    if len(kinds) > 1:
        shown = " and ".join(sorted(inner.name for inner in kinds.values()))
        raise DataError(f"{path}: holds files of several formats, {shown}; name those of one with a pattern such as {option}: '{base}/*.jsonl'")
    return [InputFile(inner, _printable(inner.relative_to(base).as_posix())) for inner in found]


def _find_base(pattern: Path) -> Path:
    """The folders of a pattern before its first wildcard."""
    parts = pattern.parts[:-1]
    wild = next((i for i, part in enumerate(parts) if any(sign in part for sign in _WILD)), len(parts))
    return Path(*parts[:wild])


def _printable(name: str) -> str:
    """A file name may hold bytes that no UTF-8 file can."""
    return name.encode("utf-8", "replace").decode()
