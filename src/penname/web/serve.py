"""The server: checks what it was asked to show and to whom, takes its port, says its address, and answers until it is stopped."""

from __future__ import annotations

import errno
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penname.errors import PennameError, UsageError

DEFAULT_PORT = 8765


@dataclass(frozen=True)
class Server:
    """A server with its port taken."""

    listener: socket.socket
    app: Any
    lines: list[str]
    """What to tell the person who started it."""

    def run(self) -> None:
        """Answers requests until it is interrupted."""
        import uvicorn

        config = uvicorn.Config(self.app, log_level="warning", access_log=False, server_header=False, timeout_keep_alive=5, timeout_graceful_shutdown=3)
        uvicorn.Server(config).run(sockets=[self.listener])


def open_server(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    token: str | None = None,
    allowed_hosts: tuple[str, ...] = (),
    num_per_arm: int | None = None,
) -> Server:
    """Prepares the server and takes its port.

    Args:
      folder: A run folder, or a folder of run folders. PRIVATE.
      host: Loopback, unless there is a token.
      port: 0 takes any that is free.
      token: At least 16 characters; `new` makes one.
      allowed_hosts: Other names that requests may call the server by, such as that of a proxy.
      num_per_arm: Records of each set that people judge; None: 500.
    Raises:
      UsageError: the extra is not installed, the folder holds no run, an address beyond this machine has no token, or the port is taken.
    """
    # Said before anything else: what is wrong with the folder or the token needs no server to say.
    from penname.web.access import Access
    from penname.web.runs import RunFolder

    runs = RunFolder(folder)
    access = Access.open(host, secrets.token_urlsafe(24) if token == "new" else token, allowed_hosts)  # noqa: S105  no token, the word for one
    try:
        from penname.web.app import Site, create_app
    except ImportError as error:
        raise UsageError(f"penname serve: {error.name} is not installed; pip install 'penname[web]'") from None
    listener = _listen(host, port)
    bound_port = listener.getsockname()[1]
    site = Site(runs, access, cookie_name=f"penname_session_{bound_port}")
    if num_per_arm is not None:
        site.num_per_arm = num_per_arm
    return Server(listener, create_app(site), _describe(access, bound_port))


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, UnicodeError):
        raise UsageError(f"--host {host}: is no address of this machine; use 127.0.0.1, or 0.0.0.0 for all of them") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise UsageError(f"--port {port}: is in use by another program; choose another, or 0 for any that is free") from None
        if error.errno == errno.EACCES:
            raise UsageError(f"--port {port}: may not be used without more rights; choose one above 1023") from None
        if error.errno == errno.EADDRNOTAVAIL:
            raise UsageError(f"--host {host}: is no address of this machine; use 127.0.0.1, or 0.0.0.0 for all of them") from None
        raise PennameError(f"--host {host} --port {port}: cannot be opened: {error.strerror}") from None
    return listener


def _describe(access: Any, port: int) -> list[str]:
    name = f"[{access.host}]" if ":" in access.host else access.host
    if access.host in ("0.0.0.0", "::", ""):  # noqa: S104  only compared
        name = socket.gethostname()
    address = f"http://{name}:{port}/"
    if access.token is None:
        return [f"PRIVATE     {address}  (this machine only; Ctrl-C stops it)"]
    return [
        f"PRIVATE     {address}?token={access.link_token('owner')}",
        f"for raters  {address}?token={access.link_token('rater')}  (opens the rating pages only)",
    ]


def serve(folder: Path, *, say: Callable[[str], None] = print, **options: Any) -> None:
    """Opens the server, says its address, and answers until it is interrupted. The command `penname serve`."""
    server = open_server(folder, **options)
    for line in server.lines:
        say(line)
    server.run()
