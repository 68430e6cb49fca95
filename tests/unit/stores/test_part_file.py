"""A file under another name until it is whole."""

import gzip
import hashlib
import json

import pytest

from penname.errors import DataError
from penname.stores import part_file
from penname.stores.part_file import PartFile, Source, check_room, check_whole

LINES = b'{"a": 1}\n' * 1000
SOURCE = Source("s3://b/k", "v1", len(LINES))


def test_a_part_goes_on_and_gets_its_name_at_the_end(tmp_path):
    target = tmp_path / "new" / "x.jsonl"
    with PartFile(target) as part:
        assert part.source is None
        part.begin(SOURCE)
        part.write(LINES[:100])
        assert not part.is_complete
    with PartFile(target) as part:
        assert (part.source, part.num_bytes) == (SOURCE, 100)
        part.write(LINES[100:])
        assert part.is_complete
        part.finish()
    assert target.read_bytes() == LINES
    assert [path.name for path in target.parent.iterdir()] == ["x.jsonl"]


@pytest.mark.parametrize(
    "state",
    [
        "",
        "[]",
        "{}",
        '{"schema_version": 9}',
        '{"schema_version": 1, "location": "s3://b/k", "version": null, "num_bytes": 9}',
        '{"schema_version": 1, "x": 2}',
    ],
)
def test_a_part_of_which_nothing_is_sure_begins_anew(tmp_path, state):
    (tmp_path / "x.part").write_bytes(b"old")
    (tmp_path / "x.part.json").write_text(state)
    with PartFile(tmp_path / "x") as part:
        assert (part.source, part.num_bytes) == (None, 0)


def test_a_discarded_part_is_gone(tmp_path):
    with PartFile(tmp_path / "x") as part:
        part.begin(SOURCE)
        part.write(b"1")
        part.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_no_bytes_leaves_nothing(tmp_path):
    with PartFile(tmp_path / "x") as part:
        part.begin(SOURCE)
    assert list(tmp_path.iterdir()) == []


def test_the_state_says_of_what_it_is_a_part(tmp_path):
    with PartFile(tmp_path / "x") as part:
        part.begin(SOURCE)
        part.write(b"1")
    assert json.loads((tmp_path / "x.part.json").read_text()) == {"schema_version": 1, "location": "s3://b/k", "version": "v1", "num_bytes": len(LINES)}


def test_room_is_asked_of_the_disk_below(tmp_path):
    check_room(tmp_path / "not" / "yet", 0)
    with pytest.raises(DataError, match=r"too little room on this disk: 1000000\.0 TB and 268\.4 MB to spare are needed"):
        check_room(tmp_path / "not" / "yet", 10**18)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.jsonl", LINES, None),
        ("x.jsonl", LINES[:-3], "whole line"),
        ("x.jsonl.gz", gzip.compress(LINES, mtime=0), None),
        ("x.jsonl.gz", gzip.compress(LINES, mtime=0) + gzip.compress(LINES, mtime=0), None),
        ("x.jsonl.gz", gzip.compress(LINES, mtime=0) + b"junk", "damaged"),
        ("x.jsonl.gz", gzip.compress(LINES, mtime=0)[:-4], "cut short"),
        ("x.jsonl.gz", gzip.compress(LINES[:-3], mtime=0), "whole line"),
        ("x.jsonl.gz", b"", "cut short"),
        ("x.csv", b"a,b\n1,2", None),
    ],
)
def test_whole_files_and_others(tmp_path, monkeypatch, name, content, words):
    # Small pieces, so that every state between two pieces is met.
    monkeypatch.setattr(part_file, "_READ_BYTES", 7)
    monkeypatch.setattr(part_file, "_UNPACK_BYTES", 100)
    path = tmp_path / "x.part"
    path.write_bytes(content)
    if words is None:
        assert check_whole(path, shown_as=name) == hashlib.sha256(content).hexdigest()
    else:
        with pytest.raises(DataError, match=f"^{name}: is .*{words}"):
            check_whole(path, shown_as=name)
