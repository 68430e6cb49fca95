"""A web server of files that behaves badly on request: it drops connections, lies about lengths, refuses, ignores ranges, changes its files."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Turn:
    """How one request is answered; the defaults are those of a good server."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    sends: int | None = None
    """Bytes of the body before the connection is dropped."""
    stalls_secs: float = 0.0
    """How long it then says nothing before that."""
    claims: int | None = None
    """A Content-Length that is not true."""
    ignores_range: bool = False
    ignores_if_range: bool = False
    starts_at: int | None = None
    """Sends another piece than was asked for."""
    before: Callable[[], Any] | None = None


class FileServer:
    """Files by path, and what was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.turns: list[Turn] = []
        """For the next GETs."""
        self.head_turns: list[Turn] = []
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.tags = True
        outer = self

        class Handler(_Handler):
            server_of_files = outer

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def gets(self) -> list[dict[str, str]]:
        """Headers of every GET."""
        return [headers for method, _, headers in self.asked if method == "GET"]

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    server_of_files: FileServer

    def do_HEAD(self) -> None:
        self._answer(self.server_of_files.head_turns)

    def do_GET(self) -> None:
        self._answer(self.server_of_files.turns)

    def _answer(self, turns: list[Turn]) -> None:
        server = self.server_of_files
        server.asked.append((self.command, self.path, dict(self.headers)))
        turn = turns.pop(0) if turns else Turn()
        if turn.before is not None:
            turn.before()
        body = server.files.get(self.path)
        status, headers = turn.status or (200 if body is not None else 404), dict(turn.headers)
        body = body if status == 200 and body is not None else b""
        if status == 200:
            tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
            if server.tags:
                headers.setdefault("ETag", tag)
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if asked and not turn.ignores_range and (turn.ignores_if_range or self.headers.get("If-Range", tag) == tag):
                start = int(asked[1]) if turn.starts_at is None else turn.starts_at
                status, headers["Content-Range"] = 206, f"bytes {start}-{len(body) - 1}/{len(body)}"
                body = body[start:]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if turn.claims is None else turn.claims))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body if turn.sends is None else body[: turn.sends])
            time.sleep(turn.stalls_secs)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serve_files() -> Iterator[FileServer]:
    """A server for the block."""
    server = FileServer()
    try:
        yield server
    finally:
        server.close()
