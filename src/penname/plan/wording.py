"""A plan as lines for a person."""

from __future__ import annotations

from statistics import mean, median

from penname.plan.memory import GB, describe_parts
from penname.plan.plan import Plan
from penname.plan.signal import describe_signal
from penname.progress import format_secs


def describe_plan(plan: Plan) -> list[str]:
    """Lines for a person. Where lengths of private records were read, a line says which of them are PRIVATE."""
    lines = [*_describe_work(plan), *_describe_speed(plan), *_describe_time(plan), *_describe_memory(plan)]
    mark = ["PRIVATE           all that follows: computed from the lengths of private records, without noise"] if plan.texts.is_private else []
    return [*plan.promise.lines, *_describe_noise(plan), *mark, *lines]


def _describe_noise(plan: Plan) -> list[str]:
    if plan.promise.plan_training is None:
        return []
    batch, num_units = plan.config.train.expected_batch_size, plan.texts.num_units
    return describe_signal(plan.promise.plan_training, num_weights=plan.training_speed.num_params, expected_batch_size=batch, num_units=num_units)


def _describe_work(plan: Plan) -> list[str]:
    work, passes, config = plan.training, plan.passes, plan.config
    records = [record for unit in plan.texts.units for record in unit]
    mean_tokens = mean(len(record.token_ids) for record in records)
    return [
        f"trainable         {plan.training_speed.num_params:,} adapter weights on {config.model.name}",
        f"records           {mean_tokens:.0f} tokens, {mean(record.num_prompt_tokens for record in records):.0f} of them prompt "
        f"(from {plan.texts.source}: {len(records):,} records)",
        f"training tokens   {work.tokens:,.0f} an arm, expected: {work.units_a_step:.1f} units a step, {work.num_steps} steps; filling {work.filling_frac:.1%}",
        f"self-check        {work.check_tokens:,.0f} tokens with their filling, once",
        f"generated tokens  {passes.num_tokens:,.0f} an arm, expected: {config.generate.num_records:,} records, {passes.num_draws:,.0f} texts of "
        f"{passes.num_tokens / passes.num_draws:.0f} tokens, as the untrained model writes them",
    ]


def _describe_speed(plan: Plan) -> list[str]:
    lines: list[str] = []
    filling = 1 - plan.training.filling_frac
    for arm in plan.config.train.arms:
        speeds = [filling / secs for secs in plan.training_speed.token_secs[arm]]
        lines.append(
            f"speed {arm:<11} {median(speeds):,.0f} training tokens a second ({min(speeds):,.0f} to {max(speeds):,.0f} in {len(speeds)} rounds, measured now)"
        )
    if "frozen" in plan.training_speed.token_secs:
        speeds = [filling / secs for secs in plan.training_speed.token_secs["frozen"]]
        below = f"in the {plan.training_speed.num_frozen_layers} layers below the adapters, once a record"
        lines.append(f"                  {median(speeds):,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f}) {below}")
    times = plan.generation_speed.steps
    secs = plan.generation_speed.decode_secs(plan.passes)
    lines.append(
        f"speed generate    {plan.passes.num_tokens / secs:,.0f} tokens a second; "
        + ", ".join(
            f"a step of {step.num_rows} rows {1000 * median(step.secs):.0f} ms ({1000 * min(step.secs):.0f} to {1000 * max(step.secs):.0f} in {len(step.secs)})"
            for step in times
        )
    )
    return lines


def _describe_time(plan: Plan) -> list[str]:
    stages = plan.stage_secs()
    low, high = (format_secs(sum(plan.stage_secs(choose).values())) for choose in (min, max))
    parts = ", ".join(f"{stage} {format_secs(secs)}" for stage, secs in stages.items())
    return [
        f"time              {format_secs(sum(stages.values()))} ({low} to {high}, by the fastest and the slowest measurements), without the report",
        f"                  {parts}; {len(plan.config.train.arms)} arms{', and the untrained model' if plan.num_base_records else ''}",
    ]


def _describe_memory(plan: Plan) -> list[str]:
    train, made, tile = plan.training_memory, plan.generation_memory, plan.training_speed.layout.tile_tokens
    return [
        f"memory            {plan.predicted_peak_bytes / GB:.2f} GB resident at the most; {plan.peak_bytes / GB:.2f} GB were, while this was measured",
        f"  by arithmetic   libraries {plan.library_bytes / GB:.2f} GB (measured), and",
        f"  training        {train.total / GB:.2f} GB at tiles of {tile or 'one record'}{' tokens' if tile else ''}: {describe_parts(train)}",
        f"  generation      {made.total / GB:.2f} GB: {describe_parts(made)}",
    ]
