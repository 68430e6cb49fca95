"""The application: every page, behind the guard. Errors are pages with one clear line."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from penname.errors import PennameError
from penname.evaluate.human.sample import NUM_PER_ARM
from penname.run_dir import RunDir
from penname.web.access import Access
from penname.web.guard import Guard
from penname.web.pages import STATIC, render, render_message
from penname.web.records_index import RecordsIndex
from penname.web.runs import RunFolder, RunSummary

MAX_FIELDS = 40


@dataclass
class Site:
    """What the pages share: the folder of runs, who may see it, and the indexes that were built."""

    runs: RunFolder
    access: Access
    cookie_name: str = "penname_session"
    num_per_arm: int = NUM_PER_ARM
    _indexes: dict[Path, RecordsIndex] = field(default_factory=dict)

    def index_of(self, run: RunSummary) -> RecordsIndex:
        """The index of a run's records; there is one for as long as the server runs."""
        return self._indexes.setdefault(run.root, RecordsIndex(RunDir(run.root)))


def get_site(request: Request) -> Site:
    """What the pages share."""
    return request.app.state.site


def get_run(request: Request, key: str) -> RunSummary:
    """The run that an address names."""
    run = get_site(request).runs.open(key)
    if run is None:
        raise HTTPException(404, "There is no run of this name in the folder; it may have been moved.")
    if run.problem is not None:
        raise PennameError(run.problem)
    return run


async def read_form(request: Request) -> dict[str, list[str]]:
    """The fields of a form; the guard has limited its size."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise HTTPException(415, "A form of these pages is application/x-www-form-urlencoded.")
    try:
        return parse_qs((await request.body()).decode("utf-8"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise HTTPException(400, "The form cannot be read. Nothing was stored.") from None


CurrentSite = Annotated[Site, Depends(get_site)]
CurrentRun = Annotated[RunSummary, Depends(get_run)]
Form = Annotated[dict[str, list[str]], Depends(read_form)]


def show(template: str, /, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page from a template."""
    return HTMLResponse(render(template, **values), status_code=status)


_outer = APIRouter()


@_outer.get("/static/{name}")
def send_static(name: str) -> Response:
    """Style and scripts, which hold nothing private."""
    if name not in STATIC:
        raise HTTPException(404, "There is no such file.")
    path, kind = STATIC[name]
    # The address that a page names holds the hash of the file, so that a browser may keep it.
    return FileResponse(path, media_type=kind, headers={"Cache-Control": "max-age=604800, immutable"})


@_outer.get("/sign-in")
def show_sign_in() -> Response:
    """Asks for the token."""
    return show("sign_in.html.j2", problem=None)


@_outer.post("/sign-in")
async def sign_in(request: Request, form: Form) -> Response:
    """Takes the token into a cookie."""
    site = get_site(request)
    role = site.access.find_role(form.get("token", [""])[0])
    if role is None:
        # So that guessing takes long.
        await asyncio.sleep(0.5)
        return show("sign_in.html.j2", status=403, problem="This is not the token of this server.")
    guard = Guard(None, site.access, site.cookie_name)
    return RedirectResponse("/", 303, headers={"Set-Cookie": guard.make_cookie(role)})


def create_app(site: Site) -> Any:
    """The pages as an ASGI application.

    Args:
      site: The folder of runs and who may see it.
    Returns:
      The application behind its guard.
    """
    from penname.web import rating_pages, record_pages, result_pages, run_pages

    app = FastAPI(title="penname", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.site = site
    for router in (_outer, run_pages.router, record_pages.router, rating_pages.router, result_pages.router):
        app.include_router(router)

    @app.exception_handler(PennameError)
    def explain(_request: Request, error: PennameError) -> Response:
        return HTMLResponse(render_message("This page cannot be shown", " ".join(str(error).split())), status_code=503)

    @app.exception_handler(StarletteHTTPException)
    def say_http_error(_request: Request, error: StarletteHTTPException) -> Response:
        text = "There is no page at this address." if error.detail == "Not Found" else str(error.detail)
        return HTMLResponse(render_message("Not here" if error.status_code == 404 else "Not possible", text), status_code=error.status_code)

    @app.exception_handler(RequestValidationError)
    def say_bad_address(_request: Request, _error: RequestValidationError) -> Response:
        return HTMLResponse(render_message("Not possible", "The address of this page has a part that cannot be."), status_code=422)

    @app.exception_handler(Exception)
    def say_bug(_request: Request, _error: Exception) -> Response:
        return HTMLResponse(
            render_message("A bug of ours", "The page failed; the terminal of penname serve has the details. No answer is lost."), status_code=500
        )

    return Guard(app, site.access, site.cookie_name)
