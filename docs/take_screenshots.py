"""Takes the pictures of docs/screenshots: every page of `penname serve`, on a desktop and on a phone.

The run is copied first, and two raters answer by seed in the copy: what the pictures of ratings show was said by nobody.

  python docs/take_screenshots.py RUN_DIR
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from penname.evaluate.human.questions import Judgement, Preference
from penname.evaluate.human.ratings import Ratings
from penname.evaluate.human.sample import open_sample
from penname.run_dir import ARTEFACTS, RunDir

OUT = Path(__file__).parent / "screenshots"
SCREENS = {"desktop": {"width": 1280, "height": 860}, "phone": {"width": 375, "height": 780}}
SAMPLE_PER_ARM, RECORDS_JUDGED = 40, 60


def answer_by_seed(run_dir: RunDir, seed: int) -> None:
    """Two raters who judge most of a small sample."""
    sample, rng = open_sample(run_dir, num_per_arm=SAMPLE_PER_ARM), random.Random(seed)
    ratings = Ratings(run_dir.path("human_ratings"), sample)
    ratings.begin()
    raters = [ratings.join(name) for name in ("Ada", "Grace")]
    good = {"real": 0.85, "no_dp": 0.6, "with_dp": 0.5}
    for record in sample.records[:RECORDS_JUDGED]:
        is_good, natural = rng.random() < good[record.arm], rng.choice((3, 4, 5) if record.arm == "real" else (2, 3, 4))
        for rater in raters:
            agrees = rng.random() < 0.85
            categories = ("good",) if is_good == agrees else (rng.choice(("repetition", "abrupt_ending", "gibberish")),)
            origin = "real" if (record.arm == "real") == (rng.random() < 0.7) else "synthetic"
            naturalness = min(5, max(1, natural + rng.choice((-1, 0, 0, 1))))
            ratings.store("single", record.number, rater, Judgement(categories, naturalness, rng.choice(("yes", "yes", "no")), origin))
    for pair in sample.pairs[:20]:
        for rater in raters:
            ratings.store("pair", pair.number, rater, Preference(rng.choice(("left", "right", "tie"))))


def hide_the_end(run_dir: RunDir) -> None:
    """Makes of a copy a run that is in the middle of its training."""
    manifest = run_dir.read_manifest()
    manifest["stages"]["train"]["status"] = "started"
    for name in ("generate", "evaluate", "report"):
        manifest["stages"].pop(name, None)
    run_dir.write_manifest(manifest)
    for name in ("synthetic_with_dp", "synthetic_no_dp", "privacy_metrics", "fidelity_metrics", "utility_metrics", "certificate", "report"):
        (run_dir.root / ARTEFACTS[name].path).unlink(missing_ok=True)
    log = run_dir.path("train_metrics_no_dp")
    if log.is_file():
        lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
        log.write_text("".join(lines[: len(lines) // 2]), encoding="utf-8")


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """`penname serve` on a free port; gives its address."""
    process = subprocess.Popen([sys.executable, "-m", "penname.cli", "serve", str(folder), "--port", "0"], stdout=subprocess.PIPE, text=True)  # noqa: S603  our own program
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[1].rstrip("/")
    finally:
        process.terminate()
        process.wait(20)


def find_record(address: str, run: str) -> str:
    """The address of a synthetic record, when the index is built."""
    page = ""
    while "/records/" not in page:
        with urllib.request.urlopen(f"{address}/run/{run}/records?set=with_dp") as answer:  # noqa: S310  our own server
            page = answer.read().decode()
    return "/run/" + run + "/records/" + page.split(f"/run/{run}/records/", 1)[1].split('"', 1)[0]


def visit(page: Page, address: str, out: Path, screen: str) -> None:
    """Every page once."""

    def take(name: str, *, whole: bool = True) -> None:
        page.screenshot(path=out / f"{name}_{screen}.png", full_page=whole)

    record = find_record(address, "demo")
    for name, path in (("runs", "/"), ("run", "/run/demo"), ("progress", "/run/unfinished"), ("records", "/run/demo/records?q=it")):
        page.goto(address + path)
        take(name, whole=name != "records")
    page.goto(address + record)
    take("record")
    page.goto(address + "/compare?first=demo&second=unfinished")
    take("compare", whole=False)
    page.goto(address + "/run/demo/ratings")
    take("ratings")
    page.goto(address + "/run/demo/rate")
    take("rater")
    page.fill("#name", f"Edsger {screen}")
    page.click("text=Begin")
    take("rate")
    page.goto(address + "/run/demo/rate?mode=pair")
    take("rate_pair")


def main() -> None:
    """Copies the run, answers in the copy, takes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    chromium = os.environ.get("PENNAME_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "runs"
        for copy in ("demo", "unfinished"):
            shutil.copytree(args.run, folder / copy, ignore=shutil.ignore_patterns("human", "human.json"))
        answer_by_seed(RunDir(folder / "demo"), args.seed)
        hide_the_end(RunDir(folder / "unfinished"))
        with serving(folder) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            for screen, viewport in SCREENS.items():
                options: dict[str, Any] = {"viewport": viewport, "color_scheme": "light"}
                page = browser.new_context(**options).new_page()
                visit(page, address, args.out, screen)
            browser.close()
    print(json.dumps(sorted(path.name for path in args.out.glob("*.png"))))


if __name__ == "__main__":
    main()
