"""Does the fictional marketplace read like templates? Its variety against real reviews.

Distinct 3-gram share: distinct / total word 3-grams, over the same number of words from both. Shared openings: the share of
reviews whose first five words also open another review, over the same number of reviews; once over all reviews, once over those
of at least ten words, because the real set has hardly any very short ones and ours, like Amazon's, many.

  python benchmarks/sample_data_variety.py [--quick] [--seed S] [--real FILE]
"""

from __future__ import annotations

import argparse
import csv
import gzip
import html
import json
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from statistics import mean, median
from typing import Any

from penname.ingest.sample_data import METADATA_FILE, REVIEWS_FILE, write_sample_data

ROOT = Path(__file__).resolve().parents[1]
REAL_FILE = ROOT.parent / "shared" / "data" / "womens_clothing_reviews.csv.gz"
RESULT_FILE = ROOT / "benchmarks" / "results" / "sample_data_variety.json"
_WORD = re.compile(r"[\w']+")
_MIN_OPENING_WORDS = 10


def split_words(text: str) -> list[str]:
    """Words in lower case, without markup."""
    return _WORD.findall(html.unescape(text.replace("<br />", " ")).lower())


def shared_opening_frac(reviews: list[list[str]]) -> float:
    """Share of the reviews whose first five words open another one too."""
    openings = Counter(tuple(words[:5]) for words in reviews)
    return sum(count for count in openings.values() if count > 1) / len(reviews)


def distinct_3gram_frac(reviews: list[list[str]], num_words: int) -> float:
    """Distinct / total 3-grams within reviews, over the first num_words words."""
    distinct, total, left = set(), 0, num_words
    for words in reviews:
        grams = list(zip(words[:left], words[1:left], words[2:left], strict=False))
        distinct.update(grams)
        total += len(grams)
        left -= len(words)
        if left <= 0:
            break
    return len(distinct) / total


def read_ours(folder: Path) -> list[dict[str, Any]]:
    """Rows of the marketplace with a text, exact duplicates left out."""
    with open(folder / REVIEWS_FILE, encoding="utf-8") as handle:
        rows = {(row["user_id"], row["text"]): row for row in map(json.loads, handle) if row["text"].strip()}
    return list(rows.values())


