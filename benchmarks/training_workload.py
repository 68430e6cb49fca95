"""The records that the training benchmark trains on: real clothing reviews, or made-up ones of the same lengths where the file is missing."""

from __future__ import annotations

import csv
import gzip
import random
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

from penname.config import ModelConfig, RecordsConfig, TrainConfig
from penname.model.tokenize import TokenizedRecord, encode_record
from penname.template import RecordTemplate

MAX_RECORD_TOKENS = TrainConfig().max_record_tokens
MODEL = ModelConfig(top_layers=None)
"""SmolLM2-135M, LoRA of rank 8 on all linear layers of all 30 layers."""

# Of the 19,662 clothing reviews with text, title and class, in tokens of SmolLM2's tokenizer under the default template.
_PROMPT_TOKENS = 70
_COMPLETION_QUANTILES = ((0.0, 11), (0.05, 32), (0.25, 58), (0.5, 85), (0.75, 121), (0.95, 140), (1.0, 154))


def draw_records(real_file: Path, count: int, *, seed: int) -> list[TokenizedRecord]:
    """Records as the stages `records` and `train` would make them, drawn at random."""
    rng = random.Random(seed)
    if not real_file.is_file():
        return [make_record(rng, _PROMPT_TOKENS + _draw_completion_tokens(rng), num_prompt_tokens=_PROMPT_TOKENS) for _ in range(count)]
    encoded = (_encode(row) for row in rng.sample(read_rows(real_file), count))
    return [record for record in encoded if record is not None]


def make_record(rng: random.Random, length: int, *, num_prompt_tokens: int) -> TokenizedRecord:
    """A made-up record: tokens at random, a length as given."""
    return TokenizedRecord([rng.randrange(1000, 40_000) for _ in range(length)], num_prompt_tokens)


@cache
def read_rows(real_file: Path) -> list[dict[str, str]]:
    """Reviews that have text, title and class."""
    with gzip.open(real_file, "rt", encoding="utf-8", newline="") as handle:
        return [row for row in csv.DictReader(handle) if all(row[name].strip() for name in ("Review Text", "Title", "Class Name"))]


def describe_workload(units: list[list[TokenizedRecord]], real_file: Path) -> dict[str, Any]:
    """What the figures were measured on."""
    records = [record for unit in units for record in unit]
    lengths = sorted(len(record.token_ids) for record in records)
    return {
        "source": "clothing reviews" if real_file.is_file() else "made up, lengths of the clothing reviews",
        "num_units": len(units),
        "num_tokens": sum(lengths),
        "length_tokens": {"mean": round(mean(lengths), 1), "median": lengths[len(lengths) // 2], "min": lengths[0], "max": lengths[-1]},
        "completion_tokens_mean": round(mean(record.num_completion_tokens for record in records), 1),
        "max_record_tokens": MAX_RECORD_TOKENS,
    }


def _draw_completion_tokens(rng: random.Random) -> int:
    """By the inverse of the law above, straight between its quantiles."""
    share = rng.random()
    for (low, tokens_low), (high, tokens_high) in pairwise(_COMPLETION_QUANTILES):
        if share <= high:
            return round(tokens_low + (tokens_high - tokens_low) * (share - low) / (high - low))
    return _COMPLETION_QUANTILES[-1][1]


def _encode(row: dict[str, str]) -> TokenizedRecord | None:
    tokenizer, template = _tokenizer(), RecordTemplate.from_config(RecordsConfig(), has_products=False)
    prompt = template.fill_prompt(rating=int(row["Rating"]), category=row["Class Name"], product_title="")
    completion = template.fill_completion(title=row["Title"].strip(), text=row["Review Text"].strip())
    return encode_record(tokenizer, prompt, completion, max_tokens=MAX_RECORD_TOKENS)


@cache
def _tokenizer() -> Any:
    from transformers import AutoTokenizer

    from penname.model.base import find_base_model

    return AutoTokenizer.from_pretrained(find_base_model(MODEL.name))
