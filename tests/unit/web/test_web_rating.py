"""Rating without a browser: blindness, the scale, undo, what is said when an answer cannot be stored, and that it is not lost."""

import html
import re
import sqlite3

import pytest

from penname.evaluate.human import ratings as ratings_module
from penname.run_dir import read_json, write_rows
from tests.unit.web.conftest import GOOD
from tests.web_run import make_record


def text_of(answer):
    return html.unescape(re.sub(r"<[^>]+>", " ", answer.text))


def answers_in(web_run):
    with sqlite3.connect(web_run.path("human_ratings")) as connection:
        rows = connection.execute("SELECT subject, rater, answer FROM latest ORDER BY seq").fetchall()
    connection.close()
    return rows


def test_a_name_is_asked_for_and_kept_for_this_device(visitor):
    assert "Your name" in visitor.get("/run/run/rate").text
    answer = visitor.post("/run/run/rate/name", {"name": " Zoë <i> ", "mode": "single"})
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert "Zoë &lt;i&gt;" in visitor.get("/run/run/rate").text
    assert visitor.post("/run/run/rate/leave", {}).status_code == 303
    assert "Your name" in visitor.get("/run/run/rate").text


def test_a_name_that_cannot_be_kept(visitor):
    answer = visitor.post("/run/run/rate/name", {"name": "x" * 100, "mode": "single"})
    assert answer.status_code == 422
    assert "at most 60" in answer.text
    assert 'aria-invalid="true"' in answer.text


def test_the_page_does_not_say_where_a_text_comes_from(visitor, web_run):
    write_rows(web_run.path("synthetic_with_dp"), (make_record("x", place) for place in range(24)))
    visitor.begin("Ann")
    for mode in ("single", "pair"):
        page = visitor.get(f"/run/run/rate?mode={mode}").text
        for word in ("with_dp", "no_dp", "With DP", "No DP", "heldout", "record_id", "finish_reason", "stop"):
            assert word not in page.replace("stops", ""), word


def test_an_answer_is_on_disk_before_the_next_record_shows(visitor, web_run):
    visitor.begin("Ann")
    first = visitor.read_item()
    assert visitor.read_item() == first, "reloading shows the same record"
    answer = visitor.post("/run/run/rate", first | GOOD)
    assert answer.status_code == 303
    assert [(row[0], row[1]) for row in answers_in(web_run)] == [(int(first["item"]), "Ann")]
    assert visitor.read_item()["item"] != first["item"]


def test_no_rater_sees_what_another_said(visit):
    ann, bob = visit(), visit()
    ann.begin("Ann")
    item = ann.read_item()
    ann.post("/run/run/rate", item | GOOD | {"note": "a note of Ann"})
    bob.begin("Bob")
    assert bob.read_item()["item"] == item["item"]
    for path in ("/run/run/rate", f"/run/run/rate?item={item['item']}"):
        page = bob.client.get(path, follow_redirects=True).text
        assert "note of Ann" not in page
        assert "checked" not in page.replace('id="shortcuts" checked', "")
        assert "0 of 24 judged" in page


def test_undo_shows_the_answer_and_keeps_the_change(visitor, web_run):
    visitor.begin("Ann")
    item = visitor.read_item()
    visitor.post("/run/run/rate", item | GOOD | {"note": "first"})
    page = visitor.get(f"/run/run/rate?item={item['item']}").text
    assert re.search(r'value="good"[^>]* checked', page)
    assert ">first</textarea>" in page
    changed = {"categories": ["gibberish"], "naturalness": "1", "fits": "no", "origin": "synthetic", "change": "1"}
    assert visitor.post("/run/run/rate", item | changed).status_code == 303
    ((_, _, answer),) = answers_in(web_run)
    assert '"gibberish"' in answer
    assert "1 of 24 judged" in visitor.get("/run/run/rate").text


def test_skipping(visitor):
    visitor.begin("Ann")
    item = visitor.read_item()
    assert visitor.post("/run/run/rate", item | {"action": "skip"}).status_code == 303
    assert visitor.read_item()["item"] != item["item"]
    assert "1 skipped" in visitor.get("/run/run/rate").text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"naturalness": "6"}, "'6' is outside the scale"),
        ({"naturalness": "<b>"}, "'<b>' is outside the scale"),
        ({"origin": ""}, "origin: no answer yet"),
        ({"categories": ["good", "gibberish"]}, "good does not go with a fault"),
        ({"note": "x" * 2001}, "2,001 characters"),
    ],
)
def test_an_answer_outside_the_scale_is_said_and_the_rest_stays_filled_in(visitor, web_run, change, words):
    visitor.begin("Ann")
    item = visitor.read_item()
    answer = visitor.post("/run/run/rate", item | GOOD | {"note": "keep me"} | change)
    assert answer.status_code == 422
    assert words in text_of(answer)
    assert "<b>' is" not in answer.text
    if "note" not in change:
        assert ">keep me</textarea>" in answer.text
    assert answers_in(web_run) == []


