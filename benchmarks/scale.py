"""What all 33 categories of Amazon Reviews 2023 would take: the sampler and the sum over ranks at their size, run here, and arithmetic for the rest.

Run here: the Poisson draw over 10^9 units; the sum of W ranks' clipped sums, the noise and the Adam step for the adapters of each model; the index of the
training units. Taken from other result files: rows a second of ingest, the share of the matrix products' speed that training reaches. Everything else is
arithmetic on assumptions that are named in the result and on the page; no GPU was used. Writes the tables of docs/scale.md.

  python benchmarks/scale.py [--quick] [--seed S]
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from math import sqrt
from pathlib import Path
from statistics import median
from typing import Any

from resumable import describe_machine, replace_between_markers
from sample_data_variety import environment

from penname.config import Config, ModelConfig, load_config
from penname.plan.known_models import KNOWN_MODELS
from penname.plan.paper import DEVICE_SPEEDS, TRAINING_FLOPS_FRAC, WRITING_MEMORY_FRAC, count_training_flops
from penname.run_dir import read_json, write_json, write_rows

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
RESULT_FILE = RESULTS / "scale.json"
DOCUMENT = ROOT / "docs" / "scale.md"
PACKAGES = ("penname", "torch", "numpy", "cryptography", "dp-accounting")

# Hou et al. (2024), https://arxiv.org/abs/2403.03952: reviews, users and items of all 33 categories.
DATA = {"num_reviews": 571.54e6, "num_users": 54.51e6, "num_items": 48.19e6}
# Of NVIDIA's data sheet for the H100 SXM: dense bfloat16, memory, and its links; what a program gets of them is assumed below.
GPU = {"flops_a_sec": DEVICE_SPEEDS["80 GB"].flops_a_sec, "memory_bytes_a_sec": DEVICE_SPEEDS["80 GB"].memory_bytes_a_sec, "network_bytes_a_sec": 50e9}
ASSUMED = {
    "share_of_flops_in_training": TRAINING_FLOPS_FRAC,
    "share_of_memory_in_generation": WRITING_MEMORY_FRAC,
    "texts_at_once": 256,
    "tokens_a_record": 145,
    "new_tokens_a_text": 85,
    "prompt_tokens_of_its_own": 30,
    "expected_batch_size": 16_384,
    "num_steps": 1_000,
    "train_frac": 0.8,
    "num_generated": 10_000_000,
    "bytes_a_review": 650,
}
MODELS = ("llama-3.2-1b", "llama-3.1-8b")
NUM_GPUS = (1, 8, 64)
_BF16_BYTES, _FP64_BYTES = 2, 8


def simulate_sampler(*, num_units: int, expected: int, num_steps: int, seed: int) -> dict[str, Any]:
    """Poisson draws of so many units: seconds a draw, how many were drawn, how far from what is expected, peak memory."""
    from penname.privacy.keystream import Keystream
    from penname.privacy.sampling import draw_poisson_units

    keystream, prob = Keystream.from_seed(seed), expected / num_units
    secs, drawn = [], []
    for step in range(num_steps):
        began = time.perf_counter()
        indices = draw_poisson_units(keystream, step=step, num_units=num_units, sampling_prob=prob)
        secs.append(time.perf_counter() - began)
        drawn.append(len(indices))
    z_score = (sum(drawn) - num_steps * expected) / sqrt(num_steps * expected * (1 - prob))
    return {"num_units": num_units, "expected": expected, "drawn": drawn, "z_score": z_score, "secs": secs, "peak_rss_gb": _peak_gb()}


def simulate_reducer(*, num_params: int, num_ranks: int, seed: int) -> dict[str, Any]:
    """One step's end: the ranks' sums are added, the noise is added once, Adam moves the adapter; the bytes that go over the wire."""
    import torch

    from penname.privacy.clipping import empty_sum
    from penname.privacy.keystream import Keystream
    from penname.privacy.noise import draw_gaussian

    torch.manual_seed(seed)
    share = torch.randn(num_params, dtype=torch.float64)
    began = time.perf_counter()
    total = empty_sum(num_params, l2_clip_norm=1.0).value
    for _ in range(num_ranks):
        total = total.add_(share)
    add_secs, began = time.perf_counter() - began, time.perf_counter()
    draw_gaussian(Keystream.from_seed(seed), purpose="dp_sgd", index=0, size=num_params, stddev=1.0)
    noise_secs, began = time.perf_counter() - began, time.perf_counter()
    weights = torch.nn.Parameter(torch.zeros(num_params))
    weights.grad = torch.zeros(num_params)
    torch.optim.Adam([weights]).step()
    # Sums go in, weights go out.
    wire = (num_ranks - 1) * num_params * (_FP64_BYTES + 4)
    return {
        "num_params": num_params,
        "num_ranks": num_ranks,
        "add_secs": add_secs,
        "noise_secs": noise_secs,
        "adam_secs": time.perf_counter() - began,
        "wire_bytes": wire,
    }


def time_index(*, num_records: int) -> dict[str, float]:
    """The index of the training units: seconds and bytes a record. It is built once a run."""
    from penname.unit_file import find_records, group_equal

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.jsonl"
        text = "word " * 100
        write_rows(path, ({"record_id": f"r{i}", "unit_id": f"u{i // 2}", "prompt": text, "completion": text} for i in range(num_records)))
        began = time.perf_counter()
        digests, ends = find_records(path)
        order, starts = group_equal(digests)
    return {
        "num_records": num_records,
        "secs_a_record": (time.perf_counter() - began) / num_records,
        "bytes_a_record": (ends.nbytes + order.nbytes + starts.nbytes) / num_records,
    }


def calibrate(config: Config) -> dict[str, float]:
    """The noise that epsilon 8 needs when users of all categories are the units."""
    from penname.privacy.accounting import calibrate_noise, compute_epsilon

    num_units = ASSUMED["train_frac"] * DATA["num_users"]
    prob, delta = ASSUMED["expected_batch_size"] / num_units, num_units**-1.1

    def events(noise_multiplier: float) -> list[dict[str, Any]]:
        event = {"type": "poisson_sampled_gaussian", "noise_multiplier": noise_multiplier, "l2_sensitivity": 1.0}
        return [{**event, "sampling_prob": prob, "num_steps": ASSUMED["num_steps"]}]

    found: dict[str, float] = {"num_units": num_units, "sampling_prob": prob, "delta": delta}
    for target in (1.0, 8.0):
        noise = calibrate_noise(events, target_epsilon=target, delta=delta)
        found |= {f"noise_multiplier_at_{target:g}": noise, f"epsilon_at_{target:g}": compute_epsilon(events(noise), delta=delta)}
    return found


def plan_training(model: str, measured: dict[str, Any], *, max_records: int) -> dict[str, Any]:
    """Hours by GPUs: the layers' products at an assumed share of the peak, then what only rank 0 does, as measured here."""
    shape = KNOWN_MODELS[model]
    tokens = ASSUMED["num_steps"] * ASSUMED["expected_batch_size"] * max_records * ASSUMED["tokens_a_record"]
    # Forward, and the gradients of inputs; a frozen weight has none of its own.
    flops = count_training_flops(shape, num_tokens=tokens, adapted_frac=1.0, recompute=False)
    secs = flops / (GPU["flops_a_sec"] * ASSUMED["share_of_flops_in_training"])
    hours: dict[str, Any] = {}
    for ranks in NUM_GPUS:
        step = measured["reducers"][f"{model}/{ranks}"]
        alone = step["noise_secs"] + step["adam_secs"] + step["add_secs"] + step["wire_bytes"] / GPU["network_bytes_a_sec"] + measured["draw_secs"]
        hours[str(ranks)] = {"products": secs / ranks / 3600, "rank_0_alone": ASSUMED["num_steps"] * alone / 3600}
    return {"num_weights": shape.num_weights, "tokens": tokens, "flops": flops, "hours": hours}


