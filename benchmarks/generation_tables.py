"""Ratios, table and figure from what `generation.py` measured, piece by piece."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from generation_engines import CASES
from resumable import replace_between_markers

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "generation-engines.md"
FIGURE_FILE = DOCS / "figures" / "generation_speed.png"
# How much faster than ours another must be before it is worth a second code path.
_CLEARLY = 1.3


def spread(values: list[float]) -> dict[str, float]:
    """Median with the least and the most."""
    return {"median": round(median(values), 3), "least": round(min(values), 3), "most": round(max(values), 3), "num": len(values)}


def summarize(results: dict[str, Any]) -> dict[str, Any]:
    """Speeds of every way, ratios within turns, and what its texts depend on. What was not measured is missing."""
    ways: dict[str, dict[str, Any]] = {}
    for task, result in results.items():
        part, _, piece = task.partition("/")
        if part in ("original", "generate", "engines"):
            name = {"original": "original", "generate": f"generate_{piece.rpartition('_')[0]}"}.get(part, piece.rpartition("_")[0])
            ways.setdefault(name, {"turns": []})["turns"].append(result)
    for name, way in ways.items():
        _summarize_way(way, results.get(f"same_texts/{name}"))
    roofline = [result for task, result in results.items() if task.startswith("roofline/") and "error" not in result]
    ours: dict[str, Any] = {"same_texts": results.get("same_texts/ours")}
    if roofline:
        ours |= {"tokens_per_sec": spread([turn["ours"] for turn in roofline])}
    return {
        "workload": results.get("workload/texts"),
        "ours": ours,
        "ways": ways,
        "roofline_tokens_per_sec": {kind: spread([turn[kind] for turn in roofline]) for kind in ("packed", "plain") if roofline},
        "ratios": _compute_ratios(ways, roofline),
    }


def _summarize_way(way: dict[str, Any], same_texts: dict[str, Any] | None) -> None:
    turns = way.pop("turns")
    done = [turn for turn in turns if "error" not in turn]
    if not done:
        way["error"] = turns[0]["error"]
        return
    way["tokens_per_sec"] = spread([turn["theirs"] for turn in done])
    way["over_ours"] = spread([turn["theirs"] / turn["ours"] for turn in done])
    way |= {key: value for key, value in done[0].items() if key not in ("ours", "theirs")}
    if same_texts:
        way["same_texts"] = same_texts


def _compute_ratios(ways: dict[str, dict[str, Any]], roofline: list[dict[str, float]]) -> dict[str, Any]:
    speeds = {name: way["over_ours"]["median"] for name, way in ways.items() if "over_ours" in way}
    ratios: dict[str, Any] = {}
    if "original" in speeds:
        ratios["ours_over_original"] = round(1 / speeds["original"], 2)
    if roofline:
        ratios["fraction_of_roofline"] = round(median(turn["ours"] / turn["packed"] for turn in roofline), 3)
        ratios["fraction_of_plain_roofline"] = round(median(turn["ours"] / turn["plain"] for turn in roofline), 3)
    groups = {
        "generate": [name for name in speeds if name.startswith("generate_")],
        "engine": [name for name in speeds if name in CASES and CASES[name].is_equal_precision],
        "coarser_engine": [name for name in speeds if name in CASES and not CASES[name].is_equal_precision],
    }
    for group, names in groups.items():
        if names:
            best = max(names, key=lambda name: speeds[name])
            ratios |= {f"ours_over_best_{group}": round(1 / speeds[best], 2), f"best_{group}": best}
    return ratios


def write_table(whole: dict[str, Any]) -> None:
    """The table of engines, the ratios, and those not run, into the page."""
    lines = ["| engine | precision | tokens/s | over ours | seeds | same again | in another order | alone | log-probability a token |", "| --- " * 9 + "|"]
    same = whole["ours"]["same_texts"]
    speed = whole["ours"]["tokens_per_sec"]
    lines.append(f"| ours | as the base | {speed['median']:.0f} ({speed['least']:.0f}–{speed['most']:.0f}) | 1 | one a text | {_same(same)} |")
    for name, way in whole["ways"].items():
        if "error" in way:
            lines.append(f"| {name} | | does not run: {_plain(way['error'])} | | | | | | |")
            continue
        speed, over = way["tokens_per_sec"], way["over_ours"]
        facts = f"{way.get('precision', 'as the base')} | {speed['median']:.0f} ({speed['least']:.0f}–{speed['most']:.0f})"
        ratio = f"{over['median']:.2f} ({over['least']:.2f}–{over['most']:.2f})"
        lines.append(f"| {name} | {facts} | {ratio} | {way.get('seeds', 'one a call')} | {_same(way.get('same_texts'))} |")
    faster = [name for name, way in whole["ways"].items() if way.get("over_ours", {}).get("median", 0) >= _CLEARLY and name in CASES]
    lines += ["", f"At least {_CLEARLY} times as fast as ours: {', '.join(faster) or 'none'}.", ""]
    lines += ["| environment | version | seconds to install | megabytes of its own | seconds to convert the model | seconds to load it |", "| --- " * 6 + "|"]
    for name, way in whole["ways"].items():
        if name in CASES and "error" not in way:
            made = way["environment"]
            sizes = f"{made.get('install_secs', '')} | {made.get('megabytes', '')}"
            lines.append(f"| {name} | {way['version']} | {sizes} | {way.get('convert_secs', '')} | {way['load_secs']} |")
    lines += ["", "| not run | why |", "| --- | --- |", *(f"| {name} | {why} |" for name, why in whole["not_run"].items())]
    source = f"`benchmarks/results/generation.json`, commit {whole['commit'][:12]}, {whole['cpu']['processor']}, {whole['cpu']['torch_threads']} threads."
    replace_between_markers(PAGE, "generation:engines", [*lines, "", source])


def _same(same: dict[str, Any] | None) -> str:
    if not same or "error" in same:
        return " | | | "
    return " | ".join([*(f"{same[f'same_{name}_frac']:.0%}" for name in ("again", "other_order", "alone")), f"{same['mean_token_log_prob']:.2f}"])


def _plain(text: str) -> str:
    """Without what would break a table."""
    return text.replace("|", "/").replace("\n", " ")[:160]


def draw_figure(whole: dict[str, Any], path: Path = FIGURE_FILE) -> None:
    """Bars of new tokens a second, with their spread, and the rooflines as lines."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [("ours", whole["ours"]["tokens_per_sec"]), *((name, way["tokens_per_sec"]) for name, way in whole["ways"].items() if "error" not in way)]
    figure, axes = pyplot.subplots(figsize=(7.5, 0.42 * len(rows) + 1.6), layout="constrained")
    values = [speed["median"] for _, speed in rows]
    errors = [[speed["median"] - speed["least"] for _, speed in rows], [speed["most"] - speed["median"] for _, speed in rows]]
    axes.barh([name for name, _ in rows], values, xerr=errors, color=["#c44e52", *["#4c72b0"] * (len(rows) - 1)], capsize=3)
    for (name, value), style in zip(whole["roofline_tokens_per_sec"].items(), (":", "--"), strict=True):
        axes.axvline(value["median"], color="black", linestyle=style, label=f"matrix products alone, weights {name}")
    axes.invert_yaxis()
    axes.set_xlabel("new tokens a second (median; line: least to most)")
    axes.legend(fontsize=8, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
