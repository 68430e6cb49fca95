"""One file over HTTP: resumed where it stopped, tried again where that may help, and never put together from two versions."""

from __future__ import annotations

import email.utils
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from penname import __version__
from penname.errors import DataError, StoreError, UsageError
from penname.progress import format_secs, say, show_progress
from penname.stores.part_file import PartFile, Source, check_whole, format_bytes

if TYPE_CHECKING:
    from requests import Response, Session

_PIECE_BYTES = 2**16
"""A try that breaks loses less than one piece."""
_MAX_REDIRECTS = 5
_MAX_FIRST_TRIES = 4
_WORTH_ANOTHER_TRY = {408, 425, 429, 500, 502, 503, 504, 509, 520, 521, 522, 523, 524, 529}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)$")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server is waited for."""

    max_tries: int = 8
    """Tries in a row that bring less than `worth_bytes`; a server that drops every connection after a while may do so as often as it likes."""
    worth_bytes: int = 2**20
    connect_secs: float = 10.0
    silent_secs: float = 60.0
    first_wait_secs: float = 1.0
    """Before the second try; doubled after each."""
    max_wait_secs: float = 60.0
    max_asked_wait_secs: float = 600.0
    """A server that asks (Retry-After) for a longer wait is not waited for."""
    sleep: Callable[[float], None] = time.sleep
    draw: Callable[[], float] = random.random
    """Uniform in [0, 1): spreads those who wait for the same server."""


class _TryAgainError(Exception):
    """What went wrong may go right the next time."""

    def __init__(self, reason: str, asked_wait_secs: float | None = None) -> None:
        super().__init__(reason)
        self.asked_wait_secs = asked_wait_secs


def open_session() -> Session:
    """An HTTP session that takes files as they are: no unpacking on the way, few redirects; proxies from the environment."""
    import requests

    session = requests.Session()
    session.max_redirects = _MAX_REDIRECTS
    session.headers.update({"User-Agent": f"penname/{__version__}", "Accept-Encoding": "identity"})
    return session


def ask_size(url: str, session: Session, patience: Patience) -> int | None:
    """How many bytes a file has, as the server says; None where it does not.

    Raises:
      StoreError: the server refuses the file, or does not answer.
      UsageError: the address is none.
    """
    _check_url(url)

    def ask() -> int | None:
        with closing(_request(session, "HEAD", url, {}, patience)) as response:
            # Some servers know no HEAD; the GET that follows says what there is.
            if response.status_code in (400, 405, 501):
                return None
            _check_status(response, url)
            length = response.headers.get("Content-Length", "")
            return int(length) if length.isdigit() else None

    # Who does not answer the first question is more likely not there than busy.
    return _insist(ask, url, replace(patience, max_tries=min(patience.max_tries, _MAX_FIRST_TRIES)), progress_of=lambda: 0)


def download(url: str, target: Path, session: Session, patience: Patience, *, sha256: str | None = None) -> str:
    """Fetches a file, or the rest of it where an earlier try left a part.

    Guarantee: `target` appears only when it is whole: of the length that the server stated, gzip and JSON lines to their end, and of the SHA-256 asked
    for. Parts of two versions of a file are never put together: a part goes on only under If-Range, with the entity tag or date that it began with.

    Args:
      url: http or https.
      target: PRIVATE. `target.part` and `target.part.json` beside it until it is whole.
      session: Of `open_session`.
      patience: How often and how long.
      sha256: What it must be, in hexadecimal; none: whatever comes.
    Returns:
      Its SHA-256.
    Raises:
      StoreError: the server refuses, or gives up before the file is whole. The part stays.
      DataError: too little room, or what came is damaged; then the part is removed.
    """
    _check_url(url)
    with PartFile(target) as part:
        if part.num_bytes and part.source is not None and part.source.location == url:
            say(f"{target.name}: {format_bytes(part.num_bytes)} are here already")
        try:
            _insist(lambda: _fetch_rest(url, part, session, patience), url, patience, progress_of=lambda: part.num_bytes)
        except KeyboardInterrupt:
            say(f"{target.name}: stopped; {part.path} keeps what has come, and the same command goes on there")
            raise
        part.flush()
        try:
            found = check_whole(part.path, shown_as=target.name)
        except DataError as error:
            part.discard()
            raise DataError(f"{error}; what {url} sent was removed, run the same command to fetch it anew") from None
        if sha256 is not None and found != sha256.lower():
            part.discard()
            raise DataError(f"{url}: has SHA-256 {found}, not {sha256.lower()}; it was removed: another version, or not the file that you want")
        part.finish()
    return found


def _insist(work: Callable[[], Any], url: str, patience: Patience, *, progress_of: Callable[[], int]) -> Any:
    """Tries until it works, with longer and longer waits; gives up when nothing more comes."""
    failures = 0
    while True:
        before = progress_of()
        try:
            return work()
        except _TryAgainError as problem:
            failures = failures + 1 if progress_of() - before < patience.worth_bytes else 1
            if failures >= patience.max_tries:
                raise StoreError(f"{url}: {problem}; gave up after {failures} tries; run the same command again later to go on") from None
            secs = patience.first_wait_secs * 2 ** (failures - 1)
            secs = min(secs, patience.max_wait_secs) * (0.5 + patience.draw() / 2)
            if problem.asked_wait_secs is not None:
                if problem.asked_wait_secs > patience.max_asked_wait_secs:
                    asked = format_secs(problem.asked_wait_secs)
                    raise StoreError(f"{url}: {problem} and asks to wait {asked}; run the same command again after that") from None
                secs = max(secs, problem.asked_wait_secs)
            say(f"{urlsplit(url).path.rpartition('/')[2]}: {problem}; next try in {format_secs(secs)}")
            patience.sleep(secs)


