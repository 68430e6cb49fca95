"""The figures of the report: plain lists and dicts in, matplotlib figures out, the same bytes for the same numbers.

Real, no DP and with DP always have the same three colours (slate, vermilion and blue, told apart with any colour vision) and
always differ in marker, line and hatch as well, so that a grey print still reads.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import re
import warnings
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from xml.sax.saxutils import quoteattr

from penname.report.untrusted_text import spell_out_hidden

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH_INCHES = 3.9
"""One column of the page, and a phone's width: text is never scaled down much."""
MAX_CATEGORIES = 12

INK = "#1f2933"
FAINT = "#c9d1d9"


@dataclass(frozen=True)
class ConditionStyle:
    """How one condition looks in every figure."""

    label: str
    colour: str
    marker: str
    line: Literal["-", "--", "-.", ":"]
    hatch: str


CONDITIONS: dict[str, ConditionStyle] = {
    "real": ConditionStyle("Real", "#5b6775", "o", "-", ""),
    "no_dp": ConditionStyle("No DP", "#c2500a", "s", "--", "////"),
    "with_dp": ConditionStyle("With DP", "#0b6fb3", "D", "-.", "\\\\\\\\"),
}
OTHER_STYLE = ConditionStyle("", "#7a5195", "v", ":", "xx")
"""For arms beside the three, such as the base model."""

# On the page the colours of a figure follow the colour scheme; the files keep the fixed ones.
_PAGE_COLOURS = {INK: "currentColor", FAINT: "var(--line)", OTHER_STYLE.colour: "var(--other)"} | {
    style.colour: f"var(--{name.replace('_', '-')})" for name, style in CONDITIONS.items()
}


def condition_style(arm: str) -> ConditionStyle:
    """The style of a condition; arms beside the three share one, with their own name."""
    if arm in CONDITIONS:
        return CONDITIONS[arm]
    label = "Base model" if arm == "base" else spell_out_hidden(arm)
    return ConditionStyle(label, OTHER_STYLE.colour, OTHER_STYLE.marker, OTHER_STYLE.line, OTHER_STYLE.hatch)


@contextlib.contextmanager
def _drawing(name: str = "penname") -> Generator[None]:
    import matplotlib

    settings: dict[Any, Any] = {
        "font.size": 9,
        "font.family": "DejaVu Sans",
        "text.color": INK,
        "text.parse_math": False,  # a category may hold dollar signs; it is text, not a formula
        "axes.edgecolor": FAINT,
        "axes.labelcolor": INK,
        "axes.titlesize": 9,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.grid": False,
        "axes.unicode_minus": True,
        "xtick.color": FAINT,
        "xtick.labelcolor": INK,
        "ytick.color": FAINT,
        "ytick.labelcolor": INK,
        "hatch.linewidth": 0.6,
        "legend.frameon": False,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
        "svg.fonttype": "none",
        "svg.hashsalt": name,
    }
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # A category in a script that the font lacks is drawn as boxes in the PNG; that is no reason to fail.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support .* natively")
        yield


def _new_figure(height_inches: float, num_rows: int = 1, **subplots: Any) -> tuple[Figure, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained")
    axes = figure.subplots(num_rows, 1, squeeze=False, **subplots)
    return figure, [row[0] for row in axes]


def _add_legend(figure: Figure, arms: Sequence[str], *, bars: bool = False, lines: bool = False) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    for arm in arms:
        style = condition_style(arm)
        if bars:
            handles.append(Patch(facecolor=style.colour, edgecolor="white", hatch=style.hatch, label=style.label))
        else:
            line = style.line if lines else "none"
            handles.append(Line2D([], [], color=style.colour, marker=style.marker, markersize=5, linestyle=line, label=style.label))
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), handletextpad=0.4, columnspacing=1.4, borderpad=0)


