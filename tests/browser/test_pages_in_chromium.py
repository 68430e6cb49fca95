"""People at work in Chromium: judging by keyboard, on a phone, with hostile and long texts; looking at runs and records."""

from __future__ import annotations

import csv
import re
import sqlite3

import pytest
from playwright.sync_api import expect

from penname.config import Config
from penname.report.inputs import read_inputs
from penname.report.metric_tables import build_metric_tables
from penname.run_dir import RunDir
from tests.browser.conftest import start_server
from tests.web_run import LONG, write_web_run

pytestmark = [pytest.mark.browser, pytest.mark.slow]
PHONE = {"viewport": {"width": 375, "height": 740}, "has_touch": True}
PAGES = ("/", "/run/run", "/run/on", "/run/run/records", "/run/run/records/1", "/run/run/records/2", "/compare?first=run&second=other",
         "/run/run/ratings", "/run/run/rate", "/run/run/rate?mode=pair")  # fmt: skip
ANSWERS = ("g4fp", "re2dm", "g5fp", "x1cm")
"""Keys of four judgements, before Enter."""


def begin(page, name, path="/run/run/rate"):
    page.goto(path)
    page.fill("#name", name)
    # Until the page has loaded its script, no key means anything.
    with page.expect_navigation():
        page.press("#name", "Enter")
    page.wait_for_selector("#judgement")


def judge(page, keys):
    """Types one judgement and waits for the next page."""
    for key in keys:
        page.keyboard.press(key)
    with page.expect_navigation():
        page.keyboard.press("Enter")


def item_of(page):
    return page.get_attribute('input[name="item"]', "value")


