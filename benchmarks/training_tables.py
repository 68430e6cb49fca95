"""What the training benchmark found, as one summary, as tables in docs/performance.md, and as pictures in docs/figures."""

from __future__ import annotations

import os
from pathlib import Path
from statistics import median
from typing import Any

from resumable import replace_between_markers

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "performance.md"
FIGURES = ROOT / "docs" / "figures"

WAYS = {
    "roofline": "matrix products alone",
    "no_dp": "no DP, the same loop",
    "lora": "with DP (`lora`)",
    "opacus_hooks": "Opacus hooks, all else equal",
    "opacus_ghost": "Opacus ghost clipping, all else equal",
    "original": "the original's recipe",
}
_PAIRS = {
    "dp_over_no_dp": ("lora", "no_dp"),
    "dp_over_opacus_hooks": ("lora", "opacus_hooks"),
    "dp_over_opacus_ghost": ("lora", "opacus_ghost"),
    "dp_over_original": ("lora", "original"),
    "fraction_of_roofline": ("lora", "roofline"),
    "no_dp_fraction_of_roofline": ("no_dp", "roofline"),
}
SCALE_NAMES = {
    "tile_tokens": "tokens a tile",
    "record_tokens": "tokens a record",
    "lora_rank": "LoRA rank",
    "batch_units": "units a step",
    "top_layers": "adapted layers",
}
_COLOURS = {"no_dp": "#4c78a8", "lora": "#e45756", "opacus_hooks": "#72b7b2", "opacus_ghost": "#b8dbd9", "original": "#9d9d9d", "roofline": "#333333"}


