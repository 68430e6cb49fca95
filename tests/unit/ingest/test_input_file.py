"""Blocks of whole lines: the same ones from a plain file, whose bytes stay on disk, as from a packed one, whose bytes come along."""

import gzip
import os

import pytest

from penname.errors import DataError
from penname.ingest import input_file
from penname.ingest.input_file import read_blocks

FILES = {
    "lines": b"".join(b"line %d\n" % i for i in range(200)),
    "without a last line end": b"first\nsecond\nlast",
    "one line": b"alone",
    "crlf and blank lines": b"a\r\n\r\n\n\nb\r\n",
    "a line that is too long": b"short\n" + b"x" * 500 + b"\nafter\n" + b"last\n",
    "the last line too long": b"short\n" + b"x" * 500,
    "a long line that is read": b"short\n" + b"x" * 90 + b"\nafter\n",
    "lines as long as a block": (b"y" * 63 + b"\n") * 4 + b"end\n",
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(input_file, "_BLOCK_BYTES", 64)
    monkeypatch.setattr(input_file, "MAX_LINE_BYTES", 128)


def read_all(path):
    """Number, bytes and too long or not of every line, and what was told of the progress."""
    advanced, lines = [], []
    for block in read_blocks(path, encoding="utf-8", advance=advanced.append):
        loaded = block.load_data()
        pieces = [b""] if loaded.is_too_long else loaded.data.splitlines(keepends=True)
        lines += [(loaded.first_line + i, piece, loaded.is_too_long) for i, piece in enumerate(pieces)]
    return lines, sum(advanced)


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
def test_a_plain_file_gives_the_lines_that_a_packed_one_gives(tmp_path, data):
    (tmp_path / "plain.jsonl").write_bytes(data)
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress(data))
    plain, packed = read_all(tmp_path / "plain.jsonl"), read_all(tmp_path / "packed.jsonl.gz")
    assert plain[0] == packed[0]
    expected = [(number, b"" if len(line) > 400 else line, len(line) > 400) for number, line in enumerate(data.splitlines(keepends=True), 1)]
    assert plain[0] == expected


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_all_bytes_of_the_file_are_told_as_progress(tmp_path, suffix):
    path = tmp_path / f"file.jsonl{suffix}"
    path.write_bytes(gzip.compress(FILES["lines"]) if suffix else FILES["lines"])
    assert read_all(path)[1] == path.stat().st_size


def test_the_bytes_of_a_plain_file_stay_on_disk_and_a_block_is_as_large_as_it_may_be(tmp_path):
    path = tmp_path / "file.jsonl"
    path.write_bytes(FILES["lines"])
    blocks = list(read_blocks(path, encoding="utf-8", advance=lambda _: None))
    assert all(not block.data for block in blocks)
    assert max(len(block.load_data().data) for block in blocks) <= 64 + len(b"line 199\n")
    assert b"".join(block.load_data().data for block in blocks) == FILES["lines"]


def test_a_file_that_became_shorter_meanwhile_is_one_line(tmp_path):
    path = tmp_path / "file.jsonl"
    path.write_bytes(FILES["lines"])
    *_, last = read_blocks(path, encoding="utf-8", advance=lambda _: None)
    os.truncate(path, 100)
    with pytest.raises(DataError, match=rf"{path}:{last.first_line}: the file was changed while it was read; run it again"):
        last.load_data()


def test_a_file_that_is_gone_meanwhile_is_one_line(tmp_path):
    path = tmp_path / "file.jsonl"
    path.write_bytes(FILES["lines"])
    *_, last = read_blocks(path, encoding="utf-8", advance=lambda _: None)
    path.unlink()
    with pytest.raises(DataError, match=rf"{path}:{last.first_line}: cannot be read: No such file or directory"):
        last.load_data()