@pytest.mark.parametrize("item", ["0", "25", "-1", "x", "", "99999999999999999999"])
def test_records_that_are_not_in_the_sample(visitor, item):
    visitor.begin("Ann")
    assert visitor.post("/run/run/rate", visitor.read_item() | GOOD | {"item": item}).status_code == 404


def test_an_answer_to_an_older_sample_is_refused(visitor):
    visitor.begin("Ann")
    answer = visitor.post("/run/run/rate", visitor.read_item() | GOOD | {"sample": "0" * 16})
    assert answer.status_code == 409
    assert "Nothing was stored" in answer.text


def test_forms_that_are_none(visitor):
    visitor.begin("Ann")
    assert visitor.client.post("/run/run/rate", json={"item": 1}, headers=visitor.origin).status_code == 415
    assert visitor.post("/run/run/rate", {f"f{num}": "1" for num in range(50)}).status_code == 400


def test_a_locked_file_keeps_the_answer_on_the_page(visitor, web_run, monkeypatch):
    visitor.begin("Ann")
    item = visitor.read_item()
    monkeypatch.setattr(ratings_module, "LOCK_SECS", 0.05)
    other = sqlite3.connect(web_run.path("human_ratings"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    answer = visitor.post("/run/run/rate", item | GOOD | {"note": "do not lose this"})
    assert answer.status_code == 503
    assert "is locked by another program; nothing was stored" in text_of(answer)
    assert ">do not lose this</textarea>" in answer.text
    other.execute("ROLLBACK")
    other.close()
    assert visitor.post("/run/run/rate", item | GOOD).status_code == 303


def test_a_damaged_file_is_a_page_with_one_line(visitor, web_run):
    web_run.path("human_ratings").write_bytes(b"no database " * 1000)
    for path in ("/run/run/rate", "/run/run/ratings"):
        answer = visitor.get(path)
        assert answer.status_code == 503
        assert "is damaged; keep a copy" in text_of(answer)
    assert web_run.path("human_ratings").read_bytes().startswith(b"no database")


def test_records_that_changed_since_are_said(visitor, web_run):
    visitor.begin("Ann")
    visitor.post("/run/run/rate", visitor.read_item() | GOOD)
    write_rows(web_run.path("synthetic_with_dp"), (make_record("with_dp", place) for place in range(9)))
    answer = visitor.get("/run/run/rate")
    assert answer.status_code == 503
    assert "has changed since people began to judge" in text_of(answer)
    assert len(answers_in(web_run)) == 1


def test_two_at_a_time(visitor, web_run):
    visitor.begin("Ann")
    item = visitor.read_item("/run/run/rate?mode=pair")
    assert item["mode"] == "pair"
    assert visitor.post("/run/run/rate", item | {"preferred": "both"}).status_code == 422
    assert visitor.post("/run/run/rate", item | {"preferred": "left"}).status_code == 303
    assert len(answers_in(web_run)) == 1


def test_the_end(visit):
    visitor = visit(num_per_arm=1)
    visitor.begin("Ann")
    for _ in range(3):
        visitor.post("/run/run/rate", visitor.read_item() | GOOD)
    assert "You have judged all 3 records" in visitor.get("/run/run/rate").text


def test_what_people_said_and_the_export(visit, web_run):
    assert "Nobody has judged" in visit().get("/run/run/ratings").text
    for name in ("Ann", "Bob"):
        visitor = visit()
        visitor.begin(name)
        for _ in range(6):
            visitor.post("/run/run/rate", visitor.read_item() | GOOD)
    page = visit().get("/run/run/ratings")
    assert "2 people have judged" in text_of(page)
    assert "Ann" not in page.text
    assert visit().get("/run/run/ratings.csv").text.count("\r\n") == 13
    assert len(visit().get("/run/run/ratings.jsonl").text.splitlines()) == 12
    assert visit().get("/run/run/ratings.exe").status_code == 422
    assert visit().post("/run/run/ratings", {}).status_code == 303
    assert {row["family"] for row in read_json(web_run.path("human_metrics"))} == {"human"}
    assert "human" in visit().get("/run/run").text.lower()


def test_an_audit_is_not_judged(visit, web_run):
    web_run.write_manifest(web_run.read_manifest() | {"kind": "audit"})
    answer = visit().get("/run/run/rate")
    assert answer.status_code == 404
    assert "planted canaries" in answer.text
    assert visit().get("/run/run").status_code == 200
