"""The page as a whole: it needs no network, shows hostile text as text, and says what is missing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser

import pytest

from penname.config import Config, load_config
from penname.errors import RunDirError
from penname.run_dir import ARTEFACTS
from penname.schemas import MetricResult

VOID = {"meta", "br", "link", "img", "input", "hr"}
ALLOWED_TAGS = set(
    re.findall(
        r"\w+",
        "html head meta title style body a p strong code h1 h2 h3 section article ul ol li dl dt dd div span nav header main footer "
        "table caption thead tbody tr th td details summary em figure figcaption br svg g path defs clippath rect use text tspan pattern",
    )
)


class Page(HTMLParser):
    """Every tag, attribute and text of a page; fails on tags that do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        self.text += " " if tag in ("th", "td", "dt", "dd", "p", "li", "title") else ""

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.text += data

    def attributes(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.tags if name in attrs]


@pytest.fixture
def page(standard):
    return Page(standard.html)


def test_page_asks_nothing_of_a_network(standard, page):
    html = standard.html
    assert {tag for tag, _ in page.tags} <= ALLOWED_TAGS
    targets = [value for name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster") for value in page.attributes(name)]
    assert targets
    assert all(target.startswith("#") for target in targets)
    styles = page.attributes("style") + re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    urls = [url for style in styles for url in re.findall(r"url\(([^)]*)\)", style)]
    assert all(url.startswith("#") for url in urls)
    assert not any("@import" in style for style in styles)
    policies = [attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none'")


def test_hostile_text_is_shown_and_inert(standard, page):
    html = standard.html
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    for shown in ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7*7 }}", "</style></svg><a href="):
        assert shown in page.text
    for code in ("U+0007", "U+001B", "U+0000", "U+202E", "U+D800"):
        assert code in page.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", html)


def test_page_is_accessible(page):
    tags = Counter(tag for tag, _ in page.tags)
    assert tags["main"] == tags["header"] == tags["footer"] == tags["nav"] == tags["h1"] == 1
    assert tags["table"] == tags["caption"] == tags["thead"]
    assert tags["figure"] == tags["figcaption"] == tags["svg"]
    assert all(attrs.get("role") == "img" and attrs.get("aria-label") for tag, attrs in page.tags if tag == "svg")
    assert all(attrs.get("scope") for tag, attrs in page.tags if tag == "th")
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    names = set(ids)
    assert all(target[1:] in names for target in page.attributes("href"))
    assert all(target in names for target in page.attributes("aria-labelledby"))


def test_page_says_what_was_promised_and_what_it_cost(page):
    text = " ".join(page.text.split())
    assert "Every user was promised at most ε = 8 (δ = 10⁻⁵) and 7.988 of it was spent; a classifier" in text
    assert "reaches an accuracy of 0.812 on real reviews, against 0.868 when it is trained on real ones and 0.841 without privacy." in text
    assert "PRIVATE: this page quotes real records; share release/, not this page." in text
    assert "NOT RELEASABLE" not in text
    for figure in ("0.673251", "0.0532", "dp_accounting 0.6.0", "8.9", "1 of 1 passed", "1,234 rows read, 1,200 kept, 34 rejected"):
        assert figure in text


def test_page_shows_every_setting_and_marks_the_changed_ones(build):
    page = Page(build("train.num_steps=77", "privacy.l2_clip_norm=0.25"))
    words = page.text.split()
    for name, field in Config.model_fields.items():
        for key in getattr(field.annotation, "model_fields", {name: None}):
            assert key in words
    assert " ".join(words).count(" changed default: ") == 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"noise_source": "seed", "releasable": False, "not_releasable_because": ["privacy.noise_seed is set"]}, "privacy.noise_seed is set"),
        ({"noise_source": "seed"}, "came from a seed"),
        ({"epsilon_spent": 8.2}, "It spent epsilon 8.2, more than the 8 that it promised."),
        ({"self_checks": [{"name": "batch_invariance", "passed": False, "detail": "off"}]}, "A self-check failed: batch_invariance."),
        ({"releasable": False}, "without a reason"),
    ],
)
def test_a_run_that_may_not_be_released_says_so_first(build, changes, reason):
    text = Page(build(**changes)).text
    assert text.index("NOT RELEASABLE") < text.index("The promise, and what was spent")
    assert reason in " ".join(text.split())
    assert "May be shared nothing" in " ".join(text.split())


@pytest.mark.parametrize("arm", ["with_dp", "no_dp"])
def test_a_run_of_one_arm_names_the_other_as_missing(build_drawn, run_dir, arm):
    other = {"with_dp": "no_dp", "no_dp": "with_dp"}[arm]
    for name in ("privacy", "fidelity", "utility"):
        path = run_dir.path(f"{name}_metrics")
        path.write_text(json.dumps([row for row in json.loads(path.read_text()) if row["arm"] != other]))
    changes = {} if arm == "with_dp" else {"epsilon_spent": None, "epsilon_rdp": None, "events": [], "releasable": False}
    text = " ".join(Page(build_drawn(f"train.arms=[{arm}]", **changes)).text.split())
    assert f"The arm {'No DP' if other == 'no_dp' else 'With DP'} was not trained in this run" in text
    assert f"{arm} title" in text
    assert f"{other} title" not in text  # what an earlier run left is not this run's
    assert ("NOT RELEASABLE" in text) == (arm == "no_dp")