def _fetch_rest(url: str, part: PartFile, session: Session, patience: Patience) -> None:
    """One try."""
    if part.source is not None and part.source.location != url:
        part.source = None
    if part.is_complete:
        return
    headers: dict[str, str] = {}
    if part.num_bytes and part.source is not None and part.source.version is not None:
        headers = {"Range": f"bytes={part.num_bytes}-", "If-Range": part.source.version}
    with closing(_request(session, "GET", url, headers, patience)) as response:
        if headers and response.status_code in (412, 416):
            part.begin(Source(url, None, None))
            raise _TryAgainError("the server has no such rest of the file; it is fetched anew")
        _check_status(response, url)
        if response.status_code == 206:
            _check_goes_on(response, part)
        else:
            length = response.headers.get("Content-Length", "")
            part.begin(Source(url, _version(response), int(length) if length.isdigit() else None))
        part.check_room()
        total = part.source.num_bytes if part.source is not None else None
        with show_progress(f"fetch {part.target.name}", total or 0, done=part.num_bytes) as progress:
            for piece in _pieces(response):
                part.write(piece)
                progress.advance(len(piece))
    if total is not None and part.num_bytes < total:
        raise _TryAgainError(f"the server promised {total} bytes and has sent {part.num_bytes}")
    if total is not None and part.num_bytes > total:
        part.begin(Source(url, None, None))
        raise _TryAgainError(f"the server sent more than the {total} bytes that it promised")


def _check_goes_on(response: Response, part: PartFile) -> None:
    """Sees to it that a partial answer is the rest of the very file that the part began with."""
    found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    source = part.source
    is_rest = found is not None and source is not None and int(found[1]) == part.num_bytes and source.num_bytes in (None, int(found[3]))
    if not is_rest or source is None or found is None or _version(response) not in (None, source.version):
        part.begin(Source(source.location if source else "", None, None))
        raise _TryAgainError("the file has changed on the server, or it sent another piece than was asked for; it is fetched anew")


def _version(response: Response) -> str | None:
    """What tells this version of the file from another: a strong entity tag, else the time of its last change."""
    tag = response.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")


def _pieces(response: Response) -> Iterator[bytes]:
    """The body as it came, whatever encoding the server calls it."""
    from urllib3.exceptions import HTTPError

    pieces = response.raw.stream(_PIECE_BYTES, decode_content=False)
    while True:
        try:
            piece = next(pieces, None)
        except HTTPError as error:
            raise _TryAgainError(f"the connection broke ({_first_line(error)})") from None
        if piece is None:
            return
        yield piece


def _request(session: Session, method: str, url: str, headers: dict[str, str], patience: Patience) -> Response:
    import requests

    try:
        response = session.request(method, url, headers=headers, stream=True, allow_redirects=True, timeout=(patience.connect_secs, patience.silent_secs))
    except requests.TooManyRedirects:
        raise StoreError(f"{url}: the server redirects in a circle; check --base-url") from None
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema):
        raise StoreError(f"{url}: leads to an address that is not http or https; check --base-url") from None
    except requests.exceptions.SSLError as error:
        raise StoreError(f"{url}: the server's certificate cannot be trusted ({_first_line(error)}); check the address, the clock and the proxy") from None
    except requests.Timeout:
        raise _TryAgainError("the server does not answer") from None
    except requests.RequestException as error:
        raise _TryAgainError(f"no connection ({_first_line(error)})") from None
    if url.startswith("https:") and any(not step.url.startswith("https:") for step in (*response.history, response)):
        response.close()
        raise StoreError(f"{url}: leads from https to http, where anyone could change the file; check --base-url")
    return response


def _check_status(response: Response, url: str) -> None:
    status = response.status_code
    if status in (200, 206):
        return
    if status in _WORTH_ANOTHER_TRY:
        words = "is asked too often" if status == 429 else "has trouble"
        raise _TryAgainError(f"the server {words} (HTTP {status})", _asked_wait_secs(response))
    if status in (404, 410):
        raise StoreError(f"{url}: there is no such file (HTTP {status}); check --base-url, or take the other source with --mirror")
    if status in (401, 403, 407, 451):
        raise StoreError(f"{url}: the server refuses it (HTTP {status}); check --base-url and the proxy, or take the other source with --mirror")
    raise StoreError(f"{url}: the server answers HTTP {status}; check --base-url")


def _asked_wait_secs(response: Response) -> float | None:
    """Retry-After: seconds, or a date."""
    asked = response.headers.get("Retry-After", "").strip()
    if asked.isdigit():
        return float(asked)
    try:
        date = email.utils.parsedate_to_datetime(asked)
    except ValueError:
        return None
    return max(0.0, date.timestamp() - time.time())


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable():
        raise UsageError(f"{url!r}: is no http or https address; check --base-url")


def _first_line(error: BaseException) -> str:
    """The innermost reason: what wraps it repeats the address."""
    seen: list[BaseException] = []
    inner: BaseException | None = error
    while inner is not None and inner not in seen:
        seen.append(inner)
        inside = (*inner.args, getattr(inner, "reason", None), inner.__cause__)
        inner = next((value for value in inside if isinstance(value, BaseException)), None)
    text = getattr(seen[-1], "strerror", None) or str(seen[-1]) or type(seen[-1]).__name__
    return text.splitlines()[0][:160]
