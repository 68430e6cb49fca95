"""What every request passes before a page is made: its host, its origin, its size, who sends it; and what every answer carries."""

from __future__ import annotations

import asyncio
import re
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from penname.web.access import Access, Role
from penname.web.pages import render_message

MAX_BODY_BYTES = 64 * 1024
"""A judgement with a full note has a few kilobytes."""
MAX_URL_BYTES = 4096
_WRONG_TOKEN_SECS = 0.5
_RATER_PATHS = re.compile(r"/|/run/[^/]+/rate(/.*)?")
_OPEN_PATHS = re.compile(r"/static/[\w.-]+|/sign-in")

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: a browser would then send "Origin: null" with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """ASGI middleware around the pages."""

    def __init__(self, app: Any, access: Access, cookie_name: str) -> None:
        self.app, self.access, self.cookie_name = app, access, cookie_name

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Lets a request through, or answers it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refuse(scope, headers)
        if refusal is None:
            role = self._find_role(headers)
            refusal = await self._sign_in(scope, role)
        if refusal is not None:
            await _answer(send, *refusal)
            return
        scope["state"] = {**scope.get("state", {}), "role": self._find_role(headers)}
        await self.app(scope, _limit_body(receive), _add_headers(send))

    def _refuse(self, scope: Any, headers: dict[str, str]) -> tuple[int, str, dict[str, str]] | None:
        """What is wrong with a request whoever sends it."""
        if not self.access.is_known_host(headers.get("host")):
            return _say(400, "Another address", "This server does not go by that name. Open the address that `penname serve` printed.")
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MAX_URL_BYTES:
            return _say(414, "Too long", "The address of this page is too long.")
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return _say(405, "Not possible", "Pages are read (GET) or answered (POST).")
        if scope["method"] == "POST":
            if not _is_same_origin(headers):
                return _say(403, "From another page", "This answer was sent from another site, so it was not stored.")
            length = headers.get("content-length", "")
            if not length.isdecimal():
                return _say(411, "No length", "The answer does not say how long it is.")
            if int(length) > MAX_BODY_BYTES:
                return _say(413, "Too long", f"An answer has at most {MAX_BODY_BYTES:,} bytes. Nothing was stored; go back and shorten the note.")
        return None

    def _find_role(self, headers: dict[str, str]) -> Role | None:
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(self.cookie_name)
        except CookieError:
            morsel = None
        return self.access.read_session(morsel.value if morsel else None)

    async def _sign_in(self, scope: Any, role: Role | None) -> tuple[int, str, dict[str, str]] | None:
        """Takes a token out of the address into a cookie; sends who has none to where a token is asked for."""
        path, query = scope["path"], parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if self.access.token is not None and "token" in query and scope["method"] == "GET":
            found = self.access.find_role(query["token"][0])
            if found is None:
                await asyncio.sleep(_WRONG_TOKEN_SECS)
                return _say(403, "Not this token", "The token in the address is not the one of this server.")
            return 303, "", {"Location": "/" + quote(path.lstrip("/")), "Set-Cookie": self.make_cookie(found)}
        if _OPEN_PATHS.fullmatch(path) or role == "owner" or (role == "rater" and _RATER_PATHS.fullmatch(path)):
            return None
        if role == "rater":
            return _say(403, "Only for rating", "Your link opens the pages where records are judged, and no others.")
        if scope["method"] == "GET":
            return 303, "", {"Location": "/sign-in"}
        return _say(403, "Sign in first", "Nothing was stored. Open the link with the token again, then send your answer again.")

    def make_cookie(self, role: Role) -> str:
        """The Set-Cookie header of a role."""
        return f"{self.cookie_name}={self.access.sign_session(role)}; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000"


def _is_same_origin(headers: dict[str, str]) -> bool:
    """Whether a form was sent from a page of this server: the browser says so, and a page cannot make it say otherwise."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site != "same-origin":
        return False
    if origin is not None:
        return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
    return site == "same-origin"


def _say(status: int, title: str, text: str) -> tuple[int, str, dict[str, str]]:
    return status, render_message(title, text), {}


async def _answer(send: Any, status: int, page: str, more: dict[str, str]) -> None:
    headers = {"Content-Type": "text/html; charset=utf-8", **HEADERS, **more}
    body = page.encode()
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in {**headers, "Content-Length": str(len(body))}.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _limit_body(receive: Any) -> Any:
    """A length that is not kept to ends the request."""
    left = MAX_BODY_BYTES

    async def receive_limited() -> Any:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        return message if left >= 0 else {"type": "http.disconnect"}

    return receive_limited


def _add_headers(send: Any) -> Any:
    async def send_with_headers(message: Any) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message["headers"]}
            extra = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in HEADERS.items() if name.lower().encode("latin-1") not in given]
            message = {**message, "headers": [*message["headers"], *extra]}
        await send(message)

    return send_with_headers
