"""How fast the pages are over 50,000 records, and whether 20 people who judge at once lose an answer.

A run of the fictional marketplace is written without a model: the synthetic sets are other reviews of it. The real program serves it in a process of its own,
and requests go through HTTP. Every page is asked for several times; the slowest answer counts. Then 20 raters judge at once, the server is killed with
SIGKILL in the middle, and what it had acknowledged is compared with what is on disk; it is started again and they finish.

  python benchmarks/web.py [--quick] [--seed S]
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from resumable import write_atomically
from sample_data_variety import environment

from penname.config import Config
from penname.ingest.sample_data import REVIEWS_FILE, write_sample_data
from penname.pipeline import STAGE_NAMES
from penname.run_dir import RunDir, write_rows

ROOT = Path(__file__).resolve().parents[1]
RESULT_FILE = ROOT / "benchmarks" / "results" / "web.json"
NUM_RECORDS, NUM_QUICK, MAX_PAGE_SECS = 50_000, 5_000, 0.3
NUM_RATERS, NUM_ANSWERS = 20, 30
SHARES = {"train_records": 0.6, "heldout_records": 0.1, "test_records": 0.1, "synthetic_with_dp": 0.1, "synthetic_no_dp": 0.1}
PAGES = {
    "runs": "/",
    "run": "/run/run",
    "progress": "/run/run/progress",
    "records, first page": "/run/run/records",
    "records, last page": "/run/run/records?page=100000",
    "search, common word": "/run/run/records?q=the",
    "search, two words": "/run/run/records?q=phone+case",
    "search, begun word": "/run/run/records?q=s",
    "search, common word in a set of one rating": "/run/run/records?q=it&set=train&rating=5",
    "filter by fault": "/run/run/records?flag=abrupt_ending",
    "filter by rating, middle page": "/run/run/records?rating=5&page=300",
    "synthetic record beside its neighbours": "/run/run/records/7",
    "real record": "/run/run/records/{middle}",
    "compare": "/compare",
}


def write_run(root: Path, num: int, seed: int) -> None:
    """A run folder of `num` records, as the stages would leave it."""
    run = RunDir(root)
    run.create()
    write_sample_data(root / "0_ingest" / "sample_data", num_reviews=round(1.2 * num), seed=seed)
    with open(root / "0_ingest" / "sample_data" / REVIEWS_FILE, encoding="utf-8") as handle:
        reviews = [row for row in map(json.loads, handle) if row["text"].strip()][:num]
    start = 0
    for name, share in SHARES.items():
        part, start = reviews[start : start + round(share * num)], start + round(share * num)
        write_rows(run.path(name), (make_record(name, place, row) for place, row in enumerate(part)))
    manifest = {"stages": {stage: {"status": "done"} for stage in STAGE_NAMES}, "config": json.loads(Config().model_dump_json())}
    run.write_manifest(run.read_manifest() | manifest)


def make_record(name: str, place: int, row: dict[str, Any]) -> dict[str, Any]:
    """A review as a record."""
    texts = {"category": f"Category {row['parent_asin'][-1]}", "product_title": row["parent_asin"], "title": row["title"], "text": row["text"]}
    return {"record_id": f"{name}-{place}", "rating": round(row["rating"]), **texts}


@contextmanager
def serving(root: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`penname serve` on a free port."""
    command = [sys.executable, "-m", "penname.cli", "serve", str(root), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603  our own program
    try:
        if process.stdout is None or not (line := process.stdout.readline()):
            raise SystemExit("penname serve did not start")
        yield process, line.split()[1].rstrip("/")
    finally:
        process.kill()
        process.wait()


def time_pages(address: str, num: int, num_times: int) -> dict[str, Any]:
    """Seconds of every page, from the request to the last byte, and of building the index before."""
    with httpx.Client(base_url=address, follow_redirects=True, timeout=120) as client:
        began = time.perf_counter()
        while "being indexed" in client.get("/run/run/records").text:
            time.sleep(0.05)
        found: dict[str, Any] = {"index_secs": round(time.perf_counter() - began, 2), "pages": {}}
        for name, path in PAGES.items():
            secs = []
            for _ in range(num_times):
                began = time.perf_counter()
                answer = client.get(path.format(middle=num // 2))
                secs.append(time.perf_counter() - began)
                if answer.status_code != 200:
                    raise SystemExit(f"{path}: status {answer.status_code}")
            found["pages"][name] = {"median_secs": round(median(secs), 4), "max_secs": round(max(secs), 4), "bytes": len(answer.content)}
    return found


class RefusedError(Exception):
    """The server answered, and not as it should."""


class Rater(threading.Thread):
    """One person who judges through HTTP as fast as the server lets them."""

    def __init__(self, address: str, number: int, wanted: int) -> None:
        super().__init__()
        self.address, self.number, self.wanted = address, number, wanted
        self.acknowledged: list[int] = []
        self.secs: list[float] = []
        self.refused: str | None = None

    def run(self) -> None:
        """Judges until enough is acknowledged, the server is gone, or something is refused."""
        try:
            with httpx.Client(base_url=self.address, timeout=60, headers={"Origin": self.address}) as client:
                self._check(client.post("/run/run/rate/name", data={"name": f"Rater {self.number}", "mode": "single"}), 303)
                while len(self.acknowledged) < self.wanted:
                    self._judge(client)
        except httpx.TransportError:
            return
        except RefusedError as error:
            self.refused = str(error)

    def _check(self, answer: httpx.Response, wanted: int) -> str:
        if answer.status_code != wanted:
            raise RefusedError(f"{answer.request.method} {answer.request.url.path}: status {answer.status_code}: {answer.text[:2000]}")
        return answer.text

    def _judge(self, client: httpx.Client) -> None:
        began = time.perf_counter()
        page = self._check(client.get("/run/run/rate"), 200)
        fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))
        answer = {"categories": "good", "naturalness": str(1 + self.number % 5), "fits": "yes", "origin": "real"}
        self._check(client.post("/run/run/rate", data=fields | answer), 303)
        self.acknowledged.append(int(fields["item"]))
        self.secs.append(time.perf_counter() - began)


def judge_at_once(root: Path, num_answers: int) -> dict[str, Any]:
    """Twenty raters, a kill in the middle, and the rest."""
    acknowledged: set[tuple[str, int]] = set()
    secs: list[float] = []
    refused: list[str] = []
    for is_killed in (True, False):
        with serving(root) as (process, address):
            httpx.get(f"{address}/run/run/rate", timeout=120)
            raters = [Rater(address, number, num_answers if is_killed else num_answers // 2) for number in range(NUM_RATERS)]
            for rater in raters:
                rater.start()
            if is_killed:
                while sum(len(rater.acknowledged) for rater in raters) < NUM_RATERS * num_answers // 2:
                    time.sleep(0.005)
                process.send_signal(signal.SIGKILL)
            for rater in raters:
                rater.join()
        acknowledged |= {(f"Rater {rater.number}", item) for rater in raters for item in rater.acknowledged}
        refused += [rater.refused for rater in raters if rater.refused is not None]
        secs += [value for rater in raters for value in rater.secs]
    with sqlite3.connect(root / "4_evaluate" / "human" / "ratings.sqlite") as connection:
        stored = set(connection.execute("SELECT rater, subject FROM answers"))
        integrity = connection.execute("PRAGMA integrity_check").fetchone()[0]
    connection.close()
    for line in refused:
        print(line, file=sys.stderr)
    return {
        "num_raters": NUM_RATERS,
        "num_acknowledged": len(acknowledged),
        "num_stored": len(stored),
        "num_lost": len(acknowledged - stored),
        "integrity_check": integrity,
        "num_refused": len(refused),
        "record_and_answer_median_secs": round(median(secs), 3),
        "record_and_answer_max_secs": round(max(secs), 3),
    }


def main() -> None:
    """Measures, writes the result file, prints the ratios as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="5,000 records, fewer requests, and no result file")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    num = NUM_QUICK if args.quick else NUM_RECORDS
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "run"
        write_run(root, num, args.seed)
        with serving(root) as (_, address):
            timed = time_pages(address, num, 5 if args.quick else 20)
        judged = judge_at_once(root, 10 if args.quick else NUM_ANSWERS)
        index_bytes = (root / "web" / "records.sqlite").stat().st_size
    versions = environment(("fastapi", "starlette", "uvicorn", "jinja2"))
    result = {"script": "benchmarks/web.py", **versions, "seed": args.seed, "num_records": num, "index_bytes": index_bytes, **timed, "raters": judged}
    slowest = max(page["max_secs"] for page in timed["pages"].values())
    result["ratios"] = {
        "slowest_page_over_300_ms": round(slowest / MAX_PAGE_SECS, 3),
        "answers_lost": judged["num_lost"],
        "requests_refused": judged["num_refused"],
    }
    if not args.quick:
        write_atomically(RESULT_FILE, json.dumps(result, indent=2) + "\n")
    print(json.dumps({"index_secs": timed["index_secs"], "pages": timed["pages"], "raters": judged}, indent=2))
    print(json.dumps(result["ratios"]))


if __name__ == "__main__":
    main()
