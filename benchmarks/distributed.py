"""How much faster two Ray workers on this machine write texts than one, each with one thread; in turns, in one cluster.

Only the writing is timed: from the first shard that a worker begins to the last that one ends. Each worker has loaded the model by then, and both
write the same texts, which is checked. Needs penname[ray].
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from resumable import describe_machine, write_atomically
from sample_data_variety import environment

RESULT_FILE = Path(__file__).parent / "results/distributed.json"
CATEGORIES = ("Cases", "Chargers", "Cables", "Headphones")
SHARD_TEXTS = 64


def make_conditions(num_texts: int) -> list[Any]:
    """Prompts of some variety."""
    from penname.generate.conditioning import Condition

    return [
        Condition(f"g{i:06d}", 1 + i % 5, CATEGORIES[i % 4], f"{CATEGORIES[i % 4][:-1]} number {i % 37}, {'with a long name, ' * (i % 3)}black")
        for i in range(num_texts)
    ]


def make_task(num_texts: int, *, max_new_tokens: int) -> Any:
    """What a worker needs: the default model with an adapter that was never trained."""
    from penname.config import Config
    from penname.generate.workers import ArmTask
    from penname.model.adapter import attach_adapter, save_adapter
    from penname.model.base import load_base_model
    from penname.template import RecordTemplate

    config = Config.model_validate({"generate": {"max_new_tokens": max_new_tokens, "batch_size": SHARD_TEXTS}})
    with tempfile.TemporaryDirectory() as folder:
        model, _ = load_base_model(config.model)
        save_adapter(attach_adapter(model, config.model, seed=1), Path(folder) / "adapter", base_model_name=config.model.name)
        template = RecordTemplate.from_config(config.records, has_products=True)
        return ArmTask.gather(config, "no_dp", template, Path(folder) / "adapter", make_conditions(num_texts))


def write_texts(state: Any, places: list[int]) -> dict[str, Any]:
    """A shard's texts as tokens, whether they parse or not, and when the worker began and ended."""
    from penname.generate.decode import Request, find_prefix

    token_ids: dict[int, list[int]] = {}
    requests = [Request((1, place, 1), state.prompts[place]) for place in places]

    def take(request: Any, text: Any) -> None:
        token_ids[request.key[1]] = text.token_ids

    began = time.time()
    state.decoder.decode(requests, take, prefix=find_prefix(state.prompts))
    return {"began": began, "ended": time.time(), "token_ids": token_ids}


def measure(task: Any, num_workers: int) -> tuple[float, dict[int, list[int]]]:
    """New tokens a second of so many workers, and the texts."""
    from penname.distributed.ray_shards import RayEngine
    from penname.generate.workers import open_writer

    places = range(len(task.conditions))
    shards = [list(places[start : start + SHARD_TEXTS]) for start in places[::SHARD_TEXTS]]
    engine = RayEngine(num_workers=num_workers, threads_per_worker=1)
    results = [result for _, result in engine.map_shards(write_texts, shards, prepare=partial(open_writer, task))]
    texts = {place: ids for result in results for place, ids in result["token_ids"].items()}
    secs = max(result["ended"] for result in results) - min(result["began"] for result in results)
    return sum(map(len, texts.values())) / secs, texts


def main() -> None:
    """Measures, writes the result file, prints the ratio as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="half of the texts, shorter, half of the turns, and no result file")
    args = parser.parse_args()
    num_texts, num_turns = (2 * SHARD_TEXTS, 2) if args.quick else (4 * SHARD_TEXTS, 4)
    from penname.distributed.ray_cluster import open_cluster

    task = make_task(num_texts, max_new_tokens=48 if args.quick else 64)
    turns: list[dict[str, float]] = []
    with open_cluster(address=None, num_workers=2, threads_per_worker=1):
        for turn in range(num_turns):
            # Who is first changes with the turn: a machine that warms up or slows down favours nobody.
            found = {num: measure(task, num) for num in ((1, 2) if turn % 2 == 0 else (2, 1))}
            if found[1][1] != found[2][1]:
                raise RuntimeError("two workers did not write the texts that one wrote")
            turns.append({"one_tokens_per_sec": found[1][0], "two_tokens_per_sec": found[2][0], "two_over_one": found[2][0] / found[1][0]})
            print(json.dumps(turns[-1]), flush=True)
    ratios = {"ray_two_over_one": round(statistics.median(turn["two_over_one"] for turn in turns), 3)}
    if not args.quick:
        known = environment(("torch", "transformers", "ray"))
        known["machine"] |= describe_machine()
        result = {"script": "benchmarks/distributed.py", **known, "num_texts": num_texts, "seed": 1, "turns": turns, "ratios": ratios}
        write_atomically(RESULT_FILE, json.dumps(result, indent=2) + "\n")
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