def plan_generation(model: str) -> dict[str, Any]:
    """Hours by GPUs: a step reads all weights once for the texts that are written at once, or multiplies, whichever is longer."""
    shape = KNOWN_MODELS[model]
    at_once = ASSUMED["texts_at_once"]
    read = shape.num_weights * _BF16_BYTES / GPU["memory_bytes_a_sec"]
    multiply = 2 * shape.num_weights * at_once / GPU["flops_a_sec"]
    tokens = ASSUMED["num_generated"] * (ASSUMED["new_tokens_a_text"] + ASSUMED["prompt_tokens_of_its_own"])
    secs = tokens / at_once * max(read, multiply) / ASSUMED["share_of_memory_in_generation"]
    return {"tokens": tokens, "secs_a_step": max(read, multiply), "hours": {str(ranks): secs / ranks / 3600 for ranks in NUM_GPUS}}


def plan_ingest() -> dict[str, Any]:
    """Hours by workers of two cores, as fast as ingest was here on two million reviews; empty where that was not measured."""
    file = RESULTS / "ingest.json"
    if not file.is_file():
        return {}
    speed = median(one["large"]["rows_a_sec"] for one in read_json(file)["rounds"])
    reviews = DATA["num_reviews"]
    return {
        "rows_per_sec": speed,
        "gigabytes": reviews * ASSUMED["bytes_a_review"] / 1e9,
        "hours": {str(ranks): reviews / speed / ranks / 3600 for ranks in NUM_GPUS},
    }


