"""What the attacks on text cost: seconds and memory of every one that needs only texts, on 10,000 x 10,000 records.

Each piece runs in a process of its own, so that its peak of memory is its own. Texts are those of the fictional marketplace; the synthetic set is another
part of them with 200 training records copied in, so that what looks for copies has some to find. Names by Presidio are timed where `penname[pii]` is installed.

  python benchmarks/audit_metrics.py [--quick] [--seed S] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# One thread for products: what is timed is the work. The windows of the fuzzy search take all processors.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from resumable import write_atomically
from sample_data_variety import environment

ROOT = Path(__file__).resolve().parents[1]
RESULT_FILE = ROOT / "benchmarks" / "results" / "audit_metrics.json"
NUM_RECORDS, NUM_QUICK, NUM_COPIED = 10_000, 1_000, 200
MAX_SECS, MAX_GB = 300, 4
MANY_CANARIES = "canary_leaks_of_1_000"
"""Nine times the canaries of the default audit: timed beside, and not in the total."""


def write_sets(folder: Path, num: int, seed: int) -> None:
    """Disjoint sets of `num` rows each, train, heldout, test and synthetic, into `folder/sets.json`."""
    from penname.ingest.sample_data import REVIEWS_FILE, write_sample_data

    write_sample_data(folder, num_reviews=6 * num, seed=seed)
    with open(folder / REVIEWS_FILE, encoding="utf-8") as handle:
        read = (json.loads(line) for line in handle)
        found = {row["text"]: (float(row["rating"]), row["title"], row["text"], row["parent_asin"][-1]) for row in read if row["text"].strip()}
    rows = list(found.values())
    if len(rows) < 4 * num:
        raise SystemExit(f"the marketplace gave {len(rows)} different reviews, {4 * num} are needed; write more of them")
    sets = {name: rows[i * num : (i + 1) * num] for i, name in enumerate(("train", "heldout", "test", "synthetic"))}
    sets["synthetic"] = sets["train"][:NUM_COPIED] + sets["synthetic"][NUM_COPIED:]
    (folder / "sets.json").write_text(json.dumps(sets), encoding="utf-8")


def read_sets(folder: Path) -> dict[str, list[Any]]:
    """What `write_sets` wrote."""
    from penname.evaluate.samples import Row

    return {name: [Row(*row) for row in rows] for name, rows in json.loads((folder / "sets.json").read_text(encoding="utf-8")).items()}


def list_tasks(folder: Path, seed: int) -> dict[str, Callable[[], Any]]:
    """By name. Metrics run as in a run with all records compared; the rest as the audit calls them, with as many canaries as it plants by default."""
    from penname.config import AuditConfig

    return {
        **{name: lambda name=name: run_metric(name, folder, seed) for name in metric_names()},
        "canary_leaks": lambda: run_canary_leaks(folder, seed, AuditConfig().canaries),
        MANY_CANARIES: lambda: run_canary_leaks(folder, seed, dict.fromkeys((1, 4, 16, 64), len(read_sets(folder)["heldout"]) // 40)),
        "ngram_echo": lambda: run_ngram_echo(folder, seed),
        "similarity_echo": lambda: run_similarity_echo(folder, seed),
    }


def metric_names() -> list[str]:
    """Every privacy metric that reads texts."""
    return list(_metrics())


def _metrics() -> dict[str, Any]:
    from penname.evaluate.privacy import closer_to_train, linkage, longest_common_substring, near_duplicates, ngram_overlap, personal_data, personal_names

    metrics = [
        ngram_overlap.NGRAM_OVERLAP_FRAC,
        ngram_overlap.NGRAM_OVERLAP_FRAC_LONG,
        longest_common_substring.LONGEST_COMMON_SUBSTRING,
        near_duplicates.NEAR_DUPLICATES,
        closer_to_train.CLOSER_TO_TRAIN,
        personal_data.REPLAYED_PII,
        personal_names.REPLAYED_NAMES,
        linkage.ATTRIBUTE_INFERENCE,
        linkage.LINKABILITY,
        linkage.SINGLING_OUT,
    ]
    return {metric.name: metric for metric in metrics}


def run_metric(name: str, folder: Path, seed: int) -> Any:
    """Values by arm: `real` and the synthetic set."""
    from penname.config import EvaluateConfig
    from penname.evaluate.evaluate import build_samples
    from penname.evaluate.privacy.errors import LeftOutError

    rows = read_sets(folder)
    synthetic = {"synthetic": rows.pop("synthetic")}
    samples = build_samples(**rows, synthetic=synthetic, config=EvaluateConfig(max_records=len(rows["train"]), seed=seed), embed=refuse_to_embed)
    began = time.perf_counter()
    try:
        found = {estimate.arm: round(estimate.value, 4) for estimate in _metrics()[name].compute(samples)}
    except LeftOutError as error:
        return {"left_out": str(error)}
    return {"secs": round(time.perf_counter() - began, 1), "values": found}


def refuse_to_embed(texts: list[str]) -> Any:
    """None of these metrics may need the embedding model: at some tens of texts a second it would take most of the time."""
    raise RuntimeError(f"{len(texts)} texts were to be embedded")


def run_canary_leaks(folder: Path, seed: int, counts: dict[int, int]) -> Any:
    """Canaries, so many of each repetition, against all synthetic texts, exactly and fuzzily."""
    from penname.evaluate.privacy.canary_leaks import count_leaks
    from penname.privacy.keystream import Keystream
    from penname.records.canaries import draw_canaries

    rows = read_sets(folder)
    heldout = [row.text for row in rows["heldout"]]
    canaries = draw_canaries(num_by_repetition=counts, texts=heldout, seed=seed, keystream=Keystream.from_seed(seed))
    planted = next(canary for canary in canaries if canary.is_in and canary.kind == "persona")
    texts = [f"{row.title}\n{row.text}" for row in rows["synthetic"]] + [planted.whole]
    began = time.perf_counter()
    leaks = count_leaks(canaries, texts)
    secs = round(time.perf_counter() - began, 1)
    return {
        "secs": secs,
        "values": {"num_canaries": len(canaries), "exact": sum(row.num_leaked for row in leaks.exact), "fuzzy_threshold": leaks.fuzzy_threshold},
    }


def run_ngram_echo(folder: Path, seed: int) -> Any:
    """All of train and test as candidates, heldout as control."""
    from penname.evaluate.privacy.roc import attack_auroc
    from penname.evaluate.privacy.text_membership import ngram_echo_scores

    texts = {name: [row.text for row in rows] for name, rows in read_sets(folder).items()}
    began = time.perf_counter()
    scores = ngram_echo_scores(texts["train"] + texts["test"], texts["synthetic"], texts["heldout"])
    auroc = attack_auroc(scores[: len(texts["train"])], scores[len(texts["train"]) :])
    return {"secs": round(time.perf_counter() - began, 1), "values": {"attack_auroc": round(auroc.value, 4)}}


def run_similarity_echo(folder: Path, seed: int) -> Any:
    """On random vectors of MiniLM's width: making embeddings is the embedding model's cost, not the attack's."""
    import numpy as np

    from penname.evaluate.privacy.text_membership import similarity_echo_scores

    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(3, len(read_sets(folder)["train"]), 384))
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    began = time.perf_counter()
    similarity_echo_scores(vectors[0], vectors[1], vectors[2])
    return {"secs": round(time.perf_counter() - began, 1), "values": {}}