def spread(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": median(values), "min": min(values), "max": max(values), "num": len(values)}


def summarize(results: dict[str, Any], *, best: dict[str, int]) -> dict[str, Any]:
    """Medians, ratios and the six headline figures, from the tasks that are done; None where one is not."""
    rounds = [result for name, result in results.items() if name.startswith("speed/") and "error" not in result]
    older = [one for name, result in results.items() if name.startswith("without_amx/") and "error" not in result for one in result]
    speeds, ratios = _compare(rounds)
    large_speeds, large_ratios = _compare([result for name, result in results.items() if name.startswith("large_steps/") and "error" not in result])
    older_speeds, older_ratios = _compare(older)
    memory = {name.partition("/")[2]: case for name, case in results.items() if name.startswith("memory/") and "error" not in case}
    padding = results.get("padding/default", {})
    with_dp = [case["peak_rss_gb"] for case in memory.values() if case["arm"] == "with_dp"]
    headline: dict[str, float | None] = {
        name: round(ratios[name]["median"], 3) if name in ratios else None
        for name in ("dp_over_no_dp", "dp_over_opacus_hooks", "dp_over_original", "fraction_of_roofline")
    }
    headline["padding_frac"] = round(padding[_default_units()], 4) if padding else None
    # The largest of all cases: more units, more data.
    headline["peak_rss_gb"] = round(max(with_dp), 3) if with_dp else None
    peers = {name.partition("/")[2]: case for name, case in results.items() if name.startswith("peers/")}
    return {
        "tokens_per_sec": speeds,
        "ratios": headline,
        "ratios_spread": ratios,
        "large_steps": {"tokens_per_sec": large_speeds, "ratios_spread": large_ratios},
        "without_amx": {"tokens_per_sec": older_speeds, "ratios_spread": older_ratios},
        "batch_sizes": best,
        "memory": memory,
        "peers": peers,
    }


def _compare(rounds: list[dict[str, float]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Speed of each way, and ratios within a round: medians and ranges; empty where there is no round."""
    names = [way for way in WAYS if rounds and way in rounds[0]]
    speeds = {way: spread([one[way] for one in rounds]) for way in names}
    pairs = {ratio: pair for ratio, pair in _PAIRS.items() if set(pair) <= set(names)}
    return speeds, {ratio: spread([one[above] / one[below] for one in rounds]) for ratio, (above, below) in pairs.items()}


def _default_units() -> str:
    from penname.config import TrainConfig

    return str(TrainConfig().expected_batch_size)


def write_tables(whole: dict[str, Any]) -> None:
    """Puts the tables between their markers in the document."""
    tasks = {name: entry["result"] for name, entry in whole["tasks"].items()}
    for marker, lines in (
        ("speed", [*_speed_table(whole), "", "![Real tokens a second of every way](figures/training_speed.png)"]),
        ("large", _rounds_table(whole["large_steps"], otherwise="Not measured.")),
        ("older", _rounds_table(whole["without_amx"], otherwise="This processor has no AMX.")),
        ("scaling", [*_scaling_table(tasks), "", "![Speed over tile, record length, rank, units a step, adapted layers](figures/training_scaling.png)"]),
        ("memory", [*_memory_table(whole["memory"]), "", "![Peak memory of every case](figures/training_memory.png)"]),
        ("checks", [*_checks_table(tasks), "", "![Loss curves of the engines, and their distance from the oracle](figures/training_agreement.png)"]),
        ("profile", _profile_table(tasks.get("profile/lora", []))),
    ):
        replace_between_markers(DOCUMENT, f"training:{marker}", lines)


def _speed_table(whole: dict[str, Any]) -> list[str]:
    cpu, speeds = whole["cpu"], whole["tokens_per_sec"]
    flags = ", ".join(cpu.get("flags", [])) or "unknown"
    lora = speeds["lora"]["median"]
    lines = [
        f"{cpu['processor']}, {cpu['cores']} cores ({flags}), {cpu['torch_threads']} threads; torch {whole['versions']['torch']}; "
        f"commit {whole['commit'][:10]}, seed {whole['seed']}. {speeds['lora']['num']} rounds. "
        f"The best physical batches were {whole['batch_sizes']['opacus']:,} tokens for Opacus, {whole['batch_sizes']['original']} records for the original.",
        "",
        "| way | real tokens/s: median (min to max) | with DP (`lora`) is so many times as fast |",
        "| --- | --- | --- |",
    ]
    lines += _way_rows(whole)
    for name, case in whole["peers"].items():
        if "error" in case:
            lines.append(f"| {name} ({case.get('package', case['peer'])}) | did not run: `{_plain(case['error'])}` | |")
        else:
            speed = case["tokens_per_sec"]
            steps = case["steps"]
            lines.append(f"| {name} ({case['package']}) | {speed:.0f} ({min(steps):.0f} to {max(steps):.0f}) | {lora / speed:.2f} |")
    return lines


def _way_rows(measured: dict[str, Any]) -> list[str]:
    """A row for each way that was measured."""
    above = {below: ratio for ratio, (way, below) in _PAIRS.items() if way == "lora"}
    lines: list[str] = []
    for way in (way for way in WAYS if way in measured["tokens_per_sec"]):
        ratio = measured["ratios_spread"].get(above.get(way, ""))
        times = f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})" if ratio else ""
        lines.append(f"| {WAYS[way]} | {_range(measured['tokens_per_sec'][way])} | {times} |")
    return lines


def _rounds_table(measured: dict[str, Any], *, otherwise: str) -> list[str]:
    if not measured["tokens_per_sec"]:
        return [otherwise]
    return [
        f"{measured['tokens_per_sec']['lora']['num']} rounds.",
        "",
        "| way | real tokens/s: median (min to max) | with DP (`lora`) is so many times as fast |",
        "| --- | --- | --- |",
        *_way_rows(measured),
    ]


def _scaling_table(tasks: dict[str, Any]) -> list[str]:
    lines = ["| setting | value | no DP, tokens/s | with DP, tokens/s | Opacus hooks, tokens/s |", "| --- | --- | --- | --- | --- |"]
    for name, words in SCALE_NAMES.items():
        for value, speeds in _scale(tasks, name).items():
            cells = [_range(spread(speeds[way])) if way in speeds else "" for way in ("no_dp", "lora", "opacus_hooks")]
            lines.append(f"| {words} | {value:,} | {' | '.join(cells)} |")
    return lines


def _scale(tasks: dict[str, Any], name: str) -> dict[int, dict[str, list[float]]]:
    prefix = f"scale_{name}/"
    found = {int(task.removeprefix(prefix)): result for task, result in tasks.items() if task.startswith(prefix) and "error" not in result}
    return dict(sorted(found.items()))


def _memory_table(memory: dict[str, Any]) -> list[str]:
    lines = ["| arm | units a step, expected | drawn | records of train | peak resident memory, GB |", "| --- | --- | --- | --- | --- |"]
    for case in memory.values():
        drawn = ", ".join(map(str, case["num_units_drawn"]))
        lines.append(f"| `{case['arm']}` | {case['units']} | {drawn} | {case['num_train_records']:,} | {case['peak_rss_gb']:.2f} |")
    return lines


def _checks_table(tasks: dict[str, Any]) -> list[str]:
    lines = ["| what | figure |", "| --- | --- |"]
    for units, share in tasks.get("padding/default", {}).items():
        lines.append(f"| filling, share of positions, {units} units a step | {100 * share:.1f} % |")
    check = tasks.get("self_check/clothing")
    if check and "error" not in check:
        secs = spread(check["secs"]["check"])
        lines.append(f"| self-check, seconds: median (min to max) | {secs['median']:.1f} ({secs['min']:.1f} to {secs['max']:.1f}) |")
        lines.append(f"| self-check, share of self-check and training of both arms, {check['num_steps']} steps | {100 * check['share_of_training']:.1f} % |")
        if "share_of_run" in check:
            lines.append(f"| self-check, share of the whole run of `configs/clothing_small.yaml` | {100 * check['share_of_run']:.1f} % |")
    curves = tasks.get("agreement/curves", {})
    for name, words in {"lora": "`lora`, float32", "opacus": "`opacus`, float32", "lora_bfloat16": "`lora`, bfloat16 base"}.items():
        if name in curves:
            gap, weights = curves[name]["largest_loss_difference"], curves[name]["relative_weight_difference"]
            lines.append(f"| {words}: largest loss difference from the oracle in {curves['num_steps']} steps, nats | {gap:.2g} |")
            lines.append(f"| {words}: relative difference of the trained weights | {weights:.2g} |")
    return lines


def _profile_table(rows: list[dict[str, Any]]) -> list[str]:
    return [
        "| operator | calls | share of the time |",
        "| --- | --- | --- |",
        *(f"| `{r['operator']}` | {r['calls']:,} | {100 * r['share']:.1f} % |" for r in rows),
    ]


def _range(values: dict[str, float]) -> str:
    return f"{values['median']:.0f} ({values['min']:.0f} to {values['max']:.0f})"


def _plain(text: str) -> str:
    return text.replace("|", "/").replace("`", "'")[:160]


def draw_figures(whole: dict[str, Any]) -> None:
    """Four pictures: speed of the ways, scaling, memory, loss curves."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    tasks = {name: entry["result"] for name, entry in whole["tasks"].items()}
    FIGURES.mkdir(parents=True, exist_ok=True)
    for name, draw, shape in (
        ("training_speed", _draw_speed, (1, 1)),
        ("training_scaling", _draw_scaling, (2, 3)),
        ("training_memory", _draw_memory, (1, 1)),
        ("training_agreement", _draw_agreement, (1, 2)),
    ):
        figure, axes = plt.subplots(*shape, figsize=(4.2 * shape[1] + (2.6 if shape == (1, 1) else 0), 3.4 * shape[0]), squeeze=False)
        draw(axes.ravel(), whole, tasks)
        figure.tight_layout()
        temporary = FIGURES / f"{name}.tmp.png"
        figure.savefig(temporary, dpi=110)
        os.replace(temporary, FIGURES / f"{name}.png")
        plt.close(figure)


def _draw_speed(axes: Any, whole: dict[str, Any], tasks: dict[str, Any]) -> None:
    bars = [(words.replace("`", ""), whole["tokens_per_sec"][way], _COLOURS[way]) for way, words in WAYS.items()]
    for name, case in whole["peers"].items():
        if "error" not in case:
            bars.append((name, {"median": case["tokens_per_sec"], "min": min(case["steps"]), "max": max(case["steps"])}, "#c9b28f"))
    bars.reverse()
    medians = [values["median"] for _, values, _ in bars]
    below = [max(0.0, values["median"] - values["min"]) for _, values, _ in bars]
    above = [max(0.0, values["max"] - values["median"]) for _, values, _ in bars]
    axes[0].barh([words for words, _, _ in bars], medians, xerr=[below, above], color=[colour for *_, colour in bars], capsize=3)
    axes[0].set_xlabel("real tokens a second: median, min and max")


def _draw_scaling(axes: Any, whole: dict[str, Any], tasks: dict[str, Any]) -> None:
    for axis, (name, words) in zip(axes, SCALE_NAMES.items(), strict=False):
        points = _scale(tasks, name)
        for way in ("no_dp", "lora", "opacus_hooks"):
            line = {value: spread(speeds[way]) for value, speeds in points.items() if way in speeds}
            if line:
                middle = [values["median"] for values in line.values()]
                axis.plot(list(line), middle, marker="o", color=_COLOURS[way], label=WAYS[way].replace("`", ""))
                axis.fill_between(list(line), [v["min"] for v in line.values()], [v["max"] for v in line.values()], color=_COLOURS[way], alpha=0.2)
        axis.set_xscale("log", base=2)
        axis.set_xticks(list(points), [f"{value:,}" for value in points])
        axis.set_xlabel(words)
        axis.set_ylabel("real tokens a second")
        axis.set_ylim(bottom=0)
    axes[1].legend(fontsize=8)
    axes[-1].axis("off")


def _draw_memory(axes: Any, whole: dict[str, Any], tasks: dict[str, Any]) -> None:
    bars = [(f"{case['arm']}, {case['units']} units a step,\n{case['num_train_records']:,} records", case) for case in whole["memory"].values()]
    colours = [_COLOURS["lora" if case["arm"] == "with_dp" else "no_dp"] for _, case in bars]
    axes[0].barh([words for words, _ in bars][::-1], [case["peak_rss_gb"] for _, case in bars][::-1], color=colours[::-1])
    axes[0].tick_params(axis="y", labelsize=8)
    axes[0].set_xlabel("peak resident memory of penname train, GB")


def _draw_agreement(axes: Any, whole: dict[str, Any], tasks: dict[str, Any]) -> None:
    curves = tasks.get("agreement/curves", {})
    styles = {
        "oracle": ("oracle, float32", "-"),
        "lora": ("lora, float32", "--"),
        "opacus": ("opacus, float32", ":"),
        "lora_bfloat16": ("lora, bfloat16", "-."),
    }
    for name, (words, style) in styles.items():
        if name in curves:
            steps = range(1, len(curves[name]["losses"]) + 1)
            axes[0].plot(steps, curves[name]["losses"], style, label=words)
            if name != "oracle":
                gaps = [max(abs(a - b), 1e-9) for a, b in zip(curves[name]["losses"], curves["oracle"]["losses"], strict=True)]
                axes[1].semilogy(steps, gaps, style, label=words)
    axes[0].set_ylabel("loss, nats a token")
    axes[1].set_ylabel("difference from the oracle")
    for axis in axes:
        axis.set_xlabel("step")
        axis.legend(fontsize=8)