def time_embedding(num_texts: int) -> float:
    """Seconds a text that the metrics embed."""
    from penname.model.embedding import load_embedder

    embedder = load_embedder(load_config().evaluate.embedding_model)
    texts = [f"{i} " + "the case fits well and came in time " * 9 for i in range(num_texts)]
    embedder.embed(texts[:4])
    began = time.perf_counter()
    embedder.embed(texts)
    return (time.perf_counter() - began) / num_texts


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def measure(*, quick: bool, seed: int) -> dict[str, Any]:
    """Everything; the sampler first, while the process is small."""
    sampler = simulate_sampler(num_units=10**7 if quick else 10**9, expected=ASSUMED["expected_batch_size"], num_steps=2 if quick else 3, seed=seed)
    config = load_config()
    adapters = {model: KNOWN_MODELS[model].count_params(ModelConfig(top_layers=None)) for model in MODELS}
    # What is only done once, such as importing the optimizer, is no part of a step.
    simulate_reducer(num_params=1000, num_ranks=1, seed=seed)
    reducers = {f"{model}/{ranks}": simulate_reducer(num_params=adapters[model], num_ranks=ranks, seed=seed) for model in MODELS for ranks in NUM_GPUS}
    # A draw takes time in proportion to the units.
    draw_secs = median(sampler["secs"]) / sampler["num_units"] * ASSUMED["train_frac"] * DATA["num_users"]
    measured = {"sampler": sampler, "reducers": reducers, "draw_secs": draw_secs}
    return {
        **measured,
        "index": time_index(num_records=20_000 if quick else 400_000),
        "embedding_secs_a_text": time_embedding(16 if quick else 256),
        "privacy": calibrate(config),
        "ingest": plan_ingest(),
        "training": {model: plan_training(model, measured, max_records=config.records.max_records_per_user) for model in MODELS},
        "generation": {model: plan_generation(model) for model in MODELS},
    }