def read_real(path: Path) -> list[list[str]]:
    """Words of every real review with a text, in the file's order."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as handle:
        return [split_words(row["Review Text"]) for row in csv.DictReader(handle) if row["Review Text"].strip()]


def describe_lengths(lengths: list[int]) -> dict[str, float]:
    """Mean, median and tail of lengths in words."""
    ordered = sorted(lengths)
    return {
        "mean": round(mean(ordered), 1),
        "median": median(ordered),
        "p90": ordered[int(0.9 * len(ordered))],
        "p99": ordered[int(0.99 * len(ordered))],
        "max": ordered[-1],
        "over_400_frac": round(sum(n > 400 for n in ordered) / len(ordered), 4),
    }


def measure_variety(ours: list[list[str]], real: list[list[str]], count: int) -> dict[str, Any]:
    """Both measures of both sets, over the same number of reviews, or of words."""
    longer = [[w for w in reviews if len(w) >= _MIN_OPENING_WORDS] for reviews in (ours, real)]
    num_longer = min(count, len(longer[0]), len(longer[1]))
    num_words = min(sum(map(len, ours[:count])), sum(map(len, real[:count])))
    result: dict[str, Any] = {"num_reviews": count, "num_words": num_words, "num_reviews_of_ten_words": num_longer}
    for name, reviews, long_ones in (("ours", ours, longer[0]), ("real", real, longer[1])):
        result[name] = {
            "distinct_3gram_frac": round(distinct_3gram_frac(reviews[:count], num_words), 4),
            "shared_opening_frac": round(shared_opening_frac(reviews[:count]), 4),
            "shared_opening_frac_of_ten_words": round(shared_opening_frac(long_ones[:num_longer]), 4),
        }
    return result


def compare_ratios(variety: dict[str, Any]) -> dict[str, float]:
    """Ours over real."""
    return {f"{name}_ours_over_real": round(value / variety["real"][name], 3) for name, value in variety["ours"].items()}


def measure_dirt(folder: Path) -> dict[str, float]:
    """Share of rows that cleaning drops, by reason."""
    with open(folder / METADATA_FILE, encoding="utf-8") as handle:
        usable = {row["parent_asin"]: bool(row["title"] and row["categories"]) for row in map(json.loads, handle)}
    counts, seen = Counter(), set()
    with open(folder / REVIEWS_FILE, encoding="utf-8") as handle:
        for row in map(json.loads, handle):
            counts["rows"] += 1
            key = (row["user_id"], row["parent_asin"], row["text"])
            counts["empty_text"] += not row["text"].strip()
            counts["product_not_in_metadata"] += row["parent_asin"] not in usable
            counts["no_title_or_category"] += not usable.get(row["parent_asin"], True)
            counts["exact_duplicate"] += key in seen
            seen.add(key)
    total = counts.pop("rows")
    return {reason: round(count / total, 4) for reason, count in sorted(counts.items())}


def environment(packages: tuple[str, ...] = ("faker", "orjson")) -> dict[str, Any]:
    """What the numbers depend on: commit, machine, and the versions of these packages."""
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607
    versions = {name: version(name) for name in packages}
    machine = {"processor": platform.processor() or platform.machine(), "system": platform.platform(), "python": platform.python_version()}
    return {"commit": git.stdout.strip() if git.returncode == 0 else "none yet", "machine": machine, "versions": versions}


def run(num_reviews: int, seed: int, real_file: Path) -> dict[str, Any]:
    """Writes a marketplace, measures it and the real reviews."""
    with tempfile.TemporaryDirectory() as name:
        start = time.perf_counter()
        write_sample_data(Path(name), num_reviews=num_reviews, seed=seed)
        secs = time.perf_counter() - start
        rows, dirt = read_ours(Path(name)), measure_dirt(Path(name))
    ours = [split_words(row["text"]) for row in rows]
    ratings = Counter(int(row["rating"]) for row in rows)
    result: dict[str, Any] = {
        "seed": seed,
        "num_reviews_written": num_reviews,
        "write_secs_per_1000_reviews": round(1000 * secs / num_reviews, 2),
        "length_words": {"ours": describe_lengths(list(map(len, ours)))},
        "rating_frac": {"ours": {rating: round(ratings[rating] / len(rows), 4) for rating in sorted(ratings)}},
        "dropped_by_cleaning_frac": dirt,
        "variety": {},
        "ratios": {},
    }
    if not real_file.is_file():
        print(f"{real_file}: is missing; the real reviews are skipped", file=sys.stderr)
        return result
    real = read_real(real_file)
    result["length_words"]["real_clothing"] = describe_lengths(list(map(len, islice(real, num_reviews))))
    for count in sorted({1000, min(len(ours), len(real))}):
        if count <= min(len(ours), len(real)):
            result["variety"][str(count)] = measured = measure_variety(ours, real, count)
            result["ratios"] = compare_ratios(measured)
    return result


def main() -> None:
    """Measures, writes the result file, prints the ratios as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2,000 reviews, one seed, and no result file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", type=Path, default=REAL_FILE)
    args = parser.parse_args()
    result = {"script": "benchmarks/sample_data_variety.py", **environment(), **run(2000 if args.quick else 6000, args.seed, args.real)}
    if not args.quick:
        others = (args.seed + 1, args.seed + 2)
        result["ratios_of_other_seeds"] = {seed: run(6000, seed, args.real)["ratios"] for seed in others}
        RESULT_FILE.parent.mkdir(parents=True, exist_ok=True)
        RESULT_FILE.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({key: result[key] for key in ("length_words", "rating_frac", "dropped_by_cleaning_frac", "variety")}, indent=2))
    print(json.dumps(result["ratios"]))


if __name__ == "__main__":
    main()
