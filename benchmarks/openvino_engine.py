"""Is `generate.engine: openvino` worth its package? The two engines of penname that write on a processor, and the matrix products alone.

SmolLM2-135M with LoRA of rank 8 merged, prompts of the demo's template, the lengths of real reviews imposed on both alike (see generation.py). In a turn
ours writes, then OpenVINO, then the products of our step are timed, all in one process; a ratio is the median over turns of the ratio within a turn.
The seconds of opening are those of one arm: OpenVINO's model is converted then. Writes results/openvino_engine.json and a table of
docs/generation-engines.md.

  python benchmarks/openvino_engine.py [--quick] [--seed S] [--real FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from generation_engines import compare_texts
from generation_tables import PAGE, spread
from generation_ways import TEMPERATURE, TOP_P, FixedLengths, Ours, Work, make_work, score_texts, time_products, write_with
from resumable import describe_machine, replace_between_markers, write_atomically
from sample_data_variety import REAL_FILE, environment

from penname.config import ModelConfig
from penname.generate.decode import Rules
from penname.generate.nucleus import Sampling
from penname.generate.openvino_decoder import OpenvinoDecoder
from penname.generate.slots import ROWS
from penname.model.adapter import attach_adapter, merge_adapter, save_adapter
from penname.model.base import load_base_model

RESULT_FILE = Path(__file__).parent / "results" / "openvino_engine.json"
PACKAGES = ("penname", "torch", "transformers", "openvino", "openvino-genai", "peft", "numpy")
TURNS = 3
NUM_TEXTS, LIMIT = 256, 224
_SAME_TEXTS, _SAME_LIMIT, _ALONE = 32, 48, 8


class FixedOpenvinoDecoder(FixedLengths, OpenvinoDecoder):
    """OpenVINO's, with the length of every text imposed."""

    def write(self, work: Work, *, seeds: Sequence[int] | None = None) -> list[list[int]]:
        """See `write_with`."""
        return write_with(self, work, seeds=seeds)


def open_both(work: Work, tokenizer: Any, *, seed: int) -> tuple[Any, Ours, FixedOpenvinoDecoder, dict[str, float]]:
    """The merged model, both engines, and the seconds that each took to open."""
    config = ModelConfig()
    with tempfile.TemporaryDirectory() as folder:
        adapted = attach_adapter(load_base_model(config)[0], config, seed=seed)
        save_adapter(adapted, Path(folder) / "adapter", base_model_name=config.name)
        merged, for_ours, for_openvino = (merge_adapter(load_base_model(config)[0], Path(folder) / "adapter") for _ in range(3))
    began = time.perf_counter()
    ours = Ours(for_ours, tokenizer, work)
    secs = {"ours": time.perf_counter() - began}
    rules = Rules(Sampling(TEMPERATURE, TOP_P, work.limit), tokenizer.eos_token_id, tuple(tokenizer.all_special_ids))
    longest = max(map(len, work.prompts)) + work.limit
    with tempfile.TemporaryDirectory() as scratch:
        began = time.perf_counter()
        theirs = FixedOpenvinoDecoder.open(for_openvino, rules, num_slots=ROWS, longest=longest, scratch=Path(scratch))
        secs["openvino"] = time.perf_counter() - began
    return merged, ours, theirs, {name: round(value, 1) for name, value in secs.items()}


def take_turn(merged: Any, ours: Ours, theirs: FixedOpenvinoDecoder, work: Work) -> dict[str, float]:
    """Tokens a second of both, and of the products alone."""
    tokens, speeds = sum(work.lengths), dict[str, float]()
    for name, engine in (("ours", ours), ("openvino", theirs)):
        began = time.perf_counter()
        engine.write(work)
        speeds[name] = tokens / (time.perf_counter() - began)
    return speeds | {name: tokens / secs for name, secs in time_products(merged, ours.model, work).items()}


