"""Pages of runs: the list, one run with its live progress, its report, and two runs compared."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from penname.run_dir import ARTEFACTS
from penname.web.app import CurrentRun, CurrentSite, show
from penname.web.compare import compare_metrics, compare_settings
from penname.web.live import read_live_state
from penname.web.pages import render
from penname.web.runs import RunSummary, read_metric_tables, read_metrics
from penname.web.strips import draw_curves, draw_strip

router = APIRouter()

REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "sandbox allow-same-origin"
)
"""Of the report, which is one file with its style inside: no script, no request, whatever it holds."""


@router.get("/")
def show_runs(request: Request, site: CurrentSite) -> Response:
    """The runs in the folder; the page of the run where there is one only. A rater is sent to what there is to judge."""
    runs = site.runs.list()
    if request.scope["state"]["role"] == "rater":
        return show("rate_runs.html.j2", runs=[run for run in runs if run.kind == "run" and run.problem is None])
    if len(runs) == 1 and runs[0].problem is None:
        return RedirectResponse(runs[0].address, 303)
    return show("runs.html.j2", runs=runs, folder=str(site.runs.folder))


@router.get("/run/{key}")
def show_run(run: CurrentRun) -> Response:
    """One run: stages, promise, progress, metrics."""
    return show(
        "run.html.j2", run=run, live=_describe_live(run), tables=read_metric_tables(run.root), draw_strip=draw_strip, has_report=_report_path(run).is_file()
    )


@router.get("/run/{key}/progress")
def show_progress(run: CurrentRun) -> Response:
    """The part of the page that changes while the run works; the page asks for it every two seconds."""
    return HTMLResponse(render("progress.html.j2", run=run, live=_describe_live(run)))


def _describe_live(run: RunSummary) -> dict[str, Any]:
    state = read_live_state(run)
    return {"state": state, "drawing": draw_curves(state.curves, num_steps=state.num_steps)}


def _report_path(run: RunSummary) -> Any:
    return run.root / ARTEFACTS["report"].path


@router.get("/run/{key}/report")
def show_report(run: CurrentRun) -> Response:
    """The report as it was written."""
    path = _report_path(run)
    if not path.is_file():
        raise HTTPException(404, "This run has no report yet: it is written when every stage is done.")
    return FileResponse(path, media_type="text/html; charset=utf-8", headers={"Content-Security-Policy": REPORT_POLICY})


@router.get("/compare")
def show_comparison(site: CurrentSite, first: Annotated[str, Query(max_length=300)] = "", second: Annotated[str, Query(max_length=300)] = "") -> Response:
    """Two runs side by side."""
    runs = [run for run in site.runs.list() if run.problem is None]
    by_key = {run.key: run for run in runs}
    chosen = [by_key[key] for key in (first, second) if key in by_key]
    if len(chosen) < 2:
        return show("compare.html.j2", runs=runs, chosen=chosen, metrics={}, settings=[])
    return show(
        "compare.html.j2",
        runs=runs,
        chosen=chosen,
        metrics=compare_metrics(*(read_metrics(run.root) for run in chosen)),
        settings=compare_settings(chosen[0].config, chosen[1].config),
    )
