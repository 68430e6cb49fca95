"""From raw reviews to records: our first two stages on 200,000 and on 2,000,000 reviews, and the code that we set out from on the rows that it took.

Beside them the same tables in Polars and in DuckDB alone (`table_engines.py`), with neither our cleaning nor our checks.

The reviews are those of `penname sample-data`, each copied with another user and another product id, so that two million take seconds to write.
Every measurement is a process of its own, which may start others. Memory is the most anonymous memory that they held together (the sum of RssAnon
over the process and all below it, looked at twenty times a second): pages of files that the system keeps at its own leisure do not count.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULT_FILE = HERE / "results" / "ingest.json"
REVIEWS, PRODUCTS = "Cell_Phones_and_Accessories.jsonl", "meta_Cell_Phones_and_Accessories.jsonl"
LARGE, SMALL = 2_000_000, 200_000
ORIGINAL_ROWS = 160_000
"""So many the original reads; the rest of the category does not fit its memory."""
SYSTEM_PROMPT = "Given the Product Title, Product Category, Review Rating and Review Title, you are required to generate the Review"


def write_data(folder: Path, base: Path, num_reviews: int) -> None:
    """Copies of the base until there are enough; in each copy every user and every product is another."""
    folder.mkdir()
    lines = (base / REVIEWS).read_bytes().splitlines(keepends=True)
    products = (base / PRODUCTS).read_bytes()
    with open(folder / REVIEWS, "wb") as reviews, open(folder / PRODUCTS, "wb") as catalogue:
        for copy, start in enumerate(range(0, num_reviews, len(lines))):
            data = b"".join(lines[: num_reviews - start])
            mark = f"{copy:04d}".encode()
            reviews.write(data.replace(b'"user_id":"', b'"user_id":"' + mark).replace(b'"parent_asin":"', b'"parent_asin":"' + mark))
            catalogue.write(products.replace(b'"parent_asin":"', b'"parent_asin":"' + mark))


def measure_ours(data: Path, out: Path) -> dict[str, Any]:
    """The stages ingest and records, with the settings of a run on this layout."""
    from penname.config import Config
    from penname.ingest.ingest import run_ingest
    from penname.records.records import run_records
    from penname.run_dir import RunDir, read_json

    run_dir = RunDir(out)
    run_dir.create()
    files = {"reviews": str(data / REVIEWS), "catalogue": str(data / PRODUCTS)}
    config = Config.model_validate({"data": {"format": "amazon_reviews_2023", **files}})
    began = time.perf_counter()
    run_ingest(config, run_dir)
    between = time.perf_counter()
    run_records(config, run_dir)
    ended = time.perf_counter()
    counts = read_json(run_dir.path("ingest_counts"))
    num_records = sum(read_json(run_dir.path("records_counts"))["num_records"].values())
    secs = {"ingest_secs": between - began, "records_secs": ended - between, "secs": ended - began}
    return {"num_rows": counts["rows_read"], "num_kept": counts["kept"], "num_records": num_records, **secs}


def measure_original(data: Path, out: Path) -> dict[str, Any]:
    """The steps of the system that we set out from, on the rows that it took: load, filter, join, fill the record, write."""
    import pandas as pd

    out.mkdir()
    began = time.perf_counter()
    reviews = pd.read_json(data / REVIEWS, lines=True, nrows=ORIGINAL_ROWS)
    products = pd.read_json(data / PRODUCTS, lines=True)
    num_rows = len(reviews)
    reviews = reviews.rename(columns={"title": "review_title", "text": "review_text"})
    products = products.rename(columns={"title": "product_title", "main_category": "product_main_category"})
    reviews = reviews[reviews["review_text"].str.strip() != ""]
    joined = reviews.merge(products[["parent_asin", "product_main_category", "product_title"]], on="parent_asin", how="left")
    joined = joined.drop(columns=["images", "asin", "parent_asin", "user_id", "timestamp", "helpful_vote", "verified_purchase"])
    joined = joined.dropna(subset=["product_main_category", "product_title"])
    joined = joined[(joined["review_text"].str.strip() != "") & (joined["product_title"].str.strip() != "")].reset_index(drop=True)
    between = time.perf_counter()
    for index, row in joined.iterrows():
        record = {
            "System prompt": SYSTEM_PROMPT,
            "Rating": row["rating"],
            "Review Title": row["review_title"],
            "Review": row["review_text"],
            "Product Title": row["product_title"],
            "Product Categories": row["product_main_category"],
        }
        # It opens its file anew for every row.
        name = "train" if index < 100_000 else "test" if index < 110_000 else "validation"
        with open(out / f"{name}.jsonl", "a") as handle:
            json.dump(record, handle)
            handle.write("\n")
    ended = time.perf_counter()
    return {"num_rows": num_rows, "num_records": len(joined), "load_and_join_secs": between - began, "write_secs": ended - between, "secs": ended - began}


def measure_engine(way: str, data: Path, out: Path) -> dict[str, Any]:
    """The tables alone, in an engine as it comes."""
    import table_engines

    result = getattr(table_engines, f"measure_{way}")(data / REVIEWS, data / PRODUCTS, out)
    num_rows = sum(block.count(b"\n") for block in iter(partial((data / REVIEWS).open("rb").read, 1 << 24), b""))
    return {"num_rows": num_rows, **result}


def measure(way: str, data: Path, python: str) -> dict[str, Any]:
    """Runs one way in a process of its own, and watches its memory."""
    with tempfile.TemporaryDirectory(dir=data.parent) as folder, tempfile.TemporaryFile("w+") as answer:
        command = [python, str(Path(__file__).resolve()), "--measure", way, str(data), str(Path(folder) / "out")]
        # What the way before this one wrote must not go to the disk in this one's time.
        os.sync()
        process = subprocess.Popen(command, stdout=answer)  # noqa: S603
        peak = 0
        while process.poll() is None:
            peak = max(peak, sum(map(_anonymous_bytes, _find_family(process.pid))))
            time.sleep(0.05)
        if process.returncode:
            raise SystemExit(f"{way}: ended with {process.returncode}; see above")
        answer.seek(0)
        result = json.loads(answer.read().splitlines()[-1])
    result["rows_a_sec"] = result["num_rows"] / result["secs"]
    return {**result, "peak_anonymous_gb": peak / 1e9}


def _find_family(pid: int) -> list[int]:
    """The process and all that descend from it, as far as they run."""
    family = [pid]
    for member in family:
        try:
            threads = list(Path(f"/proc/{member}/task").iterdir())
            family += [int(child) for thread in threads for child in (thread / "children").read_text().split()]
        except OSError:
            # It ended meanwhile.
            continue
    return family


def _anonymous_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def compare(rounds: list[dict[str, Any]]) -> dict[str, float]:
    """The ratios, each taken within a round; their median. `ours_over_pandas` is from raw files to records on both sides."""
    ratios = {
        "ours_over_pandas": [r["large"]["rows_a_sec"] / r["original"]["rows_a_sec"] for r in rounds],
        "ingest_alone_over_pandas": [r["large"]["num_rows"] / r["large"]["ingest_secs"] / r["original"]["rows_a_sec"] for r in rounds],
        "ours_over_polars_alone": [r["large"]["rows_a_sec"] / r["large_polars"]["rows_a_sec"] for r in rounds],
        "ours_over_duckdb_alone": [r["large"]["rows_a_sec"] / r["large_duckdb"]["rows_a_sec"] for r in rounds],
        "peak_rss_gb": [r["large"]["peak_anonymous_gb"] for r in rounds],
        "memory_growth": [r["large"]["peak_anonymous_gb"] / r["small"]["peak_anonymous_gb"] for r in rounds],
    }
    return {name: round(statistics.median(values), 3) for name, values in ratios.items()}


def main() -> None:
    """Measures, writes the result file, prints the ratios as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round, copies of 10,000 reviews, and no result file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pandas-python", default=sys.executable, help="interpreter of an environment that has pandas; this one by default")
    parser.add_argument("--measure", nargs=3, metavar=("WAY", "DATA", "OUT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        way, data, out = args.measure
        measures = {"ours": measure_ours, "original": measure_original}
        print(json.dumps(measures.get(way, partial(measure_engine, way))(Path(data), Path(out))))
        return
    # Here, for the other environment has neither.
    from resumable import describe_machine, write_atomically
    from sample_data_variety import environment

    from penname.ingest.sample_data import write_sample_data

    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        num_base = 10_000 if args.quick else 100_000
        (root / "base").mkdir()
        write_sample_data(root / "base", num_reviews=num_base, seed=args.seed)
        for size, num_reviews in (("small", SMALL), ("large", LARGE)):
            write_data(root / size, root / "base", num_reviews)
        rounds = []
        for number in range(1 if args.quick else 3):
            rounds.append(
                {
                    "original": measure("original", root / "small", args.pandas_python),
                    "small": measure("ours", root / "small", sys.executable),
                    "large": measure("ours", root / "large", sys.executable),
                    "small_polars": measure("polars", root / "small", sys.executable),
                    "large_polars": measure("polars", root / "large", sys.executable),
                    "small_duckdb": measure("duckdb", root / "small", sys.executable),
                    "large_duckdb": measure("duckdb", root / "large", sys.executable),
                }
            )
            print(f"round {number + 1}: {json.dumps(rounds[-1])}", file=sys.stderr)
        ratios = compare(rounds)
        num_bytes = (root / "large" / REVIEWS).stat().st_size
    if not args.quick:
        identity = {
            "script": "benchmarks/ingest.py",
            **environment(("polars", "pyarrow", "msgspec", "duckdb", "pandas")),
            "seed": args.seed,
            "num_base_reviews": num_base,
        }
        result = {**identity, "cpu": describe_machine(), "num_bytes": num_bytes, "rounds": rounds, "ratios": ratios}
        write_atomically(RESULT_FILE, json.dumps(result, indent=2) + "\n")
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
