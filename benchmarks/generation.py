"""How fast are texts written? Ours, `generate` of transformers as the original used it and at its best, and the matrix products alone.

SmolLM2-135M, prompts of the demo's template with products of the fictional marketplace, and the lengths of real reviews imposed on every engine alike: an
untrained model rambles to the limit. Text i ends after the tokens that review i of the clothing reviews has as a completion (cut at the limit); where
the file is missing, after lengths of a log-normal law. Every engine runs in this process, in turn, several times; a figure is new tokens of
finished texts a second, the median, with the least and the most.

original    base in bfloat16, LoRA r=8 not merged, batches of 100 in the order of the records, padded, top_k 50, waiting for the longest
generate    the same call with the adapter merged, nucleus sampling, prompts and lengths sorted so that it waits least; its best batch size
ours        what `penname generate` runs
roofline    the frozen linear layers and the head alone, in tensors of our shape, for every token that must be computed: texts, prompts, shared beginning

  python benchmarks/generation.py [--quick] [--seed S] [--real FILE] [--repeats N]
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from sample_data_variety import REAL_FILE, environment
from torch.nn import functional

from penname.config import ModelConfig, RecordsConfig
from penname.generate.decode import Request, Rules, find_prefix
from penname.generate.nucleus import Sampling
from penname.generate.packed_linear import PackedLinear
from penname.generate.slots import ROWS, SlotDecoder
from penname.ingest.sample_data import METADATA_FILE, write_sample_data
from penname.model.adapter import attach_adapter, merge_adapter, save_adapter
from penname.model.base import load_base_model, split_head
from penname.model.tokenize import encode_prompt
from penname.run_dir import write_json
from penname.template import RecordTemplate

ROOT = Path(__file__).resolve().parents[1]
RESULT_FILE = ROOT / "benchmarks" / "results" / "generation.json"
FIGURE_FILE = ROOT / "docs" / "figures" / "generation_speed.png"
PACKAGES = ("penname", "torch", "transformers", "peft", "numpy")
ORIGINAL_BATCH = 100
TEMPERATURE, TOP_P = 0.8, 0.9


@dataclass(frozen=True)
class Work:
    """What every engine writes."""

    prompts: list[tuple[int, ...]]
    lengths: list[int]
    limit: int
    length_source: str

    def first(self, count: int) -> Work:
        """The first `count` texts."""
        return replace(self, prompts=self.prompts[:count], lengths=self.lengths[:count])


def make_work(tokenizer: Any, *, num_texts: int, limit: int, seed: int, real_file: Path) -> Work:
    """Prompts from the marketplace, lengths from the reviews."""
    template, rng = RecordTemplate.from_config(RecordsConfig(), has_products=True), random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        write_sample_data(Path(name), num_reviews=2000, seed=seed)
        products = [json.loads(line) for line in (Path(name) / METADATA_FILE).read_text(encoding="utf-8").splitlines()]
    products = [product for product in products if product["title"] and product["categories"]]
    prompts = []
    for _ in range(num_texts):
        product = rng.choice(products)
        text = template.fill_prompt(rating=rng.randint(1, 5), category=product["categories"][-1], product_title=product["title"])
        prompts.append(tuple(encode_prompt(tokenizer, text)))
    if real_file.is_file():
        with gzip.open(real_file, "rt", encoding="utf-8", newline="") as handle:
            rows = [row for row in csv.DictReader(handle) if row["Review Text"].strip() and row["Title"].strip()]
        texts = [template.fill_completion(title=row["Title"], text=row["Review Text"]) for row in rng.sample(rows, num_texts)]
        lengths, source = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts], "completions of the clothing reviews"
    else:
        lengths, source = [round(rng.lognormvariate(4.3, 0.6)) for _ in range(num_texts)], "log-normal law: the clothing reviews are not here"
    return Work(prompts, [max(4, min(limit, length)) for length in lengths], limit, source)


class FixedLengths(SlotDecoder):
    """Our decoder, with the lengths imposed; the random numbers, and the rest, are ours."""

    lengths: list[int]

    def _finish_reason(self, text: Any, token: int) -> str | None:
        text.token_ids.append(token)
        return "stop" if len(text.token_ids) >= self.lengths[text.request.key[1]] else None


def open_ours(model: Any, tokenizer: Any, work: Work) -> Callable[[Work], int]:
    """Ours: from Work to the number of new tokens."""
    eos_id = tokenizer.eos_token_id
    rules = Rules(Sampling(TEMPERATURE, TOP_P, work.limit), eos_id, tuple(tokenizer.all_special_ids))
    decoder = FixedLengths.open(model, rules, num_slots=ROWS, longest=max(map(len, work.prompts)) + work.limit)
    if decoder is None:
        sys.exit("the model cannot be given slots; nothing to measure")
    decoder.lengths = work.lengths

    def write(work: Work) -> int:
        counts: list[int] = []
        requests = [Request((1, i, 1), prompt) for i, prompt in enumerate(work.prompts)]
        decoder.decode(requests, lambda _, text: counts.append(len(text.token_ids)), prefix=find_prefix(work.prompts))
        return sum(counts)

    return write


def generate_in_batches(model: Any, tokenizer: Any, work: Work, *, batch_size: int, is_sorted: bool, **sampling: Any) -> int:
    """`generate` of transformers: pads, and waits for the longest of each batch."""
    order = list(range(len(work.prompts)))
    if is_sorted:
        order.sort(key=lambda i: (work.lengths[i], len(work.prompts[i])))
    total = 0
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        longest = max(len(work.prompts[i]) for i in batch)
        filling = [longest - len(work.prompts[i]) for i in batch]
        token_ids = torch.tensor([[tokenizer.eos_token_id] * more + list(work.prompts[i]) for i, more in zip(batch, filling, strict=True)])
        mask = torch.tensor([[0] * more + [1] * (longest - more) for more in filling])
        lengths = torch.tensor([work.lengths[i] for i in batch])
        with torch.inference_mode():
            output = model.generate(
                input_ids=token_ids,
                attention_mask=mask,
                do_sample=True,
                temperature=TEMPERATURE,
                max_new_tokens=int(lengths.max()),
                suppress_tokens=list(tokenizer.all_special_ids),
                pad_token_id=tokenizer.eos_token_id,
                **sampling,
            )
        if output.shape[1] - longest != int(lengths.max()):
            raise RuntimeError("generate stopped before the longest text was finished")
        total += int(lengths.sum())
    return total


def time_products(model: Any, packed: Any, work: Work) -> dict[str, float]:
    """Seconds that the matrix products of this work take alone, in our shape, as they are and with packed weights."""
    prefix = len(find_prefix(work.prompts))
    num_texts_rows = sum(work.lengths)
    num_prompt_rows = prefix + sum(len(prompt) - prefix - 1 for prompt in dict.fromkeys(work.prompts))
    _, head = split_head(model)
    plain = [module for module in model.modules() if type(module) is torch.nn.Linear and module is not head]
    quick = [module for module in packed.modules() if isinstance(module, PackedLinear)]
    packed_head = packed.get_output_embeddings()
    inputs = {size: torch.randn(ROWS, size).to(head.weight.dtype) for size in {module.in_features for module in [*plain, head]}}
    sizes = [module.in_features for module in plain]
    times: dict[str, list[float]] = {"plain": [], "packed": []}
    with torch.inference_mode():
        for _ in range(7):
            begin = time.perf_counter()
            for module in plain:
                functional.linear(inputs[module.in_features], module.weight)
            body = time.perf_counter() - begin
            functional.linear(inputs[head.in_features], head.weight)
            whole = time.perf_counter() - begin
            times["plain"].append((body * (num_texts_rows + num_prompt_rows) + (whole - body) * num_texts_rows) / ROWS)
            begin = time.perf_counter()
            for module, size in zip((module for module in quick if module is not packed_head), sizes, strict=True):
                module(inputs[size])
            body = time.perf_counter() - begin
            packed_head(inputs[head.in_features])
            whole = time.perf_counter() - begin
            times["packed"].append((body * (num_texts_rows + num_prompt_rows) + (whole - body) * num_texts_rows) / ROWS)
    return {name: median(values) for name, values in times.items()}


def measure(engines: dict[str, Callable[[], int]], repeats: int) -> dict[str, dict[str, Any]]:
    """New tokens a second of every engine, one after the other, `repeats` times round."""
    speeds: dict[str, list[float]] = {name: [] for name in engines}
    errors: dict[str, str] = {}
    for turn in range(repeats):
        for name, write in engines.items():
            if name in errors:
                continue
            begin = time.perf_counter()
            try:
                tokens = write()
            except (RuntimeError, ValueError, TypeError, AttributeError, ImportError, NotImplementedError) as error:
                errors[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}"
                print(f"{name}: {errors[name]}", file=sys.stderr)
                continue
            speeds[name].append(tokens / (time.perf_counter() - begin))
            print(f"turn {turn + 1}: {name} {speeds[name][-1]:.1f} tokens/s", file=sys.stderr, flush=True)
    return {
        name: {"error": errors[name]}
        if name in errors
        else {"tokens_per_sec": median(values), "least": min(values), "most": max(values), "repeats": len(values)}
        for name, values in speeds.items()
    }


def run(*, num_texts: int, limit: int, repeats: int, seed: int, real_file: Path, quick: bool) -> dict[str, Any]:
    """Loads each model once, measures, compares."""
    model_config = ModelConfig()
    merged, tokenizer = load_base_model(model_config)
    work = make_work(tokenizer, num_texts=num_texts, limit=limit, seed=seed, real_file=real_file)
    with tempfile.TemporaryDirectory() as folder:
        adapted = attach_adapter(merged, model_config, seed=seed)
        save_adapter(adapted, Path(folder) / "adapter", base_model_name=model_config.name)
        merged = merge_adapter(load_base_model(model_config)[0], Path(folder) / "adapter")
        ours = merge_adapter(load_base_model(model_config)[0], Path(folder) / "adapter")
    adapted.eval()
    write = open_ours(ours, tokenizer, work)
    few = work.first(min(len(work.prompts), 2 * ORIGINAL_BATCH if not quick else ORIGINAL_BATCH))
    nucleus = {"top_p": TOP_P, "top_k": 0}
    engines: dict[str, Callable[[], int]] = {
        "ours": lambda: write(work),
        "original": lambda: generate_in_batches(adapted, tokenizer, few, batch_size=ORIGINAL_BATCH, is_sorted=False, top_k=50),
    }
    for size in (ORIGINAL_BATCH,) if quick else (32, ORIGINAL_BATCH, 2 * ORIGINAL_BATCH):
        engines[f"generate, batch {size}"] = lambda size=size: generate_in_batches(merged, tokenizer, few, batch_size=size, is_sorted=True, **nucleus)
    results = measure(engines, repeats)
    secs = time_products(merged, ours, work)
    tokens = sum(work.lengths)
    best = max((name for name in results if name.startswith("generate") and "error" not in results[name]), key=lambda name: results[name]["tokens_per_sec"])
    roofline = {name: tokens / value for name, value in secs.items()}
    speed = results["ours"]["tokens_per_sec"]
    return {
        "seed": seed,
        "num_texts": len(work.prompts),
        "num_texts_of_the_others": len(few.prompts),
        "limit": limit,
        "length_source": work.length_source,
        "lengths": {"mean": round(tokens / len(work.prompts), 1), "median": median(work.lengths), "at_the_limit": sum(n == limit for n in work.lengths)},
        "prompt_tokens": {"shared": len(find_prefix(work.prompts)), "mean": round(sum(map(len, work.prompts)) / len(work.prompts), 1)},
        "engines": {name: {k: round(v, 1) if isinstance(v, float) else v for k, v in row.items()} for name, row in results.items()},
        "roofline_tokens_per_sec": {name: round(value, 1) for name, value in roofline.items()},
        "ratios": {
            "ours_over_original": round(speed / results["original"]["tokens_per_sec"], 2),
            "ours_over_best_generate": round(speed / results[best]["tokens_per_sec"], 2),
            "best_generate": best,
            "fraction_of_roofline": round(speed / roofline["packed"], 3),
            "fraction_of_plain_roofline": round(speed / roofline["plain"], 3),
        },
    }


def draw(result: dict[str, Any], path: Path) -> None:
    """Bars of new tokens a second, with their spread, and the rooflines as lines."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [(name, row) for name, row in result["engines"].items() if "error" not in row]
    figure, axes = pyplot.subplots(figsize=(7, 0.6 * len(rows) + 1.6), layout="constrained")
    values = [row["tokens_per_sec"] for _, row in rows]
    spread = [[row["tokens_per_sec"] - row["least"] for _, row in rows], [row["most"] - row["tokens_per_sec"] for _, row in rows]]
    axes.barh([name for name, _ in rows], values, xerr=spread, color="#4c72b0", capsize=3)
    for (name, value), style in zip(result["roofline_tokens_per_sec"].items(), (":", "--"), strict=True):
        axes.axvline(value, color="black", linestyle=style, label=f"matrix products alone, weights {name}")
    axes.invert_yaxis()
    axes.set_xlabel("new tokens a second (median; line: least to most)")
    axes.legend(fontsize=8, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> None:
    """Measures, writes result and figure, prints the ratios as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer texts, shorter, once round; no result file and no figure")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", type=Path, default=REAL_FILE)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    size = {"num_texts": 128, "limit": 64, "repeats": 1} if args.quick else {"num_texts": 512, "limit": 224, "repeats": args.repeats}
    flags = (
        [flag for flag in ("avx512_bf16", "amx_bf16") if flag in Path("/proc/cpuinfo").read_text(encoding="utf-8")] if Path("/proc/cpuinfo").is_file() else []
    )
    measured = run(**size, seed=args.seed, real_file=args.real, quick=args.quick)
    result = {"script": "benchmarks/generation.py", **environment(PACKAGES), "processor_flags": flags, "threads": torch.get_num_threads(), **measured}
    if not args.quick:
        write_json(RESULT_FILE, result)
        draw(result, FIGURE_FILE)
    print(json.dumps({key: result[key] for key in ("engines", "roofline_tokens_per_sec", "lengths", "prompt_tokens")}, indent=2))
    print(json.dumps(result["ratios"]))


if __name__ == "__main__":
    main()
