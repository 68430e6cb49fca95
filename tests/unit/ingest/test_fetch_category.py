"""A category: both files, their checksums, the terms; and what a second run finds."""

import gzip
import hashlib

import pytest

from penname.errors import DataError, StoreError, UsageError
from penname.ingest.data_sets import TERMS
from penname.ingest.download import Patience
from penname.ingest.fetch import fetch_category
from tests.file_server import Turn, serve_files

REVIEWS = gzip.compress(b'{"rating": 5.0}\n' * 50, mtime=0)
PRODUCTS = gzip.compress(b'{"title": "a case"}\n' * 50, mtime=0)
NAMES = ["SHA256SUMS", "TERMS.txt", "Video_Games.jsonl.gz", "meta_Video_Games.jsonl.gz"]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve_files() as server:
        server.files = {"/review_categories/Video_Games.jsonl.gz": REVIEWS, "/meta_categories/meta_Video_Games.jsonl.gz": PRODUCTS}
        yield server


@pytest.fixture
def fetch(server, tmp_path):
    def run(category="Video_Games", **options):
        return fetch_category(
            "amazon-reviews-2023", category, tmp_path / "out", **{"base_url": server.url, "patience": Patience(sleep=lambda secs: None)} | options
        )

    return run


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_both_files_come_with_their_checksums_and_terms(fetch, tmp_path, capsys):
    out = tmp_path / "out"
    paths, has_fetched = fetch()
    assert (paths, has_fetched) == ([out / NAMES[2], out / NAMES[3]], True)
    assert names(out) == NAMES
    assert (out / NAMES[2]).read_bytes() == REVIEWS
    assert (out / "SHA256SUMS").read_text() == f"{hashlib.sha256(REVIEWS).hexdigest()}  {NAMES[2]}\n{hashlib.sha256(PRODUCTS).hexdigest()}  {NAMES[3]}\n"
    assert (out / "TERMS.txt").read_text() == TERMS
    assert TERMS in capsys.readouterr().err


def test_a_second_run_reads_what_is_there_and_asks_nobody(fetch, server, tmp_path, capsys):
    fetch()
    server.asked.clear()
    capsys.readouterr()
    assert fetch() == ([tmp_path / "out" / NAMES[2], tmp_path / "out" / NAMES[3]], False)
    assert server.asked == []
    assert TERMS not in capsys.readouterr().err


def test_the_terms_are_shown_once_a_folder(fetch, server, capsys):
    fetch()
    for path, body in list(server.files.items()):
        server.files[path.replace("Video_Games", "Software")] = body
    capsys.readouterr()
    fetch("software")
    assert TERMS not in capsys.readouterr().err


def test_what_was_fetched_before_a_failure_is_kept(fetch, server, tmp_path):
    # The first is the size of the reviews, the third and fourth are the files.
    server.turns = [Turn(), Turn(status=403)]
    with pytest.raises(StoreError, match=r"meta_Video_Games.jsonl.gz: the server refuses it \(HTTP 403\).*--mirror"):
        fetch()
    assert names(tmp_path / "out") == NAMES[:3]
    server.asked.clear()
    fetch()
    assert {path for _, path, _ in server.asked} == {"/meta_categories/meta_Video_Games.jsonl.gz"}


def test_a_category_that_the_place_lacks_is_told_before_anything_is_fetched(fetch, server, tmp_path):
    with pytest.raises(StoreError, match=r"Books.jsonl.gz: there is no such file \(HTTP 404\)"):
        fetch("Books")
    assert server.gets() == []


def test_room_for_both_is_asked_first(fetch, server, monkeypatch, tmp_path):
    from penname.ingest import fetch as module

    asked = []
    monkeypatch.setattr(module, "check_room", lambda folder, num_bytes: asked.append(num_bytes))
    fetch()
    assert asked == [len(REVIEWS) + len(PRODUCTS)]


def test_a_file_that_has_changed_on_disk_is_told(fetch, tmp_path):
    fetch()
    (tmp_path / "out" / NAMES[2]).write_bytes(PRODUCTS)
    with pytest.raises(DataError, match=r"Video_Games.jsonl.gz: is not the file that SHA256SUMS says"):
        fetch()


def test_a_file_put_there_by_hand_gets_its_checksum(fetch, server, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / NAMES[2]).write_bytes(REVIEWS)
    fetch()
    assert hashlib.sha256(REVIEWS).hexdigest() in (tmp_path / "out" / "SHA256SUMS").read_text()
    assert len(server.gets()) == 1
    (tmp_path / "out" / NAMES[3]).write_bytes(PRODUCTS[:-9])
    with pytest.raises(DataError, match="cut short"):
        fetch()


def test_pinned_checksums(fetch, tmp_path):
    pins = tmp_path / "pins"
    pins.write_text(f"{'0' * 64} *{NAMES[3]}\n")
    with pytest.raises(DataError, match=f"has SHA-256 .* not {'0' * 64}"):
        fetch(checksums=pins)
    assert not (tmp_path / "out" / NAMES[3]).exists()
    pins.write_text(f"{hashlib.sha256(PRODUCTS).hexdigest()}  {NAMES[3]}\n")
    assert fetch(checksums=pins)[1]
    pins.write_text(f"{'0' * 64}  {NAMES[3]}\n")
    with pytest.raises(DataError, match="is not the file that the checksums given says"):
        fetch(checksums=pins)
    pins.write_text("MD5 what\n")
    with pytest.raises(UsageError, match="pins:1: is no checksum"):
        fetch(checksums=pins)
    with pytest.raises(UsageError, match="no such file of checksums"):
        fetch(checksums=tmp_path / "none")


def test_the_mirror_has_other_names(fetch, server, tmp_path):
    server.files = {"/review_categories/Video_Games.jsonl": gzip.decompress(REVIEWS), "/meta_categories/meta_Video_Games.jsonl": gzip.decompress(PRODUCTS)}
    paths, _ = fetch(mirror=True)
    assert [path.name for path in paths] == ["Video_Games.jsonl", "meta_Video_Games.jsonl"]


def test_wrong_words(fetch, tmp_path):
    with pytest.raises(UsageError, match="'yelp': cannot be fetched; amazon-reviews-2023 can"):
        fetch_category("yelp", "Books", tmp_path)
    (tmp_path / "out").write_text("")
    with pytest.raises(UsageError, match="is a file; --out needs a folder"):
        fetch()
