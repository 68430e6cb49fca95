"""Which settings make private training learn most, at one epsilon and in one hour? Tried on the fictional marketplace, which nobody's data went into.

Every variant stands for a run on as many units as the clothing reviews have: epsilon 8, delta 1e-5, the hour of `configs/reviews_eps8.yaml`. Its expected
batch is what fits into that hour, by the seconds that a record takes here; its noise multiplier is calibrated to that batch and its steps. What is really
computed is a small part of it: batches of a thirty-second part, with noise that is as large beside the mean gradient as in the whole run. What that leaves out
is how single draws differ, which is little beside the noise of DP-SGD. The figure is nats a completion token on marketplace reviews that were not trained on,
before and after, each variant with the same reviews.

  python benchmarks/tuning.py [--quick] [--seed S] [--only PART ...] [--max-minutes M]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Any

from resumable import WORK_IS_LEFT, Task, add_arguments, describe_machine, do_tasks, hash_files, read_kept, replace_between_markers, write_atomically
from sample_data_variety import environment

from penname.config import Config, load_config

ROOT = Path(__file__).resolve().parents[1]
RESULT_FILE = ROOT / "benchmarks" / "results" / "tuning.json"
PARTIAL_FILE = ROOT / "runs" / "benchmarks" / "tuning.json"
DOCUMENT = ROOT / "docs" / "log.md"
CONFIG = ROOT / "configs" / "reviews_eps8.yaml"
PACKAGES = ("penname", "torch", "transformers", "peft", "dp-accounting")

# The training split of the clothing reviews has about so many; a declared number, no count of anybody.
NUM_UNITS = 13_750
# The rest of the hour is for loading, checks and writing.
TRAINING_SECS = 3_000.0
# Of the promise, what the histogram and the count leave to training.
_TRAINING_FRAC = 0.9
_PART_OF_A_BATCH = 32
NUM_RECORDS, NUM_HELDOUT = 3_000, 250
"""Reviews: the first ones are measured on, those after them are trained on."""
"""Reviews, from the first on: measured on, and trained on after those."""
_NUM_TIMED = 48
# What the data's size does: with the settings of all.
_SIZES = ((NUM_UNITS, 1.0), (NUM_UNITS, 4.0), (300, 8.0), (1_000, 8.0), (300, 4.0), (300, 2.0), (3_000, 1.0), (3_000, 8.0))
_EXAMPLE = (
    "Category: Garden\nRating: 4 out of 5\nTitle: Light and does not kink\n"
    "Review: I like how light it is, and the brass end does not leak. A bit short for our yard, so four stars.\n\n"
)


@dataclass(frozen=True)
class Variant:
    """What differs from the settings that all have."""

    model: Mapping[str, Any] = field(default_factory=dict[str, Any])
    train: Mapping[str, Any] = field(default_factory=dict[str, Any])
    l2_clip_norm: float = 0.1
    with_example: bool = False
    """A made-up review in front of every prompt."""
    epsilon: float = 8.0
    num_units: int = NUM_UNITS

    def change(self, **changed: Any) -> Variant:
        """The same with these settings of `model` and `train`, or fields of its own."""
        own = {name: value for name, value in changed.items() if name in ("l2_clip_norm", "with_example", "epsilon", "num_units")}
        model = {name: value for name, value in changed.items() if name in Config().model.model_dump()}
        train = {name: value for name, value in changed.items() if name in Config().train.model_dump()}
        return replace(self, model={**self.model, **model}, train={**self.train, **train}, **own)


BASE = Variant(model={"top_layers": 10, "lora_rank": 8}, train={"num_steps": 36, "learning_rate": 1e-2, "average_last_frac": 0.25})
"""The settings that one thing at a time is changed of."""


def list_variants() -> dict[str, Variant]:
    """By name, part/piece."""
    return {
        "base/all": BASE,
        **{f"rate/{rate:g}": BASE.change(learning_rate=rate) for rate in (1e-3, 4e-3, 1.6e-2, 3.2e-2)},
        **{f"layers/{number}": BASE.change(top_layers=number) for number in (3, 5, 20, 30)},
        **{f"rank/{rank}": BASE.change(lora_rank=rank, lora_alpha=2.0 * rank) for rank in (2, 4, 16)},
        **{f"steps/{number}": BASE.change(num_steps=number) for number in (12, 18, 72)},
        "schedule/constant": BASE.change(learning_rate_schedule="constant"),
        **{f"average/{share:g}": BASE.change(average_last_frac=share) for share in (0.0, 0.5)},
        **{f"clip/{norm:g}": BASE.change(l2_clip_norm=norm) for norm in (0.01, 1.0)},
        "adapter/b_alone": BASE.change(freeze_lora_a=True),
        "adapter/b_alone_faster": BASE.change(freeze_lora_a=True, learning_rate=2e-2),
        "adapter/attention": BASE.change(target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]),
        "adapter/mlp": BASE.change(target_modules=["gate_proj", "up_proj", "down_proj"]),
        "prompt/with_example": BASE.change(with_example=True),
        **{f"units/{number}_epsilon_{epsilon:g}": BASE.change(num_units=number, epsilon=epsilon) for number, epsilon in _SIZES},
    }


@cache
def read_reviews(seed: int) -> list[dict[str, Any]]:
    """Reviews of the marketplace, those with a title and a text, in the order in which they were written."""
    from penname.ingest.sample_data import METADATA_FILE, REVIEWS_FILE, write_sample_data

    with tempfile.TemporaryDirectory() as folder:
        write_sample_data(Path(folder), num_reviews=6_000, seed=seed)
        products, rows = (
            [json.loads(line) for line in (Path(folder) / name).read_text(encoding="utf-8").splitlines()] for name in (METADATA_FILE, REVIEWS_FILE)
        )
    categories = {product["parent_asin"]: product["categories"][-1] for product in products if product["categories"]}
    whole = [row for row in rows if row["parent_asin"] in categories and row["title"].strip() and len(row["text"].split()) > 5]
    return [{**row, "category": categories[row["parent_asin"]]} for row in whole]


class Trial:
    """One variant, trained."""

    def __init__(self, variant: Variant, *, seed: int, quick: bool) -> None:
        self.variant, self.seed, self.quick = variant, seed, quick
        self.config = _configure(variant, seed)

    def learn(self) -> tuple[Any, dict[str, Any]]:
        """Measures how long a record takes, fits the batch into the hour, trains, and measures what was learned. The trained model, and figures."""
        import torch

        torch.manual_seed(self.seed)
        units, heldout = self._encode()
        adapted, layout, frozen = self._prepare()
        before = self._nats(adapted, layout, heldout)
        times = self._time(adapted, layout, frozen, units[:_NUM_TIMED])
        num_steps = 3 if self.quick else self.config.train.num_steps
        batch = fit_batch(times, num_steps=num_steps, num_units=self.variant.num_units)
        noise_multiplier = self._calibrate(batch, num_steps)
        part = 2 if self.quick else max(8, round(batch / _PART_OF_A_BATCH))
        arm = self._arm(adapted, part / len(units), num_steps=num_steps, noise_multiplier=noise_multiplier * part / batch)
        self._train(adapted, layout, frozen, units, arm, batch=part, learning_rate=self.config.train.learning_rate)
        after = self._nats(adapted, layout, heldout)
        num_weights = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
        return adapted, {
            "nats_before": round(before, 4),
            "nats": round(after, 4),
            "expected_batch_size": batch,
            "num_steps": num_steps,
            "epochs": round(batch * num_steps / self.variant.num_units, 2),
            "noise_multiplier": round(noise_multiplier, 4),
            "num_weights": num_weights,
            "noise_over_clip_norm": round(noise_multiplier * math.sqrt(num_weights / num_steps) / batch, 4),
            **{name: round(value, 4) for name, value in times.items()},
        }

    def _encode(self) -> tuple[list[Any], list[Any]]:
        """Units to train on, of one record each, and records to measure on."""
        records = self._encode_rows(read_reviews(self.seed)[: 200 if self.quick else NUM_RECORDS + NUM_HELDOUT])
        num_heldout = 40 if self.quick else NUM_HELDOUT
        return [[record] for record in records[num_heldout:]], records[:num_heldout]

    def _encode_rows(self, rows: list[dict[str, Any]]) -> list[Any]:
        from penname.model.tokenize import encode_record
        from penname.template import RecordTemplate

        template = RecordTemplate.from_config(self.config.records, has_products=False)
        tokenizer, records = _tokenizer(self.config.model.name), []
        for row in rows:
            prompt = template.fill_prompt(rating=int(row["rating"]), category=row["category"], product_title="")
            completion = template.fill_completion(title=row["title"].strip(), text=row["text"].strip())
            records.append(encode_record(tokenizer, prompt, completion, max_tokens=self.config.train.max_record_tokens))
        return [record for record in records if record is not None]

    def _prepare(self) -> tuple[Any, Any, Any]:
        from penname.model.base import load_base_model
        from penname.model.frozen_layers import keep_frozen_layers
        from penname.train.prepare import prepare_model

        model, tokenizer = load_base_model(self.config.model)
        pad_id: Any = tokenizer.eos_token_id
        adapted, layout = prepare_model(model, self.config.model, self.config.train, pad_id=pad_id)
        self._folder = tempfile.TemporaryDirectory()
        frozen = keep_frozen_layers(adapted, Path(self._folder.name), tile_tokens=layout.tile_tokens, pad_id=pad_id)
        return adapted, layout, frozen

    def _nats(self, adapted: Any, layout: Any, records: list[Any]) -> float:
        """Mean over all completion tokens."""
        import torch

        from penname.model.loss import token_losses
        from penname.model.packing import PackedRows

        adapted.eval()
        losses = []
        with torch.no_grad():
            for batch in layout.cut([[record] for record in records]):
                rows = PackedRows.pack([record for unit in batch for record in unit], num_tokens=layout.tile_tokens, pad_id=layout.pad_id)
                losses.append(token_losses(adapted, rows)[0])
        return float(torch.cat(losses).mean())

    def _time(self, adapted: Any, layout: Any, frozen: Any, units: list[Any]) -> dict[str, float]:
        """Seconds of a record in the layers below the adapters, once a run, and in a step; and of a step whatever it draws."""
        from penname.privacy.gradients import trainable_parameters
        from penname.train.layout import sum_units

        arm = self._arm(adapted, 0.01, num_steps=1, noise_multiplier=1.0)
        records = [record for unit in units for record in unit]
        if frozen is not None:
            frozen.compute(records[:4])
        began = time.perf_counter()
        if frozen is not None:
            frozen.compute(records)
        frozen_secs = (time.perf_counter() - began) / len(records)
        adapted.train()
        sum_units(adapted, units[:8], arm, layout, frozen)
        turns = []
        for _ in range(3):
            began = time.perf_counter()
            sum_units(adapted, units, arm, layout, frozen)
            turns.append((time.perf_counter() - began) / len(units))
        began = time.perf_counter()
        arm.mechanism.release(0, arm.mechanism.empty_sum(sum(p.numel() for _, p in trainable_parameters(adapted))))
        return {"frozen_secs": frozen_secs, "record_secs": median(turns), "step_secs": time.perf_counter() - began}

    def _calibrate(self, batch: int, num_steps: int) -> float:
        from penname.privacy.accounting import calibrate_noise

        def events(sought: float) -> list[dict[str, Any]]:
            fields = {"noise_multiplier": sought, "l2_sensitivity": 1.0, "sampling_prob": min(1.0, batch / self.variant.num_units), "num_steps": num_steps}
            return [{"type": "poisson_sampled_gaussian", **fields}]

        return calibrate_noise(events, target_epsilon=_TRAINING_FRAC * self.variant.epsilon, delta=1e-5)

    def _arm(self, adapted: Any, sampling_prob: float, *, num_steps: int, noise_multiplier: float) -> Any:
        """A private arm whose noise comes from a seed: nothing of it could be released."""
        from penname.privacy.keystream import Keystream
        from penname.privacy.ledger import Receipt
        from penname.privacy.mechanism import DpSgd
        from penname.train.arms import PrivateArm

        mechanism = DpSgd(noise_multiplier, sampling_prob, num_steps, self.variant.l2_clip_norm, Keystream.from_seed(self.seed))
        charged = replace(mechanism, receipt=Receipt("benchmark", mechanism.event, mechanism.keystream.commitment))
        return PrivateArm.build(adapted, charged, engine_name="lora")

    def _train(self, adapted: Any, layout: Any, frozen: Any, units: list[Any], arm: Any, *, batch: int, learning_rate: float) -> None:
        from penname.train.loop import ArmFiles, train_arm

        folder = Path(tempfile.mkdtemp(dir=self._folder.name))
        train_arm(
            adapted,
            units,
            arm,
            self.config.train.model_copy(update={"expected_batch_size": batch, "num_steps": arm.mechanism.num_steps}),
            ArmFiles(folder / "state.safetensors", folder / "metrics.jsonl"),
            layout=layout,
            frozen=frozen,
            label="tuning",
            learning_rate=learning_rate,
            inputs_sha256="",
            log=lambda row: None,
        )


def fit_batch(times: Mapping[str, float], *, num_steps: int, num_units: int) -> int:
    """The expected batch with which a run takes TRAINING_SECS: every unit goes through the frozen layers once, each draw through the rest."""
    left = TRAINING_SECS - times["frozen_secs"] * num_units - times["step_secs"] * num_steps
    return max(1, min(num_units, math.floor(left / (times["record_secs"] * num_steps))))


def _configure(variant: Variant, seed: int) -> Config:
    config = load_config(CONFIG)
    records = config.records
    if variant.with_example:
        records = records.model_copy(update={"prompt_template": _EXAMPLE + str(records.prompt_template)})
    model = config.model.model_validate({**config.model.model_dump(), **variant.model})
    train = config.train.model_validate({**config.train.model_dump(), **variant.train, "seed": seed})
    return config.model_copy(update={"records": records, "model": model, "train": train})


@cache
def _tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer

    from penname.model.base import find_base_model

    return AutoTokenizer.from_pretrained(find_base_model(name), trust_remote_code=False)


def list_tasks(*, seed: int, quick: bool) -> dict[str, Task]:
    """Every variant."""
    variants = {"base/all": BASE} if quick else list_variants()
    return {name: partial(_run, variant, seed=seed, quick=quick) for name, variant in variants.items()}


def _run(variant: Variant, *, seed: int, quick: bool) -> dict[str, Any]:
    return Trial(variant, seed=seed, quick=quick).learn()[1]


def format_table(results: Mapping[str, Any]) -> Iterator[str]:
    """A row a variant, as far as they are measured."""
    yield "| changed | nats a token | batch | steps | passes over the data | noise multiplier | weights | noise | secs a record |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for name, entry in results.items():
        row = entry["result"]
        if "error" in row:
            yield f"| {name} | {row['error']} |  |  |  |  |  |  |  |"
            continue
        cells = (f"{row['nats']:.3f}", f"{row['expected_batch_size']:,}", row["num_steps"], row["epochs"], f"{row['noise_multiplier']:.3f}")
        yield f"| {name} | {' | '.join(map(str, cells))} | {row['num_weights']:,} | {row['noise_over_clip_norm']:.3f} | {row['record_secs']:.3f} |"


def main() -> int:
    """Tries what is not tried yet, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three steps of one variant, no result file")
    parser.add_argument("--seed", type=int, default=1)
    add_arguments(parser, parts=", ".join(dict.fromkeys(name.partition("/")[0] for name in list_variants())))
    args = parser.parse_args()
    identity = {"code": hash_files([Path(__file__), *(ROOT / "src" / "penname" / "train").glob("*.py")]), "seed": args.seed, "quick": args.quick}
    results = {} if args.quick else read_kept(PARTIAL_FILE, identity)

    def keep() -> None:
        if not args.quick:
            write_atomically(PARTIAL_FILE, json.dumps({"identity": identity, "results": results}))

    tasks = list_tasks(seed=args.seed, quick=args.quick)
    left = do_tasks(tasks, results, only=args.only, max_minutes=args.max_minutes, keep=keep)
    found = {name: results[name] for name in tasks if name in results}
    if not args.quick and found:
        head = {"script": "benchmarks/tuning.py", "seed": args.seed, **environment(PACKAGES), **describe_machine()}
        write_atomically(RESULT_FILE, json.dumps({**head, "results": found}, indent=1) + "\n")
        replace_between_markers(DOCUMENT, "tuning:table", list(format_table(found)))
    print(json.dumps({name: entry["result"].get("nats") for name, entry in found.items()}))
    return WORK_IS_LEFT if left else 0


if __name__ == "__main__":
    sys.exit(main())
