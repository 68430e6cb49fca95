"""How long do all fidelity metrics take for 10,000 against 10,000 reviews, in how much memory, and does the memory grow with the square of the rows?

Reviews of the fictional marketplace stand on every side (train, heldout, test, and one set in place of synthetic ones), so sets are alike and figures say
nothing; times and memory do. Each measurement is a process of its own, on two threads. The aims are those of issue 7: under 6 minutes with the fast
embedding model, under 15 with all-MiniLM-L6-v2, 4 GB. `memory_growth` is the memory that the second doubling of the rows adds over what the first
doubling adds: 2 where memory grows with the rows, 4 where it grows with their square.

  python benchmarks/evaluation.py [--quick] [--seed S]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from resumable import write_atomically
from sample_data_variety import environment

RESULT_FILE = Path(__file__).resolve().parent / "results" / "evaluation.json"
FAST, SLOW = "minishlab/potion-base-8M", "sentence-transformers/all-MiniLM-L6-v2"
NUM_THREADS = 2
NUM_ENCODED = 1000
_SETS = ("train", "heldout", "test", "synthetic")


def read_rows(folder: Path, num_rows: int) -> dict[str, list[Any]]:
    """Rows of the marketplace for each set, in turn, so that all are alike."""
    from penname.evaluate.samples import Row
    from penname.ingest.sample_data import METADATA_FILE, REVIEWS_FILE

    with open(folder / METADATA_FILE, encoding="utf-8") as handle:
        products = {row["parent_asin"]: row for row in map(json.loads, handle)}
    rows: list[Any] = []
    with open(folder / REVIEWS_FILE, encoding="utf-8") as handle:
        for review in map(json.loads, handle):
            product = products.get(review["parent_asin"])
            if product and product["categories"] and review["text"].strip():
                rows.append(Row(review["rating"], review["title"], review["text"], product["categories"][1], product["title"]))
    return {name: rows[place :: len(_SETS)][:num_rows] for place, name in enumerate(_SETS)}


def measure_fidelity(folder: str, num_rows: int, model: str, seed: int) -> dict[str, Any]:
    """Seconds and peak memory of every default fidelity metric, the embedding included."""
    import torch

    from penname.config import EvaluateConfig
    from penname.evaluate.computation import collect_figure_data, compute_metrics
    from penname.evaluate.evaluate import build_samples
    from penname.evaluate.planted_facts import read_planted_facts
    from penname.evaluate.registry import select_metrics

    torch.set_num_threads(NUM_THREADS)
    rows = read_rows(Path(folder), num_rows)
    synthetic = {"with_dp": rows.pop("synthetic")}
    config = EvaluateConfig(max_records=num_rows, embedding_model=model, seed=seed)
    began = time.perf_counter()
    samples = build_samples(**rows, synthetic=synthetic, config=config, facts=read_planted_facts(Path(folder)))
    by_metric: dict[str, float] = {}
    for metric in select_metrics(None):
        if metric.family == "fidelity":
            start = time.perf_counter()
            compute_metrics(samples, (metric,))
            by_metric[metric.name] = round(time.perf_counter() - start, 2)
    start = time.perf_counter()
    collect_figure_data(samples)
    by_metric["figure data"] = round(time.perf_counter() - start, 2)
    return {
        "embedding_model": model,
        "num_rows": samples.num_compared,
        "secs": round(time.perf_counter() - began, 1),
        "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 3),
        "secs_by_metric": dict(sorted(by_metric.items(), key=lambda item: -item[1])),
    }


def measure_encoder(folder: str, model: str, dtype: str, num_texts: int) -> dict[str, Any]:
    """Texts a second, and how far the vectors are from those of float32."""
    import torch

    from penname.model.embedding import load_embedder

    torch.set_num_threads(NUM_THREADS)
    texts = [row.text for row in read_rows(Path(folder), num_texts)["test"]]
    embedder = load_embedder(model, dtype=dtype)
    embedder.embed(texts[: max(1, len(texts) // 10)])
    start = time.perf_counter()
    vectors = embedder.embed(texts)
    secs = time.perf_counter() - start
    exact = load_embedder(model, dtype="float32").embed(texts[:200])
    least = round(float((exact * vectors[:200]).sum(axis=1).min()), 6)
    speed = round(len(texts) / secs, 1)
    return {"embedding_model": model, "dtype": dtype, "num_texts": len(texts), "texts_a_sec": speed, "least_cosine_to_float32": least}


def call_in_process(function: Any, *arguments: Any) -> dict[str, Any]:
    """The result from a fresh process, whose peak memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def measure_growth(folder: str, sizes: tuple[int, int, int], seed: int) -> dict[str, Any]:
    """Peak memory at three sizes, each twice the one before."""
    peaks = [call_in_process(measure_fidelity, folder, size, FAST, seed)["peak_rss_gb"] for size in sizes]
    first, second = peaks[1] - peaks[0], peaks[2] - peaks[1]
    return {"num_rows": list(sizes), "peak_rss_gb": peaks, "memory_growth": round(second / first, 2) if first > 0 else None}


def main() -> None:
    """Measures, writes the result file, prints the ratios as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="1,000 rows a set, 100 texts an encoder, and no result file")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    num_rows, num_encoded = (1000, 100) if args.quick else (10_000, NUM_ENCODED)
    from penname.ingest.sample_data import write_sample_data

    with tempfile.TemporaryDirectory() as folder:
        # A few rows are lost to cleaning: an eighth more are written.
        write_sample_data(Path(folder), num_reviews=len(_SETS) * num_rows * 9 // 8, seed=args.seed)
        encoders = [call_in_process(measure_encoder, folder, model, dtype, num_encoded) for model, dtype in ((FAST, "auto"), (SLOW, "float32"), (SLOW, "auto"))]
        fidelity = [call_in_process(measure_fidelity, folder, num_rows, model, args.seed) for model in (FAST, SLOW)]
        growth = measure_growth(folder, (num_rows // 4, num_rows // 2, num_rows), args.seed)
    result = {
        "script": "benchmarks/evaluation.py",
        **environment(("numpy", "scipy", "scikit-learn", "torch", "transformers")),
        "seed": args.seed,
        "threads": NUM_THREADS,
        "encoders": encoders,
        "fidelity": fidelity,
        "growth": growth,
    }
    if not args.quick:
        write_atomically(RESULT_FILE, json.dumps(result, indent=2) + "\n")
    print(json.dumps({"encoders": encoders, "fidelity": fidelity, "growth": growth}, indent=2))
    ratios = {
        "fast_secs": fidelity[0]["secs"],
        "minilm_secs": fidelity[1]["secs"],
        "peak_rss_gb": max(found["peak_rss_gb"] for found in fidelity),
        "memory_growth": growth["memory_growth"],
        "minilm_auto_over_float32": round(encoders[2]["texts_a_sec"] / encoders[1]["texts_a_sec"], 2),
    }
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
