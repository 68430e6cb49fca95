"""Which sampling makes the best records? Tried with a model that was trained privately on the fictional marketplace, which nobody's data went into.

The model is that of `tuning.py`'s base line: epsilon 8, one hour, as many units as the clothing reviews have. Every variant writes to the same prompts,
which have the ratings and categories of reviews that were not trained on, and is compared with other reviews that were not. Each changes one setting.

  python benchmarks/generation_tuning.py [--quick] [--seed S] [--only PART ...] [--max-minutes M]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from resumable import WORK_IS_LEFT, Task, add_arguments, describe_machine, do_tasks, hash_files, read_kept, replace_between_markers, write_atomically
from sample_data_variety import environment
from tuning import BASE, CONFIG, NUM_HELDOUT, ROOT, Trial, read_reviews
from tuning import NUM_RECORDS as NUM_TRAINED

from penname.config import GenerateConfig, load_config
from penname.generate.conditioning import Condition
from penname.schemas import SyntheticRecord

RESULT_FILE = ROOT / "benchmarks" / "results" / "generation_tuning.json"
PARTIAL_FILE = ROOT / "runs" / "benchmarks" / "generation_tuning.json"
MODEL_FOLDER = ROOT / "runs" / "benchmarks" / "generation_tuning_model"
DOCUMENT = ROOT / "docs" / "log.md"
PACKAGES = ("penname", "torch", "transformers", "peft", "numpy", "scikit-learn")
NUM_RECORDS = 500
METRICS = {
    "frechet_distance": "Fréchet",
    "mauve_score": "MAUVE",
    "jensen_shannon_divergence": "word JSD",
    "words_per_review_wasserstein_distance": "words, off by",
    "distinct_2_frac": "distinct pairs",
    "self_bleu": "self-BLEU",
    "well_formed_frac": "well-formed",
    "tstr_accuracy_score": "TSTR",
    "feature_importance_jaccard_score_20": "Jaccard 20",
}
REAL = "real"
"""Reviews in place of synthetic ones: how far they are from others like them."""


def list_variants() -> dict[str, dict[str, Any]]:
    """Settings of `generate` by name, part/piece."""
    return {
        "base/all": {},
        **{f"temperature/{value:g}": {"temperature": value} for value in (0.6, 0.7, 0.9, 1.0)},
        **{f"top_p/{value:g}": {"top_p": value} for value in (0.8, 0.95, 1.0)},
        **{f"min_p/{value:g}": {"min_p": value, "top_p": 1.0, "temperature": 1.0} for value in (0.02, 0.05, 0.1)},
        "faults/none": {"redraw_faults": []},
        "faults/with_abrupt_ending": {"redraw_faults": ["repetition", "non_text", "cut", "abrupt_ending"]},
    }


class Bench:
    """One trained model, and what each sampling makes it write."""

    def __init__(self, *, seed: int, quick: bool) -> None:
        self.seed, self.quick = seed, quick
        self.config = load_config(CONFIG)
        self.num_records = 40 if quick else NUM_RECORDS

    @cache  # noqa: B019
    def adapter(self) -> Path:
        """Of the trained model; trained in the first process that asks."""
        from penname.model.adapter import save_adapter

        folder = Path(tempfile.mkdtemp()) if self.quick else MODEL_FOLDER
        target = folder / f"seed_{self.seed}_{hash_code()[:16]}"
        if not target.exists():
            adapted, figures = Trial(BASE, seed=self.seed, quick=self.quick).learn()
            print(json.dumps(figures), file=sys.stderr)
            save_adapter(adapted, target, base_model_name=self.config.model.name)
        return target

    @cache  # noqa: B019
    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """Reviews that the model was neither trained nor measured on, for each real set; neighbours were written one after the other, so they are dealt out."""
        reviews = read_reviews(self.seed)[NUM_HELDOUT + NUM_TRAINED :]
        names = ("train", "heldout", "test", REAL)
        return {name: reviews[place :: len(names)][: self.num_records] for place, name in enumerate(names)}

    def conditions(self) -> list[Condition]:
        """The same for all."""
        return [Condition(f"synthetic-{i:06d}", int(row["rating"]), row["category"], "") for i, row in enumerate(self.rows()["train"])]

    @cache  # noqa: B019
    def model(self) -> tuple[Any, Any, Any]:
        """The decoder, the tokenizer and the template."""
        from penname.generate.engines import open_decoder
        from penname.generate.synthesize import RecordWriter
        from penname.model.adapter import merge_adapter
        from penname.model.base import load_base_model
        from penname.template import RecordTemplate

        adapter = self.adapter()
        base, tokenizer = load_base_model(self.config.model)
        template = RecordTemplate.from_config(self.config.records, has_products=False)
        generate = self._generate({})
        writer = RecordWriter(tokenizer, template, generate, "with_dp")
        prompts = [writer.encode(condition) for condition in self.conditions()]
        decoder = open_decoder(generate, merge_adapter(base, adapter), tokenizer, writer.rules, prompts=prompts, scratch=adapter.parent)
        return decoder, tokenizer, template

    def _generate(self, changed: Mapping[str, Any]) -> GenerateConfig:
        own = {"seed": self.seed, **({"max_new_tokens": 24, "max_draws_per_record": 40} if self.quick else {})}
        return GenerateConfig.model_validate({**self.config.generate.model_dump(), **own, **changed})

    def write(self, changed: Mapping[str, Any]) -> dict[str, Any]:
        """Writes under these settings; the figures of what was written."""
        from penname.evaluate.samples import Row
        from penname.generate.synthesize import RecordWriter

        decoder, tokenizer, template = self.model()
        writer = RecordWriter(tokenizer, template, self._generate(changed), "with_dp")
        decoder.rules = writer.rules
        rows: dict[str, SyntheticRecord] = {}
        conditions, began = self.conditions(), time.perf_counter()
        prompts = [writer.encode(condition) for condition in conditions]
        failed = writer.write(decoder, conditions, prompts, range(len(conditions)), lambda row: rows.__setitem__(row.record_id, row))
        secs = time.perf_counter() - began
        written = [Row(row.rating, row.title, row.text, row.category, finish_reason=row.finish_reason) for row in rows.values()]
        counts = {"num_records": len(rows), "num_failed": len(failed), "num_draws": sum(row.num_draws for row in rows.values()), "secs": round(secs, 1)}
        return {**counts, **self._measure(written)}

    def measure_real(self) -> dict[str, Any]:
        """What other reviews get in the same comparison."""
        return {"num_records": self.num_records, **self._measure(self._as_rows(REAL))}

    def _as_rows(self, name: str) -> list[Any]:
        from penname.evaluate.samples import Row

        return [Row(row["rating"], row["title"].strip(), row["text"].strip(), row["category"]) for row in self.rows()[name]]

    def _measure(self, written: list[Any]) -> dict[str, float]:
        from penname.config import EvaluateConfig
        from penname.evaluate.computation import compute_metrics
        from penname.evaluate.evaluate import build_samples
        from penname.evaluate.registry import select_metrics

        config = EvaluateConfig(max_records=self.num_records, seed=self.seed)
        sets = {name: self._as_rows(name) for name in ("train", "heldout", "test")}
        samples = build_samples(**sets, synthetic={"with_dp": written}, config=config)
        found = compute_metrics(samples, select_metrics(list(METRICS)))
        return {row["name"]: round(float(row["value"]), 4) for row in found if row["arm"] == "with_dp"}


def list_tasks(bench: Bench) -> dict[str, Task]:
    """Every variant, and real reviews in their place."""
    variants = {"base/all": {}} if bench.quick else list_variants()
    return {"real/all": bench.measure_real, **{name: partial(bench.write, changed) for name, changed in variants.items()}}


def format_table(results: Mapping[str, Any]) -> Iterator[str]:
    """A row a variant, as far as they are measured."""
    yield f"| changed | {' | '.join(METRICS.values())} | draws a record | failed |"
    yield f"| --- |{' --- |' * (len(METRICS) + 2)}"
    for name, entry in results.items():
        row = entry["result"]
        cells = [f"{row[metric]:.3f}" if metric in row else "" for metric in METRICS]
        draws = f"{row['num_draws'] / row['num_records']:.2f}" if row.get("num_draws") else ""
        yield f"| {name} | {' | '.join(cells)} | {draws} | {row.get('num_failed', '')} |"


def hash_code() -> str:
    """Of what the figures depend on: how the model is trained, how it writes, and these benchmarks."""
    folders = [ROOT / "src" / "penname" / room for room in ("train", "generate")]
    here = Path(__file__).parent
    return hash_files([Path(__file__), here / "tuning.py", ROOT / "src" / "penname" / "text_form.py", *(f for folder in folders for f in folder.glob("*.py"))])


def main() -> int:
    """Tries what is not tried yet, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few records of a hardly trained model, no result file")
    parser.add_argument("--seed", type=int, default=1)
    add_arguments(parser, parts="real, " + ", ".join(dict.fromkeys(name.partition("/")[0] for name in list_variants())))
    args = parser.parse_args()
    bench = Bench(seed=args.seed, quick=args.quick)
    identity = {"code": hash_code(), "seed": args.seed}
    results = {} if args.quick else read_kept(PARTIAL_FILE, identity)

    def keep() -> None:
        if not args.quick:
            write_atomically(PARTIAL_FILE, json.dumps({"identity": identity, "results": results}))

    tasks = list_tasks(bench)
    left = do_tasks(tasks, results, only=args.only, max_minutes=args.max_minutes, keep=keep)
    found = {name: results[name] for name in tasks if name in results}
    if not args.quick and found:
        head = {"script": "benchmarks/generation_tuning.py", "seed": args.seed, **environment(PACKAGES), **describe_machine()}
        write_atomically(RESULT_FILE, json.dumps({**head, "results": found}, indent=1) + "\n")
        replace_between_markers(DOCUMENT, "generation_tuning:table", list(format_table(found)))
    print(json.dumps({name: entry["result"].get("frechet_distance") for name, entry in found.items()}))
    return WORK_IS_LEFT if left else 0


if __name__ == "__main__":
    sys.exit(main())
