"""The command: what it says when the folder, the port, the address or the extra is not there, and that it answers."""

import socket
import sys

import pytest

from penname.errors import UsageError
from penname.web import serve as module
from penname.web.serve import open_server
from tests.web_run import write_web_run


@pytest.fixture
def root(tmp_path):
    return write_web_run(tmp_path / "run").root


def test_a_free_port_and_its_address(root):
    server = open_server(root, port=0)
    port = server.listener.getsockname()[1]
    assert server.lines == [f"PRIVATE     http://127.0.0.1:{port}/  (this machine only; Ctrl-C stops it)"]
    server.listener.close()


def test_a_new_token_gives_two_links(root):
    server = open_server(root, port=0, token="new")
    owner, rater = (line.split("token=")[1].split()[0] for line in server.lines)
    assert len(owner) >= 16
    assert owner not in rater
    server.listener.close()


def test_a_port_in_use(root):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"--port {port}: is in use by another program; choose another"):
            open_server(root, port=port)


def test_an_address_of_nobody(root):
    with pytest.raises(UsageError, match="is no address of this machine"):
        open_server(root, host="no such host.invalid", token="x" * 20, port=0)


def test_the_network_without_a_token(root):
    with pytest.raises(UsageError, match=r"--host 0\.0\.0\.0: other machines"):
        open_server(root, host="0.0.0.0", port=0)


def test_a_missing_extra_is_named(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.delitem(sys.modules, "penname.web.app", raising=False)
    with pytest.raises(UsageError, match=r"fastapi is not installed; pip install 'penname\[web\]'"):
        open_server(root, port=0)


def test_serving_says_the_address_first(root, monkeypatch):
    said, ran = [], []
    monkeypatch.setattr(module.Server, "run", lambda self: (ran.append(list(said)), self.listener.close()))
    module.serve(root, say=said.append, port=0)
    assert ran == [said]
    assert said
