"""S3 on this machine: one that works, and one that only refuses."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from penname.stores import s3
from tests.s3_server import Bucket, keys_for, serve_s3


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    with serve_s3() as endpoint:
        yield endpoint


@pytest.fixture
def aws(monkeypatch):
    """The environment of somebody with credentials, for the endpoint given."""

    def point_to(endpoint: str) -> None:
        for name, value in keys_for(endpoint).items():
            monkeypatch.setenv(name, value)
        for name in ("AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN"):
            monkeypatch.delenv(name, raising=False)

    return point_to


@pytest.fixture
def bucket(aws, s3_endpoint) -> Bucket:
    aws(s3_endpoint)
    return Bucket(s3_endpoint)


class _Refusing(BaseHTTPRequestHandler):
    status, code = 403, "AccessDenied"

    def do_GET(self) -> None:
        body = f"<?xml version='1.0'?><Error><Code>{self.code}</Code><Message>no</Message></Error>".encode()
        self.send_response(self.status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def refusing(aws, monkeypatch):
    """Starts an S3 that answers everything with one error."""
    servers = []

    def start(status: int, code: str) -> None:
        monkeypatch.setattr(s3, "_MAX_TRIES", 1)
        handler = type("Handler", (_Refusing,), {"status": status, "code": code})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        aws(f"http://127.0.0.1:{server.server_port}")

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
