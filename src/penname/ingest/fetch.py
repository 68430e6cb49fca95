"""`penname fetch`: the reviews of one category and the metadata of its products, with their checksums and terms beside them."""

from __future__ import annotations

import re
from pathlib import Path

from penname.errors import DataError, UsageError
from penname.ingest.data_sets import AMAZON_REVIEWS_2023, TERMS, TERMS_NAME, RawFile, find_category, list_raw_files
from penname.ingest.download import Patience, ask_size, download, open_session
from penname.progress import say
from penname.run_dir import write_atomic
from penname.stores.part_file import check_room, check_whole, format_bytes

SUMS_NAME = "SHA256SUMS"
_SUM_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](\S+)")


def fetch_category(
    data_set: str,
    category: str,
    out: Path,
    *,
    base_url: str | None = None,
    mirror: bool = False,
    checksums: Path | None = None,
    patience: Patience | None = None,
) -> tuple[list[Path], bool]:
    """Fetches what is missing of a category; what is there is checked against its SHA-256.

    Args:
      data_set: `amazon-reviews-2023`.
      category: Any of its categories, in any spelling that `find_category` knows.
      out: Folder, made when there is none. PRIVATE.
      base_url: Another place with the same layout.
      mirror: Take the second source, whose files are not compressed.
      checksums: A file in the format of `sha256sum` that says what the files must be.
      patience: How long servers are waited for.
    Returns:
      The files of reviews and of products, and whether anything was fetched.
    Raises:
      UsageError: there is no such data set or category, or the checksums cannot be read.
      StoreError: the server refuses, does not answer, or gives up.
      DataError: too little room; a file is damaged, or is not what its checksum says.
    """
    if data_set != AMAZON_REVIEWS_2023:
        raise UsageError(f"{data_set!r}: cannot be fetched; {AMAZON_REVIEWS_2023} can")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; --out needs a folder")
    files = list_raw_files(find_category(category), base_url=base_url, mirror=mirror)
    pinned = _read_sums(checksums, is_pin=True) if checksums is not None else {}
    known = _read_sums(out / SUMS_NAME) if (out / SUMS_NAME).is_file() else {}
    missing = [file for file in files if not _is_here(out / file.name, known, pinned)]
    write_sums(out, known)
    if not missing:
        return [out / file.name for file in files], False
    _show_terms(out)
    session, patience = open_session(), patience or Patience()
    _check_room_for(missing, out, [ask_size(file.url, session, patience) for file in missing])
    for file in missing:
        known[file.name] = download(file.url, out / file.name, session, patience, sha256=pinned.get(file.name))
        write_sums(out, known)
    return [out / file.name for file in files], True


def write_sums(out: Path, sums: dict[str, str]) -> None:
    """Writes the checksums as `sha256sum --check` reads them; nothing where there are none."""
    if sums:
        with write_atomic(out / SUMS_NAME) as handle:
            handle.writelines(f"{sha256}  {name}\n" for name, sha256 in sorted(sums.items()))


def _is_here(path: Path, known: dict[str, str], pinned: dict[str, str]) -> bool:
    """Whether the file is there and is what it was when it was fetched. One that was put there by hand is read to its end and gets its checksum."""
    if not path.exists():
        return False
    found = check_whole(path)
    for expected, where in ((pinned.get(path.name), "the checksums given"), (known.get(path.name), SUMS_NAME)):
        if expected is not None and found != expected:
            raise DataError(f"{path}: is not the file that {where} says (SHA-256 {found}, not {expected}); remove it and run the same command again")
    known[path.name] = found
    return True


def _check_room_for(files: list[RawFile], out: Path, sizes: list[int | None]) -> None:
    parts = [out / f"{file.name}.part" for file in files]
    num_bytes = sum(max(0, size - (part.stat().st_size if part.exists() else 0)) for size, part in zip(sizes, parts, strict=True) if size is not None)
    check_room(out, num_bytes)
    shown = [format_bytes(size) if size is not None else "size not stated" for size in sizes]
    say(f"to fetch: {', '.join(f'{file.name} ({size})' for file, size in zip(files, shown, strict=True))}")


def _show_terms(out: Path) -> None:
    """Once: where they lie beside the data, they have been shown."""
    path = out / TERMS_NAME
    if path.is_file():
        return
    say(TERMS)
    with write_atomic(path) as handle:
        handle.write(TERMS)
    say(f"(these terms are in {path})")


def _read_sums(path: Path, *, is_pin: bool = False) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file of checksums") from None
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"{path}: cannot be read as a file of checksums") from None
    sums: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            if (found := _SUM_LINE.fullmatch(line.strip())) is None:
                todo = "it holds lines of `sha256sum`" if is_pin else "remove it, and the files beside it are read anew"
                raise UsageError(f"{path}:{number}: is no checksum; {todo}")
            sums[found[2]] = found[1].lower()
    return sums
