"""Input files from S3 and from the hub, as files of this machine."""

import gzip
import json
import socket
import time
from pathlib import Path

import pytest

from penname.errors import StoreError, UsageError
from penname.stores import s3
from penname.stores.inputs import local_copy
from penname.stores.s3 import S3Store

LINES = b'{"rating": 5.0}\n' * 1000


def test_a_path_comes_back_as_it_is(tmp_path):
    assert local_copy(str(tmp_path / "none.csv"), cache=tmp_path) == tmp_path / "none.csv"


def test_what_is_compressed_stays_as_it_is(bucket, tmp_path):
    packed = gzip.compress(LINES)
    bucket.put("reviews.jsonl.gz", packed)
    assert local_copy("s3://reviews/reviews.jsonl.gz", cache=tmp_path).read_bytes() == packed


def test_an_object_is_fetched_once_and_again_when_it_changes(bucket, tmp_path, monkeypatch):
    bucket.put("in/reviews.jsonl", LINES)
    path = local_copy("s3://reviews/in/reviews.jsonl", cache=tmp_path)
    assert (path.name, path.read_bytes()) == ("reviews.jsonl", LINES)
    reads = []
    really = S3Store.read
    monkeypatch.setattr(S3Store, "read", lambda *arguments: reads.append(1) or really(*arguments))
    assert local_copy("s3://reviews/in/reviews.jsonl", cache=tmp_path) == path
    assert reads == []
    bucket.put("in/reviews.jsonl", LINES[::-1])
    assert local_copy("s3://reviews/in/reviews.jsonl", cache=tmp_path).read_bytes() == LINES[::-1]


def test_a_fetch_that_was_stopped_goes_on(bucket, tmp_path, monkeypatch):
    bucket.put("reviews.jsonl", LINES)
    monkeypatch.setattr(s3, "_PIECE_BYTES", 4000)
    starts = []
    really = S3Store.read

    def read(store, file, start):
        starts.append(start)
        for number, piece in enumerate(really(store, file, start)):
            if number == 2 and len(starts) == 1:
                raise KeyboardInterrupt
            yield piece

    monkeypatch.setattr(S3Store, "read", read)
    with pytest.raises(KeyboardInterrupt):
        local_copy("s3://reviews/reviews.jsonl", cache=tmp_path)
    assert local_copy("s3://reviews/reviews.jsonl", cache=tmp_path).read_bytes() == LINES
    assert starts == [0, 8000]


def test_an_object_that_changes_while_it_is_read_is_not_glued(bucket, tmp_path, monkeypatch):
    bucket.put("reviews.jsonl", LINES)
    monkeypatch.setattr(s3, "_PIECE_BYTES", 4000)
    really = S3Store.read

    def read(store, file, start):
        for number, piece in enumerate(really(store, file, start)):
            if number == 2:
                bucket.put("reviews.jsonl", LINES.replace(b"5", b"1"))
            yield piece

    with monkeypatch.context() as patch:
        patch.setattr(S3Store, "read", read)
        with pytest.raises(StoreError, match=r"was changed while it was read|failed"):
            local_copy("s3://reviews/reviews.jsonl", cache=tmp_path)
    assert local_copy("s3://reviews/reviews.jsonl", cache=tmp_path).read_bytes() == LINES.replace(b"5", b"1")


def test_a_folder_and_a_pattern_become_a_folder(bucket, tmp_path):
    for name in ("in/a.jsonl", "in/b.jsonl", "in/_SUCCESS", "in/c.csv", "in/deep/d.jsonl"):
        bucket.put(name, LINES)
    folder = local_copy("s3://reviews/in/", cache=tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["a.jsonl", "b.jsonl", "c.csv"]
    folder = local_copy("s3://reviews/in/*.jsonl", cache=tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["a.jsonl", "b.jsonl"]


@pytest.mark.parametrize("location", ["s3://reviews/none.jsonl", "s3://reviews/none/", "s3://reviews/*.csv", "s3://nobucket/x.jsonl"])
def test_what_is_not_there_is_told(bucket, tmp_path, location):
    with pytest.raises(StoreError, match=rf"^{location.replace('*', '.')}: (the store has no such file|.* has no bucket nobucket)"):
        local_copy(location, cache=tmp_path)
    assert list(tmp_path.rglob("*.jsonl")) == []


def test_a_location_without_a_bucket(aws, tmp_path):
    aws("http://127.0.0.1:9")
    with pytest.raises(UsageError, match="names no bucket"):
        local_copy("s3:///x", cache=tmp_path)


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "AccessDenied", "refuses access; check AWS_ACCESS_KEY_ID.* that they may read it"),
        (403, "InvalidAccessKeyId", "refuses access"),
        (403, "SignatureDoesNotMatch", "refuses access"),
        (301, "PermanentRedirect", "is in another region; set AWS_REGION"),
        (500, "InternalError", "failed .*HTTP 500"),
    ],
)
def test_refusals_are_one_line(refusing, tmp_path, status, code, words):
    refusing(status, code)
    with pytest.raises(StoreError, match=rf"^s3://reviews/x.jsonl: .*{words}") as told:
        local_copy("s3://reviews/x.jsonl", cache=tmp_path)
    assert "\n" not in str(told.value)


def test_wrong_keys_are_told_by_name_where_the_store_tells(refusing, tmp_path):
    refusing(403, "InvalidAccessKeyId")
    with pytest.raises(StoreError, match=r"refuses access \(invalid access key id\).* that they may list it"):
        local_copy("s3://reviews/*.jsonl", cache=tmp_path)


def test_an_endpoint_that_is_not_there(aws, tmp_path, monkeypatch):
    monkeypatch.setattr(s3, "_MAX_TRIES", 1)
    with socket.socket() as gone:
        gone.bind(("127.0.0.1", 0))
        aws(f"http://127.0.0.1:{gone.getsockname()[1]}")
    with pytest.raises(StoreError, match=r"does not answer .*; check AWS_ENDPOINT_URL"):
        local_copy("s3://reviews/x.jsonl", cache=tmp_path)


def test_an_endpoint_that_says_nothing_is_told_in_time(aws, tmp_path, monkeypatch):
    assert (s3._CONNECT_SECS + s3._SILENT_SECS) * s3._MAX_TRIES <= 24
    assert s3._SILENT_SECS * s3._MAX_TRIES < 18
    monkeypatch.setattr(s3, "_SILENT_SECS", 1)
    monkeypatch.setattr(s3, "_MAX_TRIES", 1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(5)
        aws(f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(StoreError, match="does not answer"):
            local_copy("s3://reviews/x.jsonl", cache=tmp_path)
    assert time.monotonic() - began < 10


def test_nothing_of_the_cache_is_for_others(bucket, tmp_path):
    bucket.put("x.jsonl", LINES)
    path = local_copy("s3://reviews/x.jsonl", cache=tmp_path)
    assert path.parent.stat().st_mode & 0o077 == 0
    note = json.loads(Path(f"{path.parent}.json").read_text())
    assert note["location"] == "s3://reviews/x.jsonl"
    assert [inner.name for inner in path.parent.iterdir()] == ["x.jsonl"]
