"""Pages on which people judge: a name, then one record, or two, after the other. Nothing on them says where a text comes from or what others said."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Annotated, Any
from urllib.parse import quote, unquote

from fastapi import APIRouter, Cookie, HTTPException, Query
from fastapi.responses import RedirectResponse, Response

from penname.evaluate.human.errors import AnswerError, RatingsError
from penname.evaluate.human.questions import CATEGORIES, FITS, MAX_NAME_CHARACTERS, MAX_NOTE_CHARACTERS, NATURALNESS, ORIGINS, PREFERENCES, Kind, parse_answer
from penname.evaluate.human.ratings import RATERS_PER_RECORD, Ratings
from penname.evaluate.human.sample import RatingSample, SampledRecord, open_sample
from penname.run_dir import ARTEFACTS, RunDir
from penname.web.app import CurrentRun, CurrentSite, Form, Site, show
from penname.web.runs import RunSummary

router = APIRouter()
Mode = Annotated[Kind, Query()]
RaterCookie = Annotated[str | None, Cookie(alias="penname_rater")]
KEYS = {"good": "g", "non_text": "n", "repetition": "r", "abrupt_ending": "e", "gibberish": "x"}
"""One key a category."""


@dataclass(frozen=True)
class Sheet:
    """What is judged in a run, and the answers to it."""

    sample: RatingSample
    ratings: Ratings


@lru_cache(maxsize=8)
def _read_sheet(root: Any, _stamp: tuple[int, ...], num_per_arm: int) -> Sheet:
    """Kept in memory while no file that it depends on changes: the sample is read and checked against the run's records once."""
    run_dir = RunDir(root)
    sample = open_sample(run_dir, num_per_arm=num_per_arm)
    ratings = Ratings(run_dir.path("human_ratings"), sample)
    ratings.begin()
    return Sheet(sample, ratings)


def open_sheet(run: RunSummary, site: Site) -> Sheet:
    """What is judged in a run; drawn when the first person asks.

    Raises:
      HTTPException: an audit's records are not to be judged.
      PennameError: there is nothing to judge yet; the sample or the file of answers is damaged, or the records have changed.
    """
    if run.kind != "run":
        raise HTTPException(404, "This folder is of an audit; its texts hold planted canaries and are not judged.")
    names = ("synthetic_with_dp", "synthetic_no_dp", "test_records", "human_sample", "human_ratings")
    paths = [run.root / ARTEFACTS[name].path for name in names]
    # Of the file of answers only which file it is: it grows with every answer.
    stamp = [part for path in paths[:4] if path.is_file() for part in (path.stat().st_size, path.stat().st_mtime_ns)]
    sheet = _read_sheet(run.root, (*stamp, paths[4].stat().st_ino if paths[4].is_file() else 0), site.num_per_arm)
    if not sheet.ratings.path.is_file():
        sheet.ratings.begin()
    return sheet


@router.get("/run/{key}/rate")
def show_next(run: CurrentRun, site: CurrentSite, mode: Mode = "single", item: Annotated[int | None, Query()] = None, rater: RaterCookie = None) -> Response:
    """The next record or pair; or, with `item`, one that this rater has judged, to change the answer."""
    sheet = open_sheet(run, site)
    name = unquote(rater or "")
    if not name or not sheet.ratings.has_joined(name):
        return show(
            "rater.html.j2", run=run, mode=mode, name=name, problem=None, sample=sheet.sample, max_name=MAX_NAME_CHARACTERS, raters_needed=RATERS_PER_RECORD
        )
    if item is not None:
        given = sheet.ratings.find(mode, item, name)
        if given is None:
            return RedirectResponse(f"{run.address}/rate?mode={mode}", 303)
        return _show_item(run, sheet, mode, name, item, values=_to_values(asdict(given.answer)), is_change=True)
    number = sheet.ratings.next_subject(mode, name)
    if number is None:
        return show("rated.html.j2", run=run, mode=mode, rater=name, advance=sheet.ratings.measure(mode, name), other=_other_mode(sheet, mode))
    return _show_item(run, sheet, mode, name, number, values={})