def compare(engine: Any, model: Any, work: Work) -> dict[str, float]:
    """How often a text is the same when what is beside it changes, and how likely the model finds the texts."""
    work = work.first(min(_SAME_TEXTS, len(work.prompts)), limit=_SAME_LIMIT)
    seeds = [1000 + i for i in range(len(work.prompts))]
    turned = Work(work.prompts[::-1], work.lengths[::-1], work.limit, work.length_source)
    together, again, other = (engine.write(work, seeds=seeds), engine.write(work, seeds=seeds), engine.write(turned, seeds=seeds[::-1])[::-1])
    alone = [engine.write(Work([work.prompts[i]], [work.lengths[i]], work.limit, work.length_source), seeds=[seeds[i]])[0] for i in range(_ALONE)]
    return {**compare_texts(together, again, other, alone), "mean_token_log_prob": round(score_texts(model, work, together), 3)}


def format_table(whole: dict[str, Any]) -> list[str]:
    """Of docs/generation-engines.md."""
    lines = [
        "| engine | tokens/s | share of the products alone, weights as they are | seconds to open | same again | in another order | alone | log-probability |"
    ]
    lines.append("| --- " * 8 + "|")
    for name in ("ours", "openvino"):
        speed, same = whole["tokens_per_sec"][name], whole["same_texts"][name]
        texts = " | ".join(f"{same[f'same_{case}_frac']:.0%}" for case in ("again", "other_order", "alone"))
        figures = f"{speed['median']:.0f} ({speed['least']:.0f}–{speed['most']:.0f}) | {whole['fraction_of_plain_roofline'][name]:.2f}"
        lines.append(f"| {name} | {figures} | {whole['open_secs'][name]:.1f} | {texts} | {same['mean_token_log_prob']:.2f} |")
    ratio = whole["openvino_over_ours"]
    lines += ["", f"OpenVINO over ours: {ratio['median']:.2f} ({ratio['least']:.2f}–{ratio['most']:.2f}), {ratio['num']} turns of {whole['num_texts']} texts."]
    return [*lines, "", f"`benchmarks/results/openvino_engine.json`, commit {whole['commit'][:12]}, {whole['processor']}, {whole['torch_threads']} threads."]


def main() -> int:
    """Measures, writes result and table, prints the ratios as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few short texts, one turn, no result file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", type=Path, default=REAL_FILE)
    args = parser.parse_args()
    from transformers import AutoTokenizer

    from penname.model.base import find_base_model

    tokenizer = AutoTokenizer.from_pretrained(find_base_model(ModelConfig().name), trust_remote_code=False)
    num_texts, limit = (32, 32) if args.quick else (NUM_TEXTS, LIMIT)
    work = make_work(tokenizer, num_texts=num_texts, limit=limit, seed=args.seed, real_file=args.real)
    merged, ours, theirs, open_secs = open_both(work, tokenizer, seed=args.seed)
    for engine in (ours, theirs):
        engine.write(work.first(4, limit=4))
    turns = [take_turn(merged, ours, theirs, work) for _ in range(1 if args.quick else TURNS)]
    ratios = {
        "openvino_over_ours": spread([turn["openvino"] / turn["ours"] for turn in turns]),
        **{
            f"fraction_of_{kind}roofline": {name: round(median(turn[name] / turn[products] for turn in turns), 3) for name in ("ours", "openvino")}
            for kind, products in (("plain_", "plain"), ("", "packed"))
        },
    }
    if not args.quick:
        same = {name: compare(engine, merged, work) for name, engine in (("ours", ours), ("openvino", theirs))}
        speeds = {name: spread([turn[name] for turn in turns]) for name in turns[0]}
        about = {"script": "benchmarks/openvino_engine.py", **environment(PACKAGES), **describe_machine(), "seed": args.seed, "num_texts": num_texts}
        whole = {**about, "length_source": work.length_source, "open_secs": open_secs, "tokens_per_sec": speeds, **ratios, "same_texts": same, "turns": turns}
        write_atomically(RESULT_FILE, json.dumps(whole, indent=2) + "\n")
        replace_between_markers(PAGE, "generation:openvino", format_table(whole))
    print(json.dumps(ratios))
    return 0


if __name__ == "__main__":
    sys.exit(main())