def test_two_people_judge_by_keyboard_and_the_report_shows_it(open_page, served, tmp_path):
    for name, num_judged in (("Ada", 20), ("Grace", 6)):
        page = open_page()
        begin(page, name, "/run/judged/rate")
        for num in range(num_judged):
            if num == 5:
                before = item_of(page)
                page.reload()
                assert item_of(page) == before
                assert "5 of 24 judged" in page.inner_text("#advance")
            judge(page, ANSWERS[num % 4])
        assert f"{num_judged} of 24 judged" in page.inner_text("#advance")
    undo_and_skip(page)
    page.goto("/run/judged/ratings")
    assert "2 people have judged" in page.inner_text("main")
    with page.expect_download() as started:
        page.click("text=CSV")
    started.value.save_as(tmp_path / "ratings.csv")
    with page.expect_navigation():
        page.click("text=Write these figures into the run")
    with open(tmp_path / "ratings.csv", encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert sorted((row["rater"], int(row["number"])) for row in rows) == [("Ada", num) for num in range(1, 21)] + [("Grace", num) for num in range(1, 7)]
    assert {row["naturalness"] for row in rows} == {"1", "2", "4", "5"}
    check_report(RunDir(served.folder / "judged"))


def undo_and_skip(page):
    """One answer back, looked at and left; then one record passed over."""
    here = item_of(page)
    with page.expect_navigation():
        page.keyboard.press("u")
    assert item_of(page) != here
    assert page.is_checked('input[value="repetition"]')
    with page.expect_navigation():
        page.click("text=Leave it as it was")
    assert item_of(page) == here
    with page.expect_navigation():
        page.keyboard.press("k")
    assert "1 skipped" in page.inner_text("#advance")


def check_report(run: RunDir) -> None:
    """What the report is built from holds what people said; how it draws that is in the tests of the report."""
    inputs = read_inputs(Config(), run)
    assert inputs.human_summary is not None
    assert inputs.human_summary["counts"]["real"]["good"] > 0
    table = next(table for table in build_metric_tables(inputs.metrics) if table.family == "human")
    row = next(row for row in table.rows if row.name == "human_good_frac")
    assert set(row.cells) == {"real", "no_dp", "with_dp"}
    assert "2 raters" in row.source


def test_pairs_take_one_key(open_page):
    page = open_page()
    begin(page, "Pia", "/run/run/rate?mode=pair")
    seen = set()
    for key in ("1", "2", "0"):
        seen.add(item_of(page))
        with page.expect_navigation():
            page.keyboard.press(key)
    assert len(seen) == 3
    assert "3 of" in page.inner_text("#advance")


def test_what_is_missing_is_said_and_nothing_typed_is_lost(open_page):
    page = open_page()
    begin(page, "Mia")
    here = item_of(page)
    page.keyboard.press("/")
    page.keyboard.type("keys in a note: g 1 u k")
    page.keyboard.press("Escape")
    judge(page, "g4f")
    assert "origin: no answer yet" in page.inner_text("[role=alert]")
    assert page.evaluate("document.activeElement.id") == "problem"
    assert page.input_value("#note") == "keys in a note: g 1 u k"
    assert (item_of(page), page.is_checked('input[value="good"]')) == (here, True)
    judge(page, "m")
    assert item_of(page) != here


def test_good_and_a_fault_exclude_each_other_and_keys_can_be_switched_off(open_page):
    page = open_page()
    begin(page, "Lea")
    for keys, ticked in (("g", {"good"}), ("r", {"repetition"}), ("e", {"repetition", "abrupt_ending"}), ("g", {"good"})):
        page.keyboard.press(keys)
        assert set(page.eval_on_selector_all('input[name="categories"]:checked', "boxes => boxes.map(box => box.value)")) == ticked
    page.uncheck("#shortcuts")
    page.keyboard.press("x")
    assert not page.is_checked('input[value="gibberish"]')


def test_scripts_stay_text_and_long_texts_fit(open_page):
    page = open_page(**PHONE)
    page.goto("/run/run/records")
    page.wait_for_selector(".records")
    for number, words in ((1, "<script>document.title = 'taken over'"), (2, LONG.strip()[-40:])):
        page.goto(f"/run/run/records/{number}")
        assert words in page.inner_text("main")
        assert "Record" in page.title()
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert page.locator("main img").count() == 0


def test_a_long_text_leaves_the_questions_in_reach(open_page):
    page = open_page(**PHONE)
    begin(page, "Uma", "/run/long/rate")
    box = page.locator("#judgement").bounding_box()
    assert box is not None
    assert box["y"] < 900
    text = page.locator(".review-text")
    assert text.evaluate("part => part.scrollHeight > part.clientHeight && part.tabIndex === 0")
    assert text.inner_text().strip() == LONG.strip()


CONTRASTS = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = (rgb) => { const [r, g, b] = rgb.map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = (part) => { for (; part; part = part.parentElement) { const c = parse(getComputedStyle(part).backgroundColor);
    if (c.length && (c.length < 4 || c[3] === 1)) return c.slice(0, 3); } return [255, 255, 255]; };
  const faults = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const part = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !part.checkVisibility() || part.closest("title, option, .stars, .skip")) continue;
    const style = getComputedStyle(part), svg = part.closest("svg"), a = light(parse(svg ? style.fill : style.color).slice(0, 3)), b = light(ground(part));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), size = parseFloat(style.fontSize);
    if (ratio < (size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5))
      faults.push(`${ratio.toFixed(2)} ${part.tagName} ${walker.currentNode.textContent.trim().slice(0, 30)}`);
  }
  return faults; }"""
UNNAMED = """() => [...document.querySelectorAll("a, button, input:not([type=hidden]), select, textarea, progress, [role=region], svg[role=img]")]
  .filter((part) => part.checkVisibility() && !["aria-label", "aria-labelledby"].some((name) => part.getAttribute(name)))
  .filter((part) => !(part.innerText?.trim() || part.labels?.length)).map((part) => part.outerHTML.slice(0, 120))"""
SMALL = """() => [...document.querySelectorAll("main button, main a.main-button, main a.plain-button, .choice")]
  .filter((part) => part.checkVisibility() && part.offsetHeight < 32).map((part) => part.innerText)"""


def test_every_page_can_be_read_on_a_phone_and_by_everyone(open_page):
    page = open_page(**PHONE)
    begin(page, "Eva")
    for _ in range(2):
        judge(page, "g4fp")
    page.goto("/run/run/records")
    page.wait_for_selector(".records")
    for path in PAGES:
        page.goto(path)
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate(CONTRASTS) == [], (path, scheme)
        assert page.evaluate(UNNAMED) == [], path
        assert page.evaluate("document.documentElement.scrollWidth") <= 375, path
        assert page.evaluate(SMALL) == [], path


def test_the_keyboard_goes_through_the_questions_in_order_and_is_seen(open_page):
    page = open_page()
    begin(page, "Ida")
    page.evaluate("document.getElementById('main').focus()")
    seen = []
    while "send" not in seen and len(seen) < 20:
        page.keyboard.press("Tab")
        seen.append(page.evaluate("(() => { const p = document.activeElement; return p.name || p.id || p.className })()"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", seen[-1]
    order = list(dict.fromkeys(seen))
    assert order[0].startswith("review-text")
    assert order[1:] == ["categories", "naturalness", "fits", "origin", "note", "send"]


def test_a_run_that_goes_on_is_followed(open_page, served):
    run = RunDir(served.folder / "on")
    page = open_page()
    page.goto("/run/on")
    assert "3 of 6 steps" in page.inner_text("#live")
    with open(run.path("train_metrics_with_dp"), "a", encoding="utf-8") as log:
        log.write('{"step": 3, "loss": 3.1}\n')
    expect(page.locator("#live")).to_contain_text("4 of 6 steps, loss 3.100", timeout=20_000)


def test_search_finds_and_filters(open_page):
    page = open_page()
    page.goto("/run/run/records")
    page.wait_for_selector("#q")
    page.fill("#q", "taken over")
    page.select_option("#set", "train")
    with page.expect_navigation():
        page.press("#q", "Enter")
    assert re.search(r"^1 records", page.inner_text("[role=status]"))
    with page.expect_navigation():
        page.click(".records a")
    assert "PRIVATE" in page.inner_text("main")


def test_the_token_opens_and_what_was_taken_survives_a_kill(chromium, tmp_path):
    run = write_web_run(tmp_path / "run", num=4)
    server = start_server(run.root, "--token", "a-token-for-this-test")
    context = chromium.new_context(base_url=server.address)
    page = context.new_page()
    page.goto("/run/run/records")
    assert page.url.endswith("/sign-in")
    page.fill("#token", "a-token-for-this-test")
    with page.expect_navigation():
        page.press("#token", "Enter")
    assert page.url.endswith("/run/run")
    begin(page, "Ada")
    for keys in ANSWERS[:2]:
        judge(page, keys)
    assert "2 of 12 judged" in page.inner_text("#advance")
    assert page.evaluate("document.cookie") == ""
    server.kill()
    context.close()
    with sqlite3.connect(run.path("human_ratings")) as connection:
        assert connection.execute("SELECT COUNT(*) FROM answers").fetchone() == (2,)
    connection.close()
