"""What a run would promise, spend and take: from the config, a number of units and a few seconds of measuring on made-up tokens."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from penname.config import Config
from penname.errors import UsageError
from penname.progress import format_secs

_NUM_PROBE_ROWS = 8
_NUM_REPEATS = 2


def plan_run(config: Config, *, num_units: int | None) -> list[str]:
    """Lines for a person. Touches no private data, writes nothing, spends nothing.

    Args:
      config: Of the run.
      num_units: Units in the training split; None only for the embedded demo, whose fiction is counted.
    Raises:
      UsageError: the number of units is needed and not given.
      PrivacyError: the promise cannot be kept.
    """
    if num_units is None:
        if config.data.format != "sample":
            raise UsageError("plan touches no data: say with --num-units how many users (or records, or values of the column) will be in the training split")
        num_units = _count_sample_units(config)
    return [*_describe_privacy(config, num_units), *_describe_work(config)]


def _count_sample_units(config: Config) -> int:
    """Users of the fictional marketplace in the training split: fiction, made again here."""
    import orjson

    from penname.ingest.sample_data import REVIEWS_FILE, write_sample_data
    from penname.records.split import split_by_unit

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_sample_data(folder, num_reviews=config.data.sample_num_reviews, seed=config.data.sample_seed)
        with open(folder / REVIEWS_FILE, "rb") as lines:
            rows = [orjson.loads(line) for line in lines]
    privacy = config.privacy
    if privacy.unit == "record":
        # The split is by a hash of the record's content; which hash makes no difference to how many there are.
        units = {str(position) for position in range(len(rows))}
    else:
        column = privacy.unit_column or "user_id"
        if any(column not in row for row in rows):
            raise UsageError(f"privacy.unit_column: the reviews of the demo have no {column}")
        units = {str(row[column]) for row in rows}
    return sum(split_by_unit(unit, config.records) == "train" for unit in units)


def _describe_privacy(config: Config, num_units: int) -> list[str]:
    from penname.privacy.accounting import compute_epsilon_in_two_parts
    from penname.privacy.budget import Budget, check_delta
    from penname.privacy.keystream import Keystream
    from penname.privacy.ledger import Promise
    from penname.privacy.unit import NEIGHBORING_RELATION

    privacy, train = config.privacy, config.train
    if "with_dp" not in train.arms:
        return ["promise           none: train.arms has no with_dp; nothing of this run may be released"]
    check_delta(privacy.delta, num_units=num_units)
    # The noise depends on no key; this one only fills the place.
    keystream = Keystream.from_seed(0)
    promise = Promise(privacy.target_epsilon, privacy.delta, privacy.unit, NEIGHBORING_RELATION, keystream.source, privacy.unit_column)
    bound = 1 if privacy.unit == "record" else config.records.max_records_per_user
    budget = Budget.plan(promise, marginals_frac=privacy.marginals_frac, max_records_per_unit=bound, keystream=keystream)
    mechanism = budget.plan_training(
        num_units=num_units,
        expected_batch_size=train.expected_batch_size,
        num_steps=train.num_steps,
        l2_clip_norm=privacy.l2_clip_norm,
        keystream=keystream,
    )
    spent = compute_epsilon_in_two_parts([budget.unit_count.event], [mechanism.event, budget.histogram.event], delta=privacy.delta)
    words = {"auto": "user, or record where there is no user id", "column": f"value of the column {privacy.unit_column}"}
    unit = words.get(privacy.unit, privacy.unit)
    return [
        f"promise           epsilon {privacy.target_epsilon:g} at delta {privacy.delta:g}, {NEIGHBORING_RELATION}, unit: {unit}",
        f"units             {num_units:,} in the training split",
        f"training          noise multiplier {mechanism.noise_multiplier:.4f}, sampling probability {mechanism.sampling_prob:.4f}, "
        f"{mechanism.num_steps} steps, clip norm {privacy.l2_clip_norm:g}",
        f"marginals         noise multiplier {budget.unit_count.noise_multiplier:.4f} for the count of units, "
        f"{budget.histogram.noise_multiplier:.4f} for the histogram of rating x category",
        f"epsilon spent     {spent:.4f} (all of it is charged before the data is touched)",
    ]


def _describe_work(config: Config) -> list[str]:
    train, generate = config.train, config.generate
    tokens_per_sec, num_params = _measure_training(config)
    rows = train.expected_batch_size * (1 if config.privacy.unit == "record" else config.records.max_records_per_user)
    tokens = rows * train.max_record_tokens * train.num_steps
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    return [
        f"trainable         {num_params:,} adapter weights on {config.model.name}",
        f"training tokens   at most {tokens:,} an arm (every unit with the most and the longest records; usually a third of it or less)",
        f"speed here        {tokens_per_sec:,.0f} training tokens a second, measured now on made-up tokens",
        f"training time     at most {format_secs(tokens / tokens_per_sec)} an arm, {len(train.arms)} arms",
        f"generation        {generate.num_records:,} records an arm, at most {generate.num_records * generate.max_new_tokens:,} tokens",
        f"memory            about {peak_gb:.1f} GB at physical batches of {train.physical_batch_tokens:,} tokens",
    ]


def _measure_training(config: Config) -> tuple[float, int]:
    """Tokens a second of a forward and backward pass, and the number of trainable weights."""
    import torch

    from penname.model.base import load_base_model
    from penname.model.tokenize import TokenizedRecord
    from penname.privacy.gradients import GRADIENT_ENGINES
    from penname.train.prepare import prepare_model

    model, tokenizer = load_base_model(config.model)
    prepared, layout = prepare_model(model, config.model, config.train, pad_id=0)
    adapted: Any = prepared.train()
    engine = GRADIENT_ENGINES[config.train.gradients](adapted)
    length = min(config.train.max_record_tokens, max(8, config.train.physical_batch_tokens // _NUM_PROBE_ROWS))
    rows = max(1, config.train.physical_batch_tokens // length)
    token_ids = torch.randint(len(tokenizer), (rows, length), generator=torch.Generator().manual_seed(0)).tolist()
    passes = layout.lay_out(adapted, [[TokenizedRecord(ids, length // 2)] for ids in token_ids])
    engine.unit_gradients(passes, rows)
    began = time.monotonic()
    for _ in range(_NUM_REPEATS):
        engine.unit_gradients(passes, rows)
    return _NUM_REPEATS * rows * length / (time.monotonic() - began), engine.num_params
