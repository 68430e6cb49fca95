"""Pages of records: search and filters, and one record beside the real ones nearest to it."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import Response

from penname.web.app import CurrentRun, CurrentSite, show
from penname.web.records_index import FLAGS, SETS
from penname.web.records_search import (
    MAX_QUERY_CHARACTERS,
    REAL_SETS,
    Filter,
    find_neighbours,
    find_record,
    find_records,
    list_choices,
    open_index,
)
from penname.web.runs import RunSummary

router = APIRouter()


def name_visibility(run: RunSummary, part: str) -> str:
    """What may be done with a record of this set."""
    if part != "with_dp":
        return "PRIVATE"
    return "RELEASABLE" if run.certificate is not None and not run.reasons else "PRIVATE" if run.certificate is None else "NOT RELEASABLE"


@router.get("/run/{key}/records")
def show_records(
    run: CurrentRun,
    site: CurrentSite,
    q: Annotated[str, Query(max_length=MAX_QUERY_CHARACTERS)] = "",
    part: Annotated[str, Query(alias="set", max_length=20)] = "",
    rating: Annotated[str, Query(max_length=1)] = "",
    category: Annotated[str, Query(max_length=500)] = "",
    flag: Annotated[str, Query(max_length=40)] = "",
    page: Annotated[int, Query(ge=1, le=10_000_000)] = 1,
) -> Response:
    """Records that match."""
    index = site.index_of(run)
    path = index.open()
    if path is None:
        return show("indexing.html.j2", run=run, num_indexed=index.num_indexed)
    wanted = Filter(q, part if part in SETS else "", int(rating) if rating in set("12345") else None, category, flag, page)
    with open_index(path) as connection:
        found = find_records(connection, wanted)
        sizes, categories = list_choices(connection)
    kept = {name: value for name, value in (("q", q), ("set", wanted.part), ("rating", rating), ("category", category), ("flag", flag)) if value}
    return show(
        "records.html.j2",
        run=run,
        wanted=wanted,
        found=found,
        sizes=sizes,
        categories=categories,
        sets={name: label for name, (_, label) in SETS.items()},
        flags=FLAGS,
        kept=urlencode(kept),
        visibility=lambda name: name_visibility(run, name),
    )


@router.get("/run/{key}/records/{number}")
def show_record(run: CurrentRun, site: CurrentSite, number: int) -> Response:
    """One record; a synthetic one beside the nearest of train and of heldout."""
    index = site.index_of(run)
    path = index.open()
    if path is None:
        return show("indexing.html.j2", run=run, num_indexed=index.num_indexed)
    with open_index(path) as connection:
        record = find_record(connection, number) if 0 < number < 1 << 62 else None
        if record is None:
            raise HTTPException(404, "There is no such record in this run.")
        neighbours = {} if record.is_real else find_neighbours(connection, record)
    return show(
        "record.html.j2",
        run=run,
        record=record,
        neighbours=neighbours,
        real_sets=REAL_SETS,
        sets={name: label for name, (_, label) in SETS.items()},
        visibility=lambda name: name_visibility(run, name),
    )