def write_tables(result: dict[str, Any]) -> None:
    """Into docs/scale.md."""
    sampler, index = result["sampler"], result["index"]
    lines = ["| what | figure |", "| --- | --- |"]
    lines += [
        f"| one Poisson draw over {sampler['num_units']:,} units, seconds (median of {len(sampler['secs'])}) | {median(sampler['secs']):.1f} |",
        f"| drawn, where {sampler['expected']:,} are expected | {', '.join(f'{num:,}' for num in sampler['drawn'])} |",
        f"| all of these from what is expected, in standard deviations | {sampler['z_score']:+.2f} |",
        f"| peak resident memory of it, GB | {sampler['peak_rss_gb']:.2f} |",
        f"| index of the training units, microseconds a record; bytes that stay | {1e6 * index['secs_a_record']:.1f}; {index['bytes_a_record']:.0f} |",
        f"| embedding of a review, milliseconds | {1000 * result['embedding_secs_a_text']:.1f} |",
    ]
    for name, step in result["reducers"].items():
        model, _, ranks = name.partition("/")
        secs = f"{step['add_secs']:.2f} + {step['noise_secs']:.2f} + {step['adam_secs']:.2f}"
        lines.append(f"| {model}, P = {step['num_params']:,}, {ranks} rank{'s' * (ranks != '1')}: adding sums + noise + Adam, seconds a step | {secs} |")
    replace_between_markers(
        DOCUMENT, "scale:measured", [*lines, "", f"Commit {result['commit'][:10]}, {result['cpu']['processor']}, two threads, seed {result['seed']}."]
    )
    replace_between_markers(DOCUMENT, "scale:paper", _paper_table(result))


def _paper_table(result: dict[str, Any]) -> list[str]:
    ingest = result["ingest"]
    lines = [f"| hours on | {' | '.join(f'{ranks} GPU' + 's' * (ranks > 1) for ranks in NUM_GPUS)} |", "| --- " * (len(NUM_GPUS) + 1) + "|"]
    if ingest:
        lines.append(f"| ingest, {ingest['gigabytes']:,.0f} GB at {ingest['rows_per_sec']:,.0f} rows/s for two cores a GPU | {_hours(ingest['hours'])} |")
    for model, plan in result["training"].items():
        cells = " | ".join(f"{hour['products']:.2f} + {hour['rank_0_alone']:.2f}" for hour in plan["hours"].values())
        lines.append(f"| training {model}, {plan['tokens'] / 1e9:.2f} G tokens: products + what rank 0 does alone | {cells} |")
    for model, plan in result["generation"].items():
        lines.append(f"| writing {ASSUMED['num_generated']:,} reviews with {model} | {_hours(plan['hours'])} |")
    privacy = result["privacy"]
    return [
        *lines,
        "",
        f"With {privacy['num_units']:,.0f} users in train, {ASSUMED['expected_batch_size']:,} a step and {ASSUMED['num_steps']:,} steps, epsilon 8 at "
        f"delta {privacy['delta']:.1e} needs a noise multiplier of {privacy['noise_multiplier_at_8']:.2f}, "
        f"epsilon 1 of {privacy['noise_multiplier_at_1']:.2f}.",
    ]


def _hours(hours: dict[str, float]) -> str:
    return " | ".join(f"{hour:,.2f}" for hour in hours.values())


def main() -> None:
    """Measures, writes, prints one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="ten million units, and no result file")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    result = {
        "script": "benchmarks/scale.py",
        **environment(PACKAGES),
        "cpu": describe_machine(),
        "seed": args.seed,
        "assumed": ASSUMED,
        "gpu": GPU,
        "data": DATA,
    }
    result |= measure(quick=args.quick, seed=args.seed)
    if not args.quick:
        write_json(RESULT_FILE, result)
        write_tables(result)
    sampler = result["sampler"]
    print(
        json.dumps(
            {
                "draw_secs_per_billion_units": median(sampler["secs"]) * 1e9 / sampler["num_units"],
                "sampler_z_score": sampler["z_score"],
                "sampler_peak_rss_gb": sampler["peak_rss_gb"],
            }
        )
    )


if __name__ == "__main__":
    main()
