"""How fast are texts written? Ours, `generate` of transformers as the original used it and at its best, other engines, and the matrix products alone.

SmolLM2-135M, prompts of the demo's template with products of the fictional marketplace, and the lengths of real reviews imposed on every engine alike: an
untrained model rambles to the limit. Text i ends after the tokens that review i of the clothing reviews has as a completion (cut at the limit); where
the file is missing, after lengths of a log-normal law. A figure is new tokens of finished texts a second. In a turn ours and one other write, one right
after the other; a ratio is the median over turns of the ratio within a turn. Turns are kept in runs/benchmarks/generation.json until the code changes.

roofline    ours, and the frozen linear layers and the head alone, in tensors of our shape, for every token that must be computed: texts, prompts, beginning
original    base in bfloat16, LoRA r=8 not merged, batches of 100 in the order of the records, padded, top_k 50, waiting for the longest
generate    the same call with the adapter merged, nucleus sampling, prompts and lengths sorted so that it waits least; at three batch sizes
engines     other programs in environments of their own (peers/make_environments.py generation), two threads, at the same lengths and sampling
same_texts  whether an engine writes the same text again, in another order, and alone; and how likely our model finds its texts

  python benchmarks/generation.py [--quick] [--seed S] [--real FILE] [--only PART ...] [--max-minutes M]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from functools import cache, partial
from pathlib import Path
from typing import Any

from generation_engines import CASES, NOT_RUN, Engine, compare_texts, has_environment
from generation_tables import draw_figure, summarize, write_table
from generation_ways import TOP_P, Ours, Work, generate_in_batches, make_work, score_texts, time_products
from resumable import WORK_IS_LEFT, Task, add_arguments, describe_machine, do_tasks, hash_files, read_kept, write_atomically
from sample_data_variety import REAL_FILE, environment

ROOT = Path(__file__).resolve().parents[1]
RESULT_FILE = ROOT / "benchmarks" / "results" / "generation.json"
PARTIAL_FILE = ROOT / "runs" / "benchmarks" / "generation.json"
MODEL_FOLDER = ROOT / "runs" / "benchmarks" / "generation_models"
PACKAGES = ("penname", "torch", "transformers", "peft", "numpy")
ORIGINAL_BATCH = 100
BATCH_SIZES = (32, 100, 200)
TURNS = 3
# Ours in a turn with another, and engines that need not wait; whole batches of 100 for those that do.
PAIR_TEXTS, WAITING_TEXTS = 256, 200
# Those that load within a minute.
QUICK_ENGINES = ("transformers_continuous", "ctranslate2", "llama_cpp")
_SEED_OF_TEXTS = 1000


class Bench:
    """What is built at most once a process, and only when a task needs it."""

    def __init__(self, *, seed: int, real_file: Path, quick: bool) -> None:
        self.seed, self.real_file, self.quick = seed, real_file, quick
        self.num_texts, self.limit = (64, 48) if quick else (512, 224)
        self.pair_texts, self.waiting_texts = (32, 32) if quick else (PAIR_TEXTS, WAITING_TEXTS)
        self._engine: tuple[str, Engine | RuntimeError] | None = None

    @cache  # noqa: B019
    def models(self) -> tuple[Any, Any, Ours, Path]:
        """With the adapter beside it, merged, merged and ours, and merged on the disk for the others."""
        from penname.config import ModelConfig
        from penname.model.adapter import attach_adapter, merge_adapter, save_adapter
        from penname.model.base import load_base_model

        config = ModelConfig()
        with tempfile.TemporaryDirectory() as folder:
            adapted = attach_adapter(load_base_model(config)[0], config, seed=self.seed)
            save_adapter(adapted, Path(folder) / "adapter", base_model_name=config.name)
            merged, ours = (merge_adapter(load_base_model(config)[0], Path(folder) / "adapter") for _ in range(2))
        target = MODEL_FOLDER / f"seed_{self.seed}" / "model"
        if not target.exists():
            unfinished = target.with_name("model.tmp")
            merged.save_pretrained(unfinished)
            self.tokenizer().save_pretrained(unfinished)
            unfinished.rename(target)
        return adapted.eval(), merged, Ours(ours, self.tokenizer(), self.work()), target

    @cache  # noqa: B019
    def tokenizer(self) -> Any:
        """Of the default model."""
        from transformers import AutoTokenizer

        from penname.config import ModelConfig
        from penname.model.base import find_base_model

        return AutoTokenizer.from_pretrained(find_base_model(ModelConfig().name), trust_remote_code=False)

    @cache  # noqa: B019
    def work(self) -> Work:
        """All texts."""
        return make_work(self.tokenizer(), num_texts=self.num_texts, limit=self.limit, seed=self.seed, real_file=self.real_file)

    def time_ours(self, work: Work) -> float:
        """Tokens a second."""
        ours = self.models()[2]
        began = time.perf_counter()
        ours.write(work)
        return sum(work.lengths) / (time.perf_counter() - began)

    def describe_workload(self) -> dict[str, Any]:
        """Of the texts."""
        from penname.generate.decode import find_prefix

        work = self.work()
        lengths = sorted(work.lengths)
        return {
            "num_texts": len(lengths),
            "num_texts_of_a_pair": self.pair_texts,
            "num_texts_of_those_that_wait": self.waiting_texts,
            "limit": work.limit,
            "length_source": work.length_source,
            "lengths": {"mean": round(sum(lengths) / len(lengths), 1), "median": lengths[len(lengths) // 2], "at_the_limit": lengths.count(work.limit)},
            "prompt_tokens": {"shared": len(find_prefix(work.prompts)), "mean": round(sum(map(len, work.prompts)) / len(lengths), 1)},
        }

    def compare_with_products(self) -> dict[str, float]:
        """Ours on all texts, then its matrix products alone, tokens a second."""
        _, merged, ours, _ = self.models()
        speed = self.time_ours(self.work())
        tokens = sum(self.work().lengths)
        return {"ours": speed, **{name: tokens / secs for name, secs in time_products(merged, ours.model, self.work()).items()}}

    def compare_with_generate(self, batch_size: int, *, is_original: bool) -> dict[str, float]:
        """Ours, then `generate` of transformers, tokens a second."""
        adapted, merged, _, _ = self.models()
        work = self.work().first(self.waiting_texts)
        more: dict[str, Any] = {"top_k": 50} if is_original else {"top_p": TOP_P, "top_k": 0}
        ours = self.time_ours(self.work().first(self.pair_texts))
        began = time.perf_counter()
        tokens = generate_in_batches(adapted if is_original else merged, self.tokenizer(), work, batch_size=batch_size, is_sorted=not is_original, **more)
        return {"ours": ours, "theirs": tokens / (time.perf_counter() - began)}

    def engine(self, name: str) -> Engine:
        """The engine, started and warm; the one before it is ended. One that did not start is not tried again."""
        if self._engine is None or self._engine[0] != name:
            self.close()
            try:
                self._engine = name, self._start(name)
            except RuntimeError as error:
                self._engine = name, error
        found = self._engine[1]
        if isinstance(found, RuntimeError):
            raise found
        return found

    def _start(self, name: str) -> Engine:
        import torch

        suppressed = self.tokenizer().all_special_ids
        engine = Engine(CASES[name], model=self.models()[3], work=self.work(), suppressed=suppressed, threads=torch.get_num_threads())
        try:
            engine.write(self.work().first(2, limit=4), seeds=(1, 2))
        except RuntimeError:
            engine.close()
            raise
        return engine

    def compare_with_engine(self, name: str) -> dict[str, Any]:
        """Ours, then the engine, tokens a second."""
        engine = self.engine(name)
        work = self.work().first(self.waiting_texts if CASES[name].waits else self.pair_texts)
        ours = self.time_ours(self.work().first(self.pair_texts))
        _, secs = engine.write(work, seeds=self._seeds(work))
        return {"ours": ours, "theirs": sum(work.lengths) / secs, **engine.facts}

    def compare_texts_of(self, name: str) -> dict[str, float]:
        """How often a text is the same when what is beside it changes; `ours` or an engine."""
        work = self.work().first(8 if self.quick else 32, limit=16 if self.quick else 48)
        seeds = self._seeds(work)
        turned = Work(work.prompts[::-1], work.lengths[::-1], work.limit, work.length_source)
        ours = self.models()[2] if name == "ours" else None

        def write(work: Work, seeds: list[int]) -> list[list[int]]:
            return ours.write(work, seeds=seeds) if ours else self.engine(name).write(work, seeds=seeds)[0]

        together, again, other = write(work, seeds), write(work, seeds), write(turned, seeds[::-1])[::-1]
        few = 2 if self.quick else 8
        alone = [write(Work([work.prompts[i]], [work.lengths[i]], work.limit, work.length_source), [seeds[i]])[0] for i in range(few)]
        return {**compare_texts(together, again, other, alone), "mean_token_log_prob": score_texts(self.models()[1], work, together)}

    def _seeds(self, work: Work) -> list[int]:
        return [_SEED_OF_TEXTS * (1 + self.seed) + i for i in range(len(work.prompts))]

    def close(self) -> None:
        """Ends the engine that is running, if any."""
        if self._engine is not None and isinstance(self._engine[1], Engine):
            self._engine[1].close()
        self._engine = None


def list_tasks(bench: Bench) -> dict[str, Task]:
    """Every piece of work by its name, part/piece, in the order in which it is done; all of an engine's in a row, since it is loaded once."""
    turns = range(1 if bench.quick else TURNS)
    tasks: dict[str, Task] = {"workload/texts": bench.describe_workload}
    tasks |= {f"roofline/{turn}": bench.compare_with_products for turn in turns}
    tasks |= {f"original/{turn}": partial(bench.compare_with_generate, min(ORIGINAL_BATCH, bench.waiting_texts), is_original=True) for turn in turns}
    for size in BATCH_SIZES[:1] if bench.quick else BATCH_SIZES:
        tasks |= {f"generate/{size}_{turn}": partial(bench.compare_with_generate, size, is_original=False) for turn in turns}
    tasks["same_texts/ours"] = partial(bench.compare_texts_of, "ours")
    for name in [name for name in QUICK_ENGINES if has_environment(CASES[name])] if bench.quick else CASES:
        tasks |= {f"engines/{name}_{turn}": partial(bench.compare_with_engine, name) for turn in turns}
        tasks[f"same_texts/{name}"] = partial(bench.compare_texts_of, name)
    return tasks


