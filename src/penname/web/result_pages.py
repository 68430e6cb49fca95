"""The page of what people said, for who runs the study: figures, agreement, notes, exports. Raters do not see it."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from fastapi.responses import RedirectResponse, Response

from penname.evaluate.human.errors import RatingsError
from penname.evaluate.human.exchange import export_ratings
from penname.evaluate.human.questions import CATEGORIES
from penname.evaluate.human.ratings import RATERS_PER_RECORD
from penname.evaluate.human.summary import ALL, read_summary, write_summary
from penname.report.metric_tables import build_metric_tables
from penname.run_dir import ARTEFACTS, RunDir
from penname.web.app import CurrentRun, CurrentSite, show
from penname.web.rating_pages import open_sheet
from penname.web.strips import draw_counts, draw_strip

router = APIRouter()


@router.get("/run/{key}/ratings")
def show_ratings(run: CurrentRun, site: CurrentSite) -> Response:
    """What people said so far."""
    sheet = open_sheet(run, site)
    try:
        summary = read_summary(RunDir(run.root))
    except RatingsError as error:
        if sheet.ratings.read_all("single") or sheet.ratings.read_all("pair"):
            raise
        return show("ratings.html.j2", run=run, summary=None, note=str(error), sample=sheet.sample, raters_needed=RATERS_PER_RECORD)
    return show(
        "ratings.html.j2",
        run=run,
        summary=summary,
        note="",
        sample=sheet.sample,
        raters_needed=RATERS_PER_RECORD,
        arm_tables=build_metric_tables([metric for metric in summary.metrics if metric.arm != ALL]),
        rater_metrics=[metric for metric in summary.metrics if metric.arm == ALL],
        drawing=draw_counts(summary.counts, CATEGORIES, summary.num_judged) if summary.counts else "",
        draw_strip=draw_strip,
        categories=CATEGORIES,
        is_written=(run.root / ARTEFACTS["human_metrics"].path).is_file(),
    )


@router.post("/run/{key}/ratings")
def write_ratings(run: CurrentRun) -> Response:
    """Writes the figures into the run folder, where the report finds them."""
    write_summary(RunDir(run.root))
    return RedirectResponse(f"{run.address}/ratings", 303)


@router.get("/run/{key}/ratings.{file_format}")
def send_ratings(run: CurrentRun, site: CurrentSite, file_format: Literal["csv", "jsonl"]) -> Response:
    """Every answer as a file."""
    sheet = open_sheet(run, site)
    kind = "text/csv" if file_format == "csv" else "application/x-ndjson"
    headers = {"Content-Disposition": f'attachment; filename="ratings.{file_format}"'}
    return Response(export_ratings(sheet.ratings, sheet.sample, file_format), media_type=f"{kind}; charset=utf-8", headers=headers)
