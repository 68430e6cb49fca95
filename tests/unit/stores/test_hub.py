"""The hub's file system, against a server that answers as the hub does."""

import hashlib
import json
import socket
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

import pytest

from penname.errors import StoreError, UsageError
from penname.stores import hub as module
from penname.stores.inputs import local_copy

LINES = b'{"rating": 5.0}\n' * 1000
REPO = "/api/datasets/lab/reviews"
COMMIT = "a" * 40


class _Hub(BaseHTTPRequestHandler):
    content, refuses = LINES, 0

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if self.refuses:
            self._json({"error": "no"}, self.refuses)
        elif path == REPO or path == f"{REPO}/revision/main":
            self._json(
                {
                    "id": "lab/reviews",
                    "sha": COMMIT,
                    "siblings": [],
                    "private": False,
                    "tags": [],
                    "downloads": 0,
                    "likes": 0,
                    "disabled": False,
                    "gated": False,
                }
            )
        elif path.startswith(f"{REPO}/tree/main"):
            folder = path.removeprefix(f"{REPO}/tree/main").strip("/")
            names = {"": [("directory", "raw")], "raw": [("file", "raw/All.jsonl"), ("file", "raw/small.txt")]}.get(folder)
            self._json([self._entry(kind, name) for kind, name in names] if names else {"error": "none"}, 200 if names else 404, "EntryNotFound")
        elif path == "/datasets/lab/reviews/resolve/main/raw/All.jsonl":
            self._file()
        else:
            self._json({"error": "Repository not found"}, 404, "RepoNotFound")

    do_HEAD = do_GET

    def _entry(self, kind, name):
        entry = {"type": kind, "path": name, "oid": "b" * 40, "size": len(self.content) if kind == "file" else 0}
        sha256 = hashlib.sha256(LINES).hexdigest()
        return entry | ({"lfs": {"oid": sha256, "size": len(self.content), "pointerSize": 134}} if name.endswith(".jsonl") else {})

    def _file(self) -> None:
        start, _, end = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        piece = self.content[int(start) : int(end) + 1 if end else None]
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(len(piece)))
        self.send_header("Content-Range", f"bytes {start}-{int(start) + len(piece) - 1}/{len(self.content)}")
        self.send_header("ETag", '"tag"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(piece)

    def _json(self, value, status=200, code=None) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if code and status != 200:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch):
    # The name may be set where tests run; what is tested is not that.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = type("Hub", (_Hub,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield handler
    server.shutdown()
    server.server_close()


def test_a_file_of_a_data_set_comes_and_is_checked(hub, tmp_path):
    path = local_copy("hf://datasets/lab/reviews/raw/All.jsonl", cache=tmp_path)
    assert (path.name, path.read_bytes()) == ("All.jsonl", LINES)
    assert local_copy("hf://datasets/lab/reviews/raw/*.jsonl", cache=tmp_path).is_dir()


def test_another_content_than_the_hub_says_is_found(hub, tmp_path):
    hub.content = LINES.replace(b"5", b"1")
    from penname.errors import DataError

    with pytest.raises(DataError, match="what came is not what the store has"):
        local_copy("hf://datasets/lab/reviews/raw/All.jsonl", cache=tmp_path)
    assert list(tmp_path.rglob("All.jsonl")) == []


@pytest.mark.parametrize(
    "location", ["hf://datasets/lab/none/raw/All.jsonl", "hf://datasets/lab/reviews/raw/none.jsonl", "hf://datasets/lab/reviews/none/x.jsonl"]
)
def test_what_is_not_there_is_told(hub, tmp_path, location):
    with pytest.raises(StoreError, match=rf"^{location}: http://127.* shows no such (file|data set)"):
        local_copy(location, cache=tmp_path)


def test_a_refusal_is_told(hub, tmp_path):
    hub.refuses = 403
    with pytest.raises(StoreError, match=r"HF_TOKEN|HTTP 403"):
        local_copy("hf://datasets/lab/reviews/raw/All.jsonl", cache=tmp_path)


@pytest.mark.parametrize("location", ["hf://lab/model/x", "hf://datasets/lab"])
def test_data_sets_only(hub, tmp_path, location):
    with pytest.raises(UsageError, match="names no data set of the hub"):
        local_copy(location, cache=tmp_path)


def test_a_hub_that_says_nothing_is_told_in_time(hub, tmp_path, monkeypatch):
    assert module.ANSWER_SECS < 20
    monkeypatch.setattr(module, "ANSWER_SECS", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(5)
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(StoreError, match=r"does not answer \(no answer after 0 s\)"):
            local_copy("hf://datasets/lab/reviews/raw/All.jsonl", cache=tmp_path)
        assert time.monotonic() - began < 5