def hash_code() -> str:
    """Of what the figures depend on: the path that writes texts and this benchmark."""
    folders = [ROOT / "src" / "penname" / room for room in ("generate", "model")]
    here = Path(__file__).parent
    files = [
        *(file for folder in folders for file in folder.rglob("*.py")),
        *here.glob("generation*.py"),
        *here.glob("peers/*_texts.py"),
        here / "peers" / "writing_orders.py",
    ]
    return hash_files(file for file in files if file.name != "generation_tables.py")


def main() -> None:
    """Measures, writes result, figure and table, prints the ratios as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few short texts, once, and of the engines those that are installed and load fast; no result file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", type=Path, default=REAL_FILE)
    add_arguments(parser, parts="roofline, original, generate, engines, same_texts")
    args = parser.parse_args()
    if not args.real.is_file():
        print(f"{args.real}: is missing; made-up lengths are used instead", file=sys.stderr)
    bench = Bench(seed=args.seed, real_file=args.real, quick=args.quick)
    identity = {"code_sha256": hash_code(), "seed": args.seed, "has_real": args.real.is_file()}
    results = {} if args.quick else read_kept(PARTIAL_FILE, identity)

    def keep() -> None:
        if not args.quick:
            write_atomically(PARTIAL_FILE, json.dumps({"identity": identity, "results": results}, indent=1))

    try:
        left = do_tasks(list_tasks(bench), results, only=args.only, max_minutes=args.max_minutes, keep=keep)
    finally:
        bench.close()
    summary = summarize({name: entry["result"] for name, entry in results.items()})
    if left:
        print(f"left to do: {len(left)} tasks, next {left[0]}; run again to go on", file=sys.stderr)
    elif not args.quick and not args.only:
        whole = {"script": "benchmarks/generation.py", **environment(PACKAGES), "cpu": describe_machine(), **identity, **summary, "not_run": NOT_RUN}
        write_atomically(RESULT_FILE, json.dumps({**whole, "tasks": results}, indent=2) + "\n")
        draw_figure(whole)
        write_table(whole)
        shutil.rmtree(MODEL_FOLDER, ignore_errors=True)
    print(json.dumps(summary["ratios"]))
    sys.exit(WORK_IS_LEFT if left else 0)


if __name__ == "__main__":
    main()
