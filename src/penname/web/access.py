"""Who may see what: nobody without the token where there is one; a rating link opens the rating pages and nothing else."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import socket
from dataclasses import dataclass, field
from typing import Literal

from penname.errors import UsageError

Role = Literal["owner", "rater"]
_ROLES: tuple[Role, ...] = ("owner", "rater")
MIN_TOKEN_CHARACTERS = 16
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Access:
    """What the server asks of a request."""

    host: str
    """What it listens on."""
    token: str | None = field(repr=False)
    """None: only on loopback, and then whoever uses this machine is the owner."""
    allowed_hosts: frozenset[str] = frozenset()
    """Names beside its own that a request may call it by."""

    @classmethod
    def open(cls, host: str, token: str | None, allowed_hosts: tuple[str, ...] = ()) -> Access:
        """Checks that the pages, which quote private records, are not open to a network without a token.

        Raises:
          UsageError: the address is not of this machine alone and there is no token; or the token is short.
        """
        if token is None and not is_loopback(host):
            raise UsageError(
                f"--host {host}: other machines can reach this address, and the pages show private records; give a --token of at least "
                f"{MIN_TOKEN_CHARACTERS} characters (or set PENNAME_TOKEN), or leave --host out"
            )
        if token is not None and (len(token) < MIN_TOKEN_CHARACTERS or not re.fullmatch(r"[\x21-\x7e]+", token)):
            raise UsageError(f"--token: needs at least {MIN_TOKEN_CHARACTERS} characters, letters, digits and signs without spaces")
        return cls(host, token, frozenset(name.lower() for name in allowed_hosts))

    def link_token(self, role: Role) -> str:
        """What stands in the link for this role: the token itself for the owner, what is made from it for raters."""
        return (self.token or "") if role == "owner" else self._sign("rating link")

    def find_role(self, given: str) -> Role | None:
        """The role that a token or a rating link gives; compared in constant time."""
        found: list[Role] = [role for role in _ROLES if hmac.compare_digest(given.encode(), self.link_token(role).encode())]
        return found[0] if found and self.token is not None else None

    def sign_session(self, role: Role) -> str:
        """What the cookie of this role holds; not the token, so that a cookie that gets out does not give the token away."""
        return f"{role}.{self._sign(f'session {role}')}"

    def read_session(self, cookie: str | None) -> Role | None:
        """The role of a request with this cookie."""
        if self.token is None:
            return "owner"
        found: list[Role] = [role for role in _ROLES if hmac.compare_digest((cookie or "").encode(), self.sign_session(role).encode())]
        return found[0] if found else None

    def _sign(self, purpose: str) -> str:
        return hmac.new((self.token or "").encode(), f"penname {purpose}".encode(), hashlib.sha256).hexdigest()

    def is_known_host(self, header: str | None) -> bool:
        """Whether the Host header names this server: another site's name that was made to point here (DNS rebinding) is not answered."""
        name = split_host(header or "")
        if name is None:
            return False
        if name in self.allowed_hosts or name == self.host.lower():
            return True
        if is_loopback(self.host):
            return name in _LOOPBACK_NAMES
        # Everything here needs the token, and an address cannot be rebound; a name can, so only the machine's own is known.
        return is_address(name) or name in (socket.gethostname().lower(), socket.getfqdn().lower(), "localhost")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0"), is_loopback("")
    (True, True, False, False)
    """
    if host.lower() == "localhost":
        return True
    return is_address(host) and ipaddress.ip_address(host).is_loopback


def is_address(name: str) -> bool:
    """Whether a host is written as an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def split_host(header: str) -> str | None:
    """The name in a Host header, in lower case and without port; None where it is no host.

    >>> split_host("LocalHost:8000"), split_host("[::1]:8000"), split_host("evil.example@localhost")
    ('localhost', '::1', None)
    """
    match = re.fullmatch(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::\d{1,5})?", header)
    return (match["six"] or match["name"]).lower() if match else None