def draw_metric_family(metrics: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws one small panel a metric: a dot and a 95 % interval for each arm, and the real-vs-real reference.

    Args:
      metrics: Dicts with `label`, `direction`, and `values`: arm -> {"value", "ci95", "reference"}, in the unit of the metric.
        At least one. PRIVATE.
    Returns:
      A figure; a dashed line is a reference that all arms share, a short bar one that belongs to an arm.
    """
    arms = [arm for arm in CONDITIONS if any(arm in metric["values"] for metric in metrics)]
    arms += sorted({arm for metric in metrics for arm in metric["values"]} - set(CONDITIONS))
    heights = [0.44 + 0.15 * len(metric["values"]) for metric in metrics]
    with _drawing():
        figure, axes = _new_figure(0.35 + sum(heights), len(metrics), height_ratios=heights)
        for axis, metric in zip(axes, metrics, strict=True):
            _draw_metric(axis, metric, [arm for arm in arms if arm in metric["values"]])
        _add_legend(figure, arms)
    return figure


def _draw_metric(axis: Any, metric: Mapping[str, Any], arms: Sequence[str]) -> None:
    references = {metric["values"][arm]["reference"] for arm in arms} - {None}
    if len(references) == 1:
        axis.axvline(next(iter(references)), color=INK, linewidth=0.9, linestyle=(0, (2, 2)))
    for row, arm in enumerate(arms):
        cell, style = metric["values"][arm], condition_style(arm)
        axis.axhline(-row, color=FAINT, linewidth=0.5, zorder=0)
        if cell["ci95"] is not None:
            axis.plot(cell["ci95"], [-row, -row], color=style.colour, linewidth=2, solid_capstyle="round")
        axis.plot([cell["value"]], [-row], color=style.colour, marker=style.marker, markersize=5.5, linestyle="none")
        if len(references) > 1 and cell["reference"] is not None:
            axis.plot([cell["reference"]], [-row], color=INK, marker="|", markersize=9, linestyle="none")
    arrow = {"higher": " ↑", "lower": " ↓"}.get(metric["direction"], "")
    axis.set_title(f"{_shorten(metric['label'], 50)}{arrow}", fontsize=9, pad=3)
    axis.set_ylim(-len(arms) + 0.4, 0.6)
    axis.set_yticks([])
    axis.locator_params(axis="x", nbins=5)
    axis.margins(x=0.06)
    axis.tick_params(axis="x", labelsize=8, length=2, pad=2)


def _shorten(text: str, num_characters: int) -> str:
    return text if len(text) <= num_characters else text[: num_characters - 1] + "…"


def draw_review_lengths(num_words: Mapping[str, Sequence[int]]) -> Figure:
    """Draws how many words the reviews of each condition have: shares on a logarithmic axis, and boxes below.

    Args:
      num_words: condition -> words of each review; a condition without reviews is left out. At least one has some. PRIVATE.
    Returns:
      A figure. A box spans the middle half, its line the 5th to the 95th percentile, the marker stands at the median.
    """
    shown = {arm: [max(1, n) for n in num_words[arm]] for arm in CONDITIONS if num_words.get(arm)}
    edges = _length_bins(max(max(lengths) for lengths in shown.values()))
    centres = [math.sqrt(low * (high - 1)) for low, high in itertools.pairwise(edges)]
    with _drawing():
        figure, (curves, boxes) = _new_figure(3.3, 2, sharex=True, height_ratios=[3, 1])
        for row, (arm, lengths) in enumerate(shown.items()):
            style = condition_style(arm)
            shares = [sum(low <= n < high for n in lengths) / len(lengths) for low, high in itertools.pairwise(edges)]
            curves.plot(centres, [100 * s for s in shares], color=style.colour, linestyle=style.line, marker=style.marker, markersize=3.5)
            low, left, middle, right, high = _quantiles(lengths, (0.05, 0.25, 0.5, 0.75, 0.95))
            boxes.plot([low, high], [-row, -row], color=style.colour, linewidth=1)
            boxes.plot([left, right], [-row, -row], color=style.colour, linewidth=5, solid_capstyle="butt")
            boxes.plot([middle], [-row], color=style.colour, marker=style.marker, markersize=6, markeredgecolor="white")
        curves.set_xscale("log")
        _label_powers(boxes, edges[-1])
        curves.set_ylim(bottom=0)
        _grid(curves, "y")
        curves.set_ylabel("% of reviews")
        boxes.set_ylim(-len(shown) + 0.4, 0.6)
        boxes.set_yticks([])
        boxes.set_xlabel("words in a review (logarithmic)")
        _add_legend(figure, list(shown), lines=True)
    return figure


def _length_bins(longest: int) -> list[int]:
    """Whole numbers that grow by about two fifths, so that every bin holds at least one length."""
    edges = [1]
    while edges[-1] <= longest:
        edges.append(max(edges[-1] + 1, round(edges[-1] * 1.4)))
    return edges


def _label_powers(axis: Any, highest: float) -> None:
    from matplotlib.ticker import NullLocator

    ticks = [tick for tick in (1, 3, 10, 30, 100, 300, 1000, 3000, 10000, 30000, 100000) if tick <= highest]
    axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axis.xaxis.set_minor_locator(NullLocator())


def _quantiles(values: Sequence[float], at: Sequence[float]) -> list[float]:
    import numpy as np

    return [float(q) for q in np.quantile(values, at)]


def _grid(axis: Any, which: str) -> None:
    axis.grid(axis=which, color=FAINT, linewidth=0.5)
    axis.set_axisbelow(True)


def draw_rating_shares(counts: Mapping[str, Mapping[int, int]]) -> Figure:
    """Draws the share of each rating as grouped bars.

    Args:
      counts: condition -> rating -> reviews; a condition without reviews is left out. PRIVATE.
    """
    shown = {arm: counts[arm] for arm in CONDITIONS if sum(counts.get(arm, {}).values())}
    ratings = range(1, 6)
    width = 0.8 / max(1, len(shown))
    with _drawing():
        figure, (axis,) = _new_figure(2.6)
        for num, (arm, by_rating) in enumerate(shown.items()):
            style, total = condition_style(arm), sum(by_rating.values())
            at = [rating + (num - (len(shown) - 1) / 2) * width for rating in ratings]
            shares = [100 * by_rating.get(rating, 0) / total for rating in ratings]
            axis.bar(at, shares, width, color=style.colour, edgecolor="white", linewidth=0.6, hatch=style.hatch)
        axis.set_xticks(list(ratings), [f"{rating} ★" for rating in ratings])
        axis.tick_params(axis="x", length=0)
        axis.set_ylabel("% of reviews")
        _grid(axis, "y")
        _add_legend(figure, list(shown), bars=True)
    return figure


def draw_category_shares(counts: Mapping[str, Mapping[str, int]]) -> Figure:
    """Draws the share of each category as dots on one line a category, the most frequent ones first.

    Args:
      counts: condition -> category -> reviews; names must already be fit to show. PRIVATE.
    Returns:
      A figure with at most `MAX_CATEGORIES` lines; the rest is summed as `other`.
    """
    shown = {arm: counts[arm] for arm in CONDITIONS if sum(counts.get(arm, {}).values())}
    names, shares = pool_category_shares(shown)
    with _drawing():
        figure, (axis,) = _new_figure(0.75 + 0.26 * len(names))
        for row in range(len(names)):
            axis.axhline(-row, color=FAINT, linewidth=0.5, zorder=0)
        for num, arm in enumerate(shown):
            style = condition_style(arm)
            at = [-row - (num - (len(shown) - 1) / 2) * 0.16 for row in range(len(names))]
            axis.plot([100 * s for s in shares[arm]], at, color=style.colour, marker=style.marker, markersize=5, linestyle="none")
        axis.set_yticks([-row for row in range(len(names))], [_shorten(name, 28) for name in names])
        axis.tick_params(axis="y", length=0)
        axis.set_ylim(-len(names) + 0.4, 0.6)
        axis.set_xlim(left=0)
        axis.margins(x=0.06)
        axis.set_xlabel("% of reviews")
        _add_legend(figure, list(shown))
    return figure


def pool_category_shares(counts: Mapping[str, Mapping[str, int]]) -> tuple[list[str], dict[str, list[float]]]:
    """The categories to show, by the largest share they have anywhere, and each condition's shares in that order.

    Returns:
      Names, and condition -> shares from 0 to 1; beyond `MAX_CATEGORIES` the rest is one `other`.
    """
    totals = {arm: sum(by_category.values()) for arm, by_category in counts.items()}
    every = {name for by_category in counts.values() for name in by_category}
    ordered = sorted(every, key=lambda name: (-max(counts[arm].get(name, 0) / totals[arm] for arm in counts), name))
    kept = ordered if len(ordered) <= MAX_CATEGORIES else ordered[: MAX_CATEGORIES - 1]
    shares = {arm: [counts[arm].get(name, 0) / totals[arm] for name in kept] for arm in counts}
    if len(kept) < len(ordered):
        for arm in counts:
            shares[arm].append(1 - sum(shares[arm]))
        kept = [*kept, f"other ({len(ordered) - len(kept)})"]
    return kept, shares


def draw_training_loss(losses: Mapping[str, Sequence[tuple[int, float]]]) -> Figure:
    """Draws the training loss of each arm by step.

    Args:
      losses: arm -> (step, mean loss of the step's records in nats a token). PRIVATE.
    """
    shown = {arm: losses[arm] for arm in CONDITIONS if losses.get(arm)}
    with _drawing():
        figure, (axis,) = _new_figure(2.5)
        for arm, points in shown.items():
            style = condition_style(arm)
            steps, values = zip(*points, strict=True)
            every = max(1, len(points) // 8)
            axis.plot(steps, values, color=style.colour, linestyle=style.line, marker=style.marker, markersize=4, markevery=every)
        axis.set_xlabel("step")
        axis.set_ylabel("loss (nats a token)")
        axis.xaxis.get_major_locator().set_params(integer=True)
        _grid(axis, "y")
        _add_legend(figure, list(shown), lines=True)
    return figure


def draw_gradients(points: Sequence[Mapping[str, float | None]]) -> Figure:
    """Draws, for the arm with DP, how many units were clipped in each step and how long signal and noise were.

    Args:
      points: Dicts with `step` and, each a number or None, `clipped_frac`, `sum_norm` (of the clipped sum, gradient units) and
        `update_norm` (the same with noise). At least one of them is there. PRIVATE.
    """
    style = CONDITIONS["with_dp"]
    drawn = [
        ("% clipped", [("clipped_frac", "", style.colour, style.line, style.marker)]),
        ("norm", [("sum_norm", "signal", style.colour, style.line, style.marker), ("update_norm", "signal + noise", INK, ":", "")]),
    ]
    panels = [(label, found) for label, lines in drawn if (found := [line for line in lines if _series(points, line[0])])]
    with _drawing():
        figure, axes = _new_figure(0.5 + 1.2 * len(panels), len(panels), sharex=True)
        for axis, (label, lines) in zip(axes, panels, strict=True):
            for key, name, colour, line, marker in lines:
                steps, values = zip(*_series(points, key), strict=True)
                every = max(1, len(steps) // 8)
                axis.plot(steps, values, color=colour, linestyle=line, marker=marker, markersize=4, markevery=every, label=name)
            axis.set_ylim(0, 105 if lines[0][0] == "clipped_frac" else None)
            axis.set_ylabel(label)
            _grid(axis, "y")
            if lines[0][1]:
                axis.legend(loc="best", fontsize=8)
        axes[-1].set_xlabel("step")
        axes[-1].xaxis.get_major_locator().set_params(integer=True)
    return figure


def _series(points: Sequence[Mapping[str, float | None]], key: str) -> list[tuple[float, float]]:
    factor = 100 if key.endswith("_frac") else 1
    return [(float(step), factor * value) for point in points if (step := point["step"]) is not None and (value := point[key]) is not None]


def save_figure(figure: Figure, folder: Path, name: str) -> Path:
    """Writes `name.png` and `name.svg` into `folder`, without dates or versions; returns the path of the SVG."""
    with _drawing(name):
        figure.savefig(folder / f"{name}.png", dpi=144, facecolor="white", metadata={"Software": None})
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
    return folder / f"{name}.svg"


def inline_svg(svg: str, name: str, description: str) -> str:
    """Makes a saved SVG part of a page: no prolog, ids of its own, the page's colours, a description for screen readers.

    Args:
      svg: What `save_figure` wrote; matplotlib has escaped the text in it.
      name: Prefix for ids; letters, digits and underscores.
      description: Plain text for people who do not see the figure.
    Returns:
      One `<svg>` element.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r"\s*<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    body = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', body)
    for colour, on_page in _PAGE_COLOURS.items():
        body = body.replace(colour, on_page)
    body = re.sub(r' (?:width|height|version|xmlns(?::xlink)?)="[^"]*"', "", body[: body.index(">")]) + body[body.index(">") :]
    return body.replace("<svg", f'<svg role="img" aria-label={quoteattr(description)}', 1)