@router.post("/run/{key}/rate")
def take_answer(run: CurrentRun, site: CurrentSite, form: Form, rater: RaterCookie = None) -> Response:
    """Keeps an answer; only when it is on disk is the next record shown."""
    sheet = open_sheet(run, site)
    name, kind, number = unquote(rater or ""), _read_kind(form), _read_number(form)
    if not name or not sheet.ratings.has_joined(name):
        return RedirectResponse(f"{run.address}/rate?mode={kind}", 303)
    if form.get("sample", [""])[0] != sheet.sample.sha256[:16]:
        raise HTTPException(409, "What is judged in this run has changed since the page was shown. Nothing was stored; open the page again.")
    if not 1 <= number <= sheet.sample.num_subjects(kind):
        raise HTTPException(404, "There is no such record in the sample. Nothing was stored.")
    values = {field: given if field == "categories" else given[0] for field, given in form.items()}
    is_change = bool(form.get("change"))
    try:
        answer = None if form.get("action") == ["skip"] else parse_answer(kind, values)
        sheet.ratings.store(kind, number, name, answer)
    except AnswerError as error:
        return _show_item(run, sheet, kind, name, number, values=values, problem=str(error), status=422, is_change=is_change)
    except RatingsError as error:
        # The answer stands on the page still, so that it can be sent again.
        return _show_item(run, sheet, kind, name, number, values=values, problem=str(error), status=503, is_change=is_change)
    return RedirectResponse(f"{run.address}/rate?mode={kind}", 303)


@router.post("/run/{key}/rate/name")
def take_name(run: CurrentRun, site: CurrentSite, form: Form) -> Response:
    """Who judges: a name, and nothing else is asked."""
    sheet, kind = open_sheet(run, site), _read_kind(form)
    given = form.get("name", [""])[0]
    try:
        name = sheet.ratings.join(given)
    except AnswerError as error:
        return _ask_name(run, sheet, kind, given[:MAX_NAME_CHARACTERS], problem=str(error))
    cookie = f"penname_rater={quote(name, safe='')}; Path={run.address}/rate; HttpOnly; SameSite=Strict; Max-Age=31536000"
    return RedirectResponse(f"{run.address}/rate?mode={kind}", 303, headers={"Set-Cookie": cookie})


@router.post("/run/{key}/rate/leave")
def leave(run: CurrentRun) -> Response:
    """Forgets the name on this device, for the next person."""
    cookie = f"penname_rater=; Path={run.address}/rate; HttpOnly; SameSite=Strict; Max-Age=0"
    return RedirectResponse(f"{run.address}/rate", 303, headers={"Set-Cookie": cookie})


def _ask_name(run: RunSummary, sheet: Sheet, mode: Kind, name: str, *, problem: str | None = None) -> Response:
    limits = {"max_name": MAX_NAME_CHARACTERS, "raters_needed": RATERS_PER_RECORD}
    return show("rater.html.j2", status=422 if problem else 200, run=run, mode=mode, name=name, problem=problem, sample=sheet.sample, **limits)


def _read_kind(form: dict[str, list[str]]) -> Kind:
    return "pair" if form.get("mode") == ["pair"] else "single"


def _read_number(form: dict[str, list[str]]) -> int:
    text = form.get("item", [""])[0]
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0


def _other_mode(sheet: Sheet, mode: Kind) -> Kind | None:
    other: Kind = "pair" if mode == "single" else "single"
    return other if sheet.sample.num_subjects(other) else None


def _to_values(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else str(value) for name, value in answer.items()}


def _blind(record: SampledRecord) -> dict[str, Any]:
    """What a rater sees of a record: not its arm, not its id."""
    return {"rating": record.rating, "category": record.category, "product_title": record.product_title, "title": record.title, "text": record.text}


def _show_item(
    run: RunSummary,
    sheet: Sheet,
    mode: Kind,
    rater: str,
    number: int,
    *,
    values: dict[str, Any],
    problem: str | None = None,
    status: int = 200,
    is_change: bool = False,
) -> Response:
    sample = sheet.sample
    numbers = [number] if mode == "single" else [sample.pairs[number - 1].left, sample.pairs[number - 1].right]
    try:
        advance, before = sheet.ratings.measure(mode, rater), sheet.ratings.find_before(mode, rater, number if is_change else None)
    except RatingsError as error:
        advance, before, problem = None, None, problem or str(error)
    return show(
        "rate.html.j2",
        status=status,
        run=run,
        mode=mode,
        rater=rater,
        number=number,
        records=[_blind(sample.records[place - 1]) for place in numbers],
        sample_hash=sample.sha256[:16],
        values=values,
        problem=problem,
        is_change=is_change,
        advance=advance,
        before=before.subject if before else None,
        other=_other_mode(sheet, mode),
        categories=CATEGORIES,
        keys=KEYS,
        naturalness=NATURALNESS,
        fits=FITS,
        origins=ORIGINS,
        preferences=PREFERENCES,
        max_note=MAX_NOTE_CHARACTERS,
    )
