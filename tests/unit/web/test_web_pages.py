"""The pages where one looks: runs, progress, records, comparison; hostile text stays text, and what is missing or damaged is said."""

import html
import json
import re
import time
from html.parser import HTMLParser

import pytest

from penname.errors import UsageError
from penname.run_dir import ARTEFACTS, write_json
from penname.web.compare import compare_metrics
from penname.web.live import is_held, read_live_state
from penname.web.records_index import RecordsIndex, build_index
from penname.web.records_search import Filter, find_neighbours, find_record, find_records, open_index
from penname.web.runs import RunFolder, read_metrics, summarise_run
from tests.unit.web.conftest import GOOD
from tests.web_run import make_record, write_web_run

PAGES = ("/", "/run/run", "/run/run/progress", "/run/run/records", "/run/run/records/1", "/run/run/records/2", "/run/run/rate", "/run/run/ratings", "/compare")


@pytest.fixture
def indexed(web_run):
    """The run, with its index built."""
    RecordsIndex(web_run).wait()
    return web_run


def wait_for_records(visitor, path):
    while "being indexed" in (answer := visitor.client.get(path, follow_redirects=True)).text:
        time.sleep(0.01)
    return answer


class Elements(HTMLParser):
    """Tags of a page with their attributes; fails on a script without src, on a style and on an event handler."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        assert not (tag == "script" and "src" not in dict(attrs))
        assert tag != "style"
        assert not [name for name, _ in attrs if name.startswith("on") or name == "style"]


@pytest.mark.parametrize("path", PAGES)
def test_every_page_shows_hostile_text_as_text_and_names_its_parts(visitor, path):
    visitor.begin("<script>alert(1)</script>")
    elements = Elements(wait_for_records(visitor, path).text).tags
    for tag, attributes in elements:
        assert tag not in ("img", "iframe", "object", "b")
        for name in ("src", "href", "action"):
            assert str(attributes.get(name) or "/").startswith(("/", "?", "data:,", "#")), attributes
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids)), "an id stands twice"
    if path == "/run/run/progress":
        return
    assert ("html", {"lang": "en"}) in elements
    assert len([tag for tag, _ in elements if tag == "h1"]) == 1
    labelled = {attributes.get("for") for tag, attributes in elements if tag == "label"}
    for tag, attributes in elements:
        if tag in ("select", "textarea") or (tag == "input" and attributes.get("type") not in ("hidden", "radio", "checkbox")):
            assert attributes["id"] in labelled


def test_a_folder_of_runs_and_what_is_wrong_with_one(visit, web_run):
    write_web_run(web_run.root.parent / "deep" / "second", done=("ingest", "records"))
    broken = web_run.root.parent / "broken"
    broken.mkdir()
    (broken / "run.json").write_text("{")
    (web_run.root.parent / "no run").mkdir()
    page = html.unescape(visit().get("/").text)
    assert "deep/second" in page
    assert "train begun" in page
    assert "is damaged" in page
    assert "no run" not in page
    assert visit().get("/run/broken").status_code == 503
    assert visit().get("/run/deep~second").status_code == 200
    assert visit().get("/run/deep~second/report").status_code == 404
    assert visit().get("/run/none").status_code == 404


def test_a_folder_may_have_any_name(visit, web_run):
    web_run.root.rename(web_run.root.with_name('odd ?#% "name" ü'))
    visitor = visit()
    address = visitor.get("/").headers["location"]
    page = visitor.get(address).text
    assert "odd ?#% &#34;name&#34; ü" in page
    visitor.client.post(f"{address}/rate/name", data={"name": "Ann", "mode": "single"}, headers=visitor.origin)
    item = visitor.read_item(f"{address}/rate")
    answer = visitor.post(f"{address}/rate", item | GOOD)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{address}/rate?mode=single")
    assert "1 of 24 judged" in visitor.get(answer.headers["location"]).text


def test_one_run_opens_at_once(visitor):
    answer = visitor.get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/run/run")


@pytest.mark.parametrize(("name", "words"), [("none", "is no folder"), ("empty", "holds no penname run"), ("file", "is no folder")])
def test_folders_with_nothing_to_show(tmp_path, name, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=words):
        RunFolder(tmp_path / name)
    with pytest.raises(UsageError, match="is in a store"):
        RunFolder(type(tmp_path)("s3://bucket/run"))


def test_a_run_that_goes_on(visit, tmp_path, web_run):
    run = write_web_run(web_run.root.parent / "on", done=("ingest", "records"), num=10)
    page = visit().get("/run/on").text
    assert 'data-finished="no"' in page
    assert "3 of 6 steps" in page
    target = run.path("synthetic_with_dp")
    rows = "".join(json.dumps(make_record("with_dp", place)) + "\n" for place in range(4))
    target.with_name(f".{target.name}.partial").write_text(json.dumps({"key": "x"}) + "\n" + rows)
    with open(run.path("train_metrics_no_dp"), "a", encoding="utf-8") as log:
        log.write('{"step": 3, "loss": 3.4}\n{"step": 4, "lo')
    state = read_live_state(summarise_run("on", run.root))
    assert [(work.stage, work.arm, work.done, work.total) for work in state.work] == [
        ("train", "with_dp", 3, 6), ("train", "no_dp", 4, 6), ("generate", "with_dp", 4, 10), ("generate", "no_dp", 0, 10),
    ]  # fmt: skip
    assert "4 of 10 records" in visit().get("/run/on/progress").text


def test_a_process_at_work_is_seen_without_taking_its_lock(web_run):
    assert is_held(web_run.root / ".lock") is False
    with web_run.lock():
        assert is_held(web_run.root / ".lock") in (True, None)
    assert is_held(web_run.root / ".lock") in (False, None)


def test_metrics_of_a_run_are_drawn_and_damage_is_said(visitor, web_run):
    page = visitor.get("/run/run").text
    assert "Trained on it, tested on real reviews: accuracy" in page
    assert "<title>With DP: 0.810, 95 % from 0.790 to 0.830</title>" in page
    web_run.path("utility_metrics").write_text('[{"family": "utility"}]')
    answer = visitor.get("/run/run")
    assert answer.status_code == 503
    assert "utility.json: is damaged" in html.unescape(answer.text)


def test_the_report_is_sent_as_it_is_and_may_run_nothing(visitor):
    answer = visitor.get("/run/run/report")
    assert "<h1>The report</h1>" in answer.text
    assert "script-src" not in answer.headers["content-security-policy"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_search_and_filters(indexed):
    with open_index(build_index(indexed)) as connection:

        def find(**wanted):
            return find_records(connection, Filter(**wanted))

        assert find().num_matches == 5 * 24
        assert (len(find().records), find().num_pages) == (25, 5)
        assert [record.id for record in find(page=99).records] == list(range(101, 121))
        assert {record.part for record in find(part="test").records} == {"test"}
        assert {record.rating for record in find(rating=2).records} == {2}
        assert find(category="Cases").num_matches == 60
        assert find(query="taken over", part="train").num_matches == 1
        assert find(query='colour OR "').num_matches == 0
        assert find(query="COLÓUR").num_matches == find(query="colour").num_matches > 0
        assert find(query="***").num_matches == 0
        assert find(query="numb").num_matches == find(query="number").num_matches > 0
        repeated = find(flag="repetition", part="with_dp").records
        assert [record.record_id for record in repeated] == ["with_dp-1", "with_dp-2"]
        assert "Repetition of phrases" in repeated[1].flag_names
        assert find(flag="no such flag").num_matches == 120


def test_the_nearest_real_record_is_the_one_that_was_copied(web_run):
    train = [json.loads(line) for line in web_run.path("train_records").read_text(encoding="utf-8").splitlines()]
    train[20]["text"] = "Arrived at dawn with a purple giraffe printed on the inside of the lid, and the hinge squeaks."
    web_run.path("train_records").write_text("".join(json.dumps(row) + "\n" for row in train), encoding="utf-8")
    copied = make_record("with_dp", 0, text="It has a purple giraffe printed on the inside of the lid. I like it.")
    web_run.path("synthetic_with_dp").write_text(json.dumps(copied) + "\n", encoding="utf-8")
    with open_index(build_index(web_run)) as connection:
        record = find_record(connection, 1)
        assert record is not None
        found = find_neighbours(connection, record)
    assert found["train"].record.record_id == "train-20"
    assert found["train"].num_shared_characters == len(" a purple giraffe printed on the inside of the lid")
    assert found["heldout"].num_shared_characters < 12
    assert found["train"].likeness > 2 * found["heldout"].likeness


def test_the_index_is_built_once_and_again_when_records_change(indexed):
    path = build_index(indexed)
    before = path.stat().st_mtime_ns, path.stat().st_ino
    assert build_index(indexed) == path
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before
    rows = indexed.path("synthetic_no_dp").read_text(encoding="utf-8").splitlines(keepends=True)
    indexed.path("synthetic_no_dp").write_text("".join(rows[:5]), encoding="utf-8")
    with open_index(RecordsIndex(indexed).wait()) as connection:
        assert find_records(connection, Filter(part="no_dp")).num_matches == 5
    assert [path.name for path in path.parent.iterdir()] == ["records.sqlite"]


def test_records_that_cannot_be_indexed_are_said(visitor, web_run):
    web_run.path("test_records").write_text('{"rating": 5}\n')
    answer = wait_for_records(visitor, "/run/run/records")
    assert answer.status_code == 503
    assert "a row lacks rating, title" in html.unescape(answer.text)


def test_what_may_be_shared_is_marked(visitor, web_run):
    assert "RELEASABLE" in wait_for_records(visitor, "/run/run/records?set=with_dp").text
    assert "RELEASABLE" not in visitor.get("/run/run/records?set=train").text
    certificate = json.loads(web_run.path("certificate").read_text()) | {"noise_source": "seed"}
    write_json(web_run.path("certificate"), certificate)
    assert "NOT RELEASABLE" in visitor.get("/run/run/records?set=with_dp").text


@pytest.mark.parametrize("path", ["records/0", "records/99999", "records/99999999999999999999", "records/x", "records?page=0", "records?page=x"])
def test_records_that_are_not_there(visitor, path):
    wait_for_records(visitor, "/run/run/records")
    assert visitor.get(f"/run/run/{path}").status_code in (404, 422)


def test_two_runs_compared(visit, web_run):
    write_web_run(web_run.root.parent / "other", shift=-0.2, privacy={"target_epsilon": 1.0})
    page = visit().get("/compare?first=run&second=other").text
    assert "privacy.target_epsilon" in page
    assert 'class="verdict-worse">worse' in page
    assert 'class="verdict-alike">alike' in page
    assert "Choose" not in visit().get("/compare?first=run&second=<script>").text


@pytest.mark.parametrize(
    ("direction", "first", "second", "verdict"),
    [("higher", 0.5, 0.6, "better"), ("lower", 0.5, 0.6, "worse"), ("none", 0.5, 0.6, "differs"), ("higher", 0.5, 0.51, "alike")],
)
def test_what_a_difference_is_called(tmp_path, direction, first, second, verdict):
    metrics = []
    for place, value in enumerate((first, second)):
        run = write_web_run(tmp_path / str(place))
        rows = json.loads(run.path("utility_metrics").read_text())
        write_json(run.path("utility_metrics"), [row | {"value": value, "ci95": [value - 0.02, value + 0.02], "direction": direction} for row in rows])
        metrics.append(read_metrics(run.root))
    assert {row.verdict for row in compare_metrics(*metrics)["utility"]} == {verdict}


def test_reading_leaves_no_trace(visitor, web_run):
    before = sorted(path.relative_to(web_run.root) for path in web_run.root.rglob("*"))
    for path in ("/", "/run/run", "/run/run/progress", "/run/run/report", "/compare"):
        visitor.get(path)
    assert sorted(path.relative_to(web_run.root) for path in web_run.root.rglob("*")) == before
    assert not (web_run.root / ARTEFACTS["human_sample"].path).exists()


def test_page_numbers_keep_the_filters(visitor):
    page = wait_for_records(visitor, "/run/run/records?q=number&set=").text
    assert re.search(r'href="\?q=number&amp;page=2"', page)