def run_alone(name: str, folder: Path, seed: int, connection: Any) -> None:
    """One task in a process of its own; sends its result with the peak of memory."""
    result = list_tasks(folder, seed)[name]()
    connection.send({**result, "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)})


def run_all(folder: Path, seed: int, only: list[str]) -> dict[str, Any]:
    """Results by name of the task."""
    context, results = multiprocessing.get_context("spawn"), {}
    for name in list_tasks(folder, seed):
        if only and name not in only:
            continue
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=run_alone, args=(name, folder, seed, sender))
        process.start()
        sender.close()
        try:
            results[name] = receiver.recv()
        except EOFError:
            raise SystemExit(f"{name}: ended without a result (exit status {process.exitcode})") from None
        process.join()
        print(f"{name}: {json.dumps(results[name])}", file=sys.stderr, flush=True)
    return results


def main() -> None:
    """Runs every task, writes the result file, prints the totals as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{NUM_QUICK:,} records a set and no result file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="some tasks, and no result file")
    args = parser.parse_args()
    num = NUM_QUICK if args.quick else NUM_RECORDS
    with tempfile.TemporaryDirectory() as folder:
        write_sets(Path(folder), num, args.seed)
        results = run_all(Path(folder), args.seed, args.only)
    totals = {
        "total_secs": round(sum(result.get("secs", 0) for name, result in results.items() if name != MANY_CANARIES), 1),
        "peak_rss_gb": max(result["peak_rss_gb"] for result in results.values()),
        "left_out": sorted(name for name, result in results.items() if "left_out" in result),
    }
    if not args.quick and not args.only:
        packages = ("numpy", "scipy", "scikit-learn", "rapidfuzz", "rensa")
        identity = {"script": "benchmarks/audit_metrics.py", **environment(packages), "seed": args.seed, "num_records": num, "threads_of_products": 1}
        limits = {"max_secs": MAX_SECS, "max_gb": MAX_GB}
        write_atomically(RESULT_FILE, json.dumps({**identity, "limits": limits, "results": results, "totals": totals}, indent=2) + "\n")
    print(json.dumps(totals))


if __name__ == "__main__":
    main()
