"""The smaller questions of the training benchmark: how speed scales, whether engines and precisions agree, what the self-check and the filling cost."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.nn import functional
from training_ways import OpacusWay, PennameWay, Update, Way, count_padding, make_dp_sgd
from training_workload import MAX_RECORD_TOKENS, MODEL, make_record

from penname.config import TrainConfig, load_config
from penname.model.adapter import adapter_weights, attach_adapter
from penname.model.base import load_base_model
from penname.privacy.gradients import trainable_parameters
from penname.train.arms import PrivateArm
from penname.train.layout import Unit, choose_layout, count_tokens, sum_units
from penname.train.prepare import prepare_model
from penname.train.train import run_self_checks

ROOT = Path(__file__).resolve().parents[1]
CLOTHING_CONFIG = ROOT / "configs" / "clothing_small.yaml"
CLOTHING_RESULT = ROOT / "benchmarks" / "results" / "clothing_small.json"

SCALES: dict[str, tuple[int, ...]] = {
    "tile_tokens": (256, 512, 1024),
    "record_tokens": (64, 256, 512),
    "lora_rank": (2, 8, 64),
    "batch_units": (1, 8, 64),
    "top_layers": (1, 10, 30),
}
_SCALE_TOKENS = 1024
_SCALE_UNITS = 12
_CURVE_LEARNING_RATE = 1e-3
_NUM_PADDING_DRAWS = 200


def time_steps(ways: dict[str, Way], units: Mapping[str, Sequence[Unit]], *, seed: int) -> dict[str, float]:
    """Real tokens a second of one step of each way, in an order drawn by the seed."""
    speeds: dict[str, float] = {}
    for name in random.Random(seed).sample(sorted(ways), len(ways)):
        began = time.perf_counter()
        ways[name].step(units[name])
        speeds[name] = sum(map(count_tokens, units[name])) / (time.perf_counter() - began)
    return speeds


def measure_scale(name: str, value: int, units: list[Unit], *, num_repeats: int, seed: int) -> dict[str, list[float]]:
    """Real tokens a second at one setting that is not the default, of each way, repeat by repeat."""
    config, train = MODEL, TrainConfig(max_record_tokens=MAX_RECORD_TOKENS)
    batch = units[:_SCALE_UNITS]
    builds: dict[str, Callable[[], Way]] = {arm: lambda arm=arm: PennameWay(arm, config, train, seed=seed) for arm in ("no_dp", "lora")}
    if name == "tile_tokens":
        train = TrainConfig(max_record_tokens=MAX_RECORD_TOKENS, physical_batch_tokens=value)
        batch = units[: 2 * _SCALE_UNITS]
    elif name == "record_tokens":
        train = TrainConfig(max_record_tokens=value)
        rng = random.Random(seed)
        batch = [[make_record(rng, value, num_prompt_tokens=value // 2)] for _ in range(max(2, _SCALE_TOKENS // value))]
        builds["opacus_hooks"] = lambda: OpacusWay("hooks", physical_tokens=_SCALE_TOKENS, seed=seed)
    elif name == "lora_rank":
        config = MODEL.model_copy(update={"lora_rank": value, "lora_alpha": 2.0 * value})
    elif name == "batch_units":
        batch = units[:value]
    else:
        config = MODEL.model_copy(update={"top_layers": value})
    ways = {arm: build() for arm, build in builds.items()}
    for way in ways.values():
        way.step(batch[:1])
    repeats = [time_steps(ways, dict.fromkeys(ways, batch), seed=seed + repeat) for repeat in range(num_repeats)]
    return {arm: [repeat[arm] for repeat in repeats] for arm in ways}


def measure_padding(units: list[Unit], *, seed: int) -> dict[str, float]:
    """Share of positions that are filling, by units a step, over many Poisson draws of the default layout."""
    model, _ = load_base_model(MODEL)
    layout = choose_layout(model, TrainConfig(max_record_tokens=MAX_RECORD_TOKENS), pad_id=0)
    rng = random.Random(seed)
    shares: dict[str, float] = {}
    for expected in (8, TrainConfig().expected_batch_size, 64, 256):
        prob = min(1.0, expected / len(units))
        draws = [[unit for unit in units if rng.random() < prob] for _ in range(_NUM_PADDING_DRAWS)]
        shares[str(expected)] = count_padding(layout, [draw for draw in draws if draw])
    return shares


def measure_self_check(units: list[Unit], *, num_repeats: int, seed: int) -> dict[str, Any]:
    """Seconds of the self-check beside those of the training that follows it, with the settings of the clothing config."""
    config = load_config(CLOTHING_CONFIG)
    ways = {arm: PennameWay(arm, config.model, config.train, seed=seed) for arm in ("lora", "no_dp")}
    private = ways["lora"]
    if not isinstance(private.arm, PrivateArm):
        raise TypeError("the arm lora is private")
    secs: dict[str, list[float]] = {"check": [], "lora": [], "no_dp": []}
    batch = units[: config.train.expected_batch_size]
    for way in ways.values():
        way.step(batch[:1])
    for _ in range(num_repeats):
        began = time.perf_counter()
        run_self_checks(private.model, units, private.arm, private.layout, config.model)
        secs["check"].append(time.perf_counter() - began)
        private.model.train()
        for arm, way in ways.items():
            began = time.perf_counter()
            way.step(batch)
            secs[arm].append(time.perf_counter() - began)
    check, steps = median(secs["check"]), config.train.num_steps * (median(secs["lora"]) + median(secs["no_dp"]))
    result = {"secs": secs, "num_steps": config.train.num_steps, "units_a_step": len(batch), "share_of_training": check / (check + steps)}
    if CLOTHING_RESULT.is_file():
        kept = json.loads(CLOTHING_RESULT.read_text(encoding="utf-8"))
        # The other stages as that run took them, with the training of this one.
        rest = sum(secs for stage, secs in kept["stage_secs"].items() if stage != "train")
        result |= {"secs_of_other_stages": rest, "their_commit": kept["commit"], "share_of_run": check / (check + steps + rest)}
    return result


def train_curve(engine: str, dtype: str, batches: list[list[Unit]], *, seed: int) -> dict[str, Any]:
    """Mean loss of each step, before it is taken, and the trained weights, under one seed for adapter and noise."""
    config = MODEL.model_copy(update={"dtype": dtype})
    model, tokenizer = load_base_model(config)
    pad_id: Any = tokenizer.eos_token_id
    train = TrainConfig(max_record_tokens=MAX_RECORD_TOKENS, gradients="opacus" if engine == "opacus" else "lora", seed=seed)
    if engine == "oracle":
        adapted, layout = attach_adapter(model, config, seed=seed), None
    else:
        adapted, layout = prepare_model(model, config, train, pad_id=pad_id)
    adapted.train()
    mechanism = make_dp_sgd(seed, noise_multiplier=0.5)
    arm = PrivateArm.build(adapted, mechanism, engine_name=train.gradients) if layout is not None else None
    update = Update(adapted, mechanism, learning_rate=_CURVE_LEARNING_RATE)
    losses: list[float] = []
    for batch in batches:
        if arm is not None and layout is not None:
            total, record_losses = sum_units(adapted, batch, arm, layout)
        else:
            grads, record_losses = oracle_gradients(adapted, batch)
            total = mechanism.empty_sum(grads.shape[1]).add_disjoint(mechanism.sum_units(grads))
        losses.append(float(record_losses.mean()))
        update.apply(total, len(batch))
    return {"losses": losses, "weights": torch.cat([weights.reshape(-1) for weights in adapter_weights(adapted).values()])}


def oracle_gradients(model: Any, units: Sequence[Unit]) -> tuple[torch.Tensor, torch.Tensor]:
    """The slow way: one record at a time, all logits, cross-entropy as torch has it, autograd."""
    parameters = [parameter for _, parameter in trainable_parameters(model)]
    rows: list[torch.Tensor] = []
    losses: list[torch.Tensor] = []
    for unit in units:
        unit_losses = []
        for record in unit:
            token_ids = torch.tensor([record.token_ids])
            first = record.num_prompt_tokens
            logits = model(input_ids=token_ids, use_cache=False).logits[0, first - 1 : -1]
            unit_losses.append(functional.cross_entropy(logits.float(), token_ids[0, first:]))
        grads = torch.autograd.grad(torch.stack(unit_losses).mean(), parameters)
        rows.append(torch.cat([grad.reshape(-1).float() for grad in grads]))
        losses.extend(loss.detach() for loss in unit_losses)
    return torch.stack(rows), torch.stack(losses)


def compare_curves(units: list[Unit], *, num_steps: int, units_a_step: int, seed: int) -> dict[str, Any]:
    """Loss curves of the engines in float32, and of bfloat16, against the oracle's: largest differences."""
    batches = [units[start * units_a_step : (start + 1) * units_a_step] for start in range(num_steps)]
    ways = {"oracle": "float32", "lora": "float32", "opacus": "float32", "lora_bfloat16": "bfloat16"}
    runs = {name: train_curve(name.partition("_")[0], dtype, batches, seed=seed) for name, dtype in ways.items()}
    oracle = runs["oracle"]
    result: dict[str, Any] = {"num_steps": num_steps, "units_a_step": units_a_step, "learning_rate": _CURVE_LEARNING_RATE, "noise_multiplier": 0.5}
    for name, run in runs.items():
        result[name] = {
            "losses": run["losses"],
            "largest_loss_difference": max(abs(one - other) for one, other in zip(run["losses"], oracle["losses"], strict=True)),
            "relative_weight_difference": float((run["weights"] - oracle["weights"]).norm() / oracle["weights"].norm()),
        }
    return result


def profile_step(way: Way, units: list[Unit], *, num_rows: int = 16) -> list[dict[str, Any]]:
    """The operators that take the most of a step's time by themselves."""
    from torch.profiler import ProfilerActivity, profile

    way.step(units[:1])
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        way.step(units)
    events = sorted(profiled.key_averages(), key=lambda event: event.self_cpu_time_total, reverse=True)
    total = sum(event.self_cpu_time_total for event in events)
    return [{"operator": event.key, "calls": event.count, "share": event.self_cpu_time_total / total} for event in events[:num_rows]]