def test_an_empty_run_gives_a_page_that_says_what_is_missing(build_drawn, run_dir):
    for name in ARTEFACTS:
        path = run_dir.root / ARTEFACTS[name].path
        if path.is_file():
            path.unlink()
    (run_dir.root / "release" / "README.md").unlink()
    text = " ".join(Page(build_drawn(epsilon_spent=None, epsilon_rdp=None, events=[], self_checks=[], releasable=False, versions={})).text.split())
    for family in ("privacy", "fidelity", "utility"):
        assert f"No {family} metrics" in text
    for sentence in (
        "There are no reviews to draw",
        "There is no training log",
        "There are no records to show",
        "The counts of ingest are not in this run folder",
        "The ledger holds no event",
    ):
        assert sentence in text
    assert json.loads(run_dir.path("metrics").read_text()) == []


def test_metrics_json_joins_the_families_in_the_documented_form(standard):
    rows = json.loads(standard.run.path("metrics").read_text())
    assert [row["family"] for row in rows] == ["privacy"] * 2 + ["fidelity"] + ["utility"] * 3 + ["human"]
    assert all(set(row) == set(MetricResult.__dataclass_fields__) for row in rows)
    assert rows[-2]["value"] == 0.812
    assert rows[2]["ci95"] is None


def test_figures_are_written_beside_the_page(standard):
    names = sorted(path.name for path in standard.run.path("figures").iterdir())
    shown = ["category_shares", "gradients", "rating_shares", "review_lengths", "training_loss"]
    shown += [
        "metrics_fidelity",
        "metrics_utility",
        "metrics_human",
        "privacy_evaluation_result",
        "fidelity_evaluation_result",
        "embedding_map",
        "word_frequencies",
    ]
    shown += ["utility_evaluation_result_1", "utility_evaluation_result_2"]
    assert names == sorted(f"{name}.{kind}" for name in shown for kind in ("png", "svg"))
    assert all(f'<figure id="figure-{name}">' in standard.html for name in shown)


def test_what_was_left_out_is_named_with_its_reason(page):
    text = " ".join(page.text.split())
    assert "Left out: Facts of the product told right; MAUVE of With DP. Why: because <i>so</i>." in text
    assert "Left out: Language model tuned on it, accuracy on real reviews. Why: no model." in text


def test_a_family_that_gave_nothing_still_names_what_was_left_out(build, run_dir):
    run_dir.path("fidelity_metrics").write_text("[]")
    assert "Left out: Facts of the product told right" in " ".join(Page(build()).text.split())


def test_split_by_record_is_said_plainly(build, run_dir):
    path = run_dir.path("records_counts")
    counts = json.loads(path.read_text()) | {"privacy_unit": "record", "unit_note": "Split by record, because there is no user id."}
    path.write_text(json.dumps(counts))
    assert "Split by record, because there is no user id." in build(privacy_unit="record")


def test_release_is_compared_with_the_certificate(build, run_dir):
    release = run_dir.root / "release"
    (release / "README.md").write_text("changed\n")
    (release / "stray.txt").write_text("who put me here\n")
    text = " ".join(Page(build(files={"README.md": "0" * 64, "gone.jsonl": "1" * 64})).text.split())
    assert re.search(r"README\.md \d+ B changed since", text)
    assert re.search(r"stray\.txt \d+ B not certified", text)
    assert re.search(r"gone\.jsonl – missing", text)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("utility_metrics", "{}", "not a list of metrics"),
        ("utility_metrics", "[1]", "metric 1: is damaged"),
        ("utility_metrics", '[{"family": "utility"}]', "metric 1: is damaged"),
        ("utility_metrics", "[", "not valid JSON"),
        ("test_records", '{"rating": 5}\n', "test.jsonl:1: is damaged"),
        ("test_records", '{"rating": 9, "category": "", "product_title": "", "title": "", "text": ""}\n', "test.jsonl:1: is damaged"),
        ("train_metrics_with_dp", '{"loss": 1}\n', "metrics.jsonl:1: is damaged"),
        ("ingest_counts", "[]", "not a JSON object"),
        ("left_out", "[{}]", "left_out.json: is damaged"),
        ("figure_data", "[]", "figure_data.json: is damaged"),
    ],
)
def test_a_damaged_file_is_one_clear_line(build, run_dir, name, content, message):
    run_dir.path(name).write_text(content)
    with pytest.raises(RunDirError, match=re.escape(message)) as caught:
        build()
    assert "\n" not in str(caught.value)
    assert not run_dir.path("report").exists()
    assert not run_dir.path("metrics").exists()


def test_a_value_that_is_no_number_does_not_reach_the_page(build, run_dir):
    path = run_dir.path("utility_metrics")
    path.write_text(path.read_text().replace("0.812", "NaN"))
    with pytest.raises(RunDirError, match=r"tstr_accuracy_score, with_dp\): holds a value that cannot be"):
        build()


def test_title_of_the_config_is_text_too(build):
    values = load_config(None).model_dump()
    values["report"]["title"] = "<i>mine</i>\u202e"
    html = build(config=Config.model_validate(values))
    assert "<title>&lt;i&gt;mine&lt;/i&gt;⟨U+202E⟩</title>" in html


def test_importing_the_stage_is_cheap():
    code = "import sys, penname.report.build; print([m for m in ('torch', 'matplotlib', 'numpy', 'jinja2', 'pyarrow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
