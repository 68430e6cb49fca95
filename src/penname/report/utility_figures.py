"""The figures of utility: accuracies, what features do, confusion of ratings, learning curves; the same bytes for the same numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from penname.report.figures import CONDITIONS, FAINT, INK, _add_legend, _drawing, _grid, _new_figure, _shorten, condition_style
from penname.report.metric_tables import order_arms
from penname.report.untrusted_text import spell_out_hidden
from penname.schemas import RATINGS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BAR = 0.15
"""Height of a bar, in inches."""


def draw_accuracies(groups: Sequence[Mapping[str, Any]], *, guess: float | None) -> Figure:
    """Draws accuracies on real reviews as bars: a group a classifier, a bar a training set, its 95 % interval on it.

    Args:
      groups: Dicts with `label` and `values`: arm -> {"value", "ci95"}. At least one. PRIVATE.
      guess: What always saying the commoner answer scores; a dashed line through the groups with `sentiment`.
    """
    arms = order_arms({arm for group in groups for arm in group["values"]})
    heights = [0.42 + _BAR * len(group["values"]) for group in groups]
    with _drawing():
        figure, axes = _new_figure(0.7 + sum(heights), len(groups), height_ratios=heights, sharex=True)
        for axis, group in zip(axes, groups, strict=True):
            for row, arm in enumerate(arm for arm in arms if arm in group["values"]):
                cell, style = group["values"][arm], condition_style(arm)
                axis.barh(-row, 100 * cell["value"], 0.8, color=style.colour, edgecolor="white", linewidth=0.6, hatch=style.hatch)
                if cell["ci95"] is not None:
                    _whisker(axis, [100 * bound for bound in cell["ci95"]], -row)
            if guess is not None and group.get("sentiment"):
                axis.axvline(100 * guess, color=INK, linewidth=0.9, linestyle=(0, (2, 2)))
            axis.set_title(_shorten(group["label"], 58), pad=3)
            axis.set_yticks([])
            axis.set_xlim(0, 100)
            axis.tick_params(axis="x", labelsize=8, length=2, pad=2)
            _grid(axis, "x")
        axes[-1].set_xlabel("% of real reviews right")
        _add_legend(figure, arms, bars=True)
    return figure


def _whisker(axis: Any, bounds: Sequence[float], at: float, *, linewidth: float = 1.2) -> None:
    """An interval that is seen on a bar and beside it."""
    axis.plot(bounds, [at, at], color="white", linewidth=linewidth + 1.6, solid_capstyle="round", zorder=3)
    axis.plot(bounds, [at, at], color=INK, linewidth=linewidth, solid_capstyle="round", zorder=4)


def draw_feature_importance(features: Sequence[str], values: Mapping[str, Sequence[float]]) -> Figure:
    """Draws what features do in each set's classifier: to the right they speak for a good rating, to the left against it.

    Args:
      features: Names, the strongest for a good rating first; at least one. PRIVATE, never trusted.
      values: condition -> mean absolute SHAP value of each, with its sign; a condition that is not there is left out.
    """
    arms = order_arms(set(values))
    step = 0.8 / len(arms)
    with _drawing():
        figure, (axis,) = _new_figure(0.8 + (0.1 + _BAR * 0.75 * len(arms)) * len(features))
        for num, arm in enumerate(arms):
            style = condition_style(arm)
            at = [-row - (num - (len(arms) - 1) / 2) * step for row in range(len(features))]
            axis.barh(at, values[arm], step, color=style.colour, edgecolor="white", linewidth=0.4, hatch=style.hatch)
        axis.axvline(0, color=INK, linewidth=0.9)
        axis.set_yticks([-row for row in range(len(features))], [_shorten(spell_out_hidden(name), 22) for name in features])
        axis.tick_params(axis="y", length=0)
        axis.set_ylim(-len(features) + 0.4, 0.6)
        axis.locator_params(axis="x", nbins=5)
        figure.supxlabel("← against a good rating      for it →\nmean |SHAP|, log odds", fontsize=9)
        _grid(axis, "x")
        _add_legend(figure, arms, bars=True)
    return figure


def draw_confusion(counts: Mapping[str, Sequence[Sequence[int]]]) -> Figure:
    """Draws which ratings a tuned model gives to reviews of each true rating: a panel an arm, shares of each row.

    Args:
      counts: arm -> 5 rows of true ratings, 5 columns of predicted ones; at least one arm. PRIVATE.
    """
    arms = [arm for arm in ("base", *CONDITIONS) if arm in counts]
    arms += sorted(set(counts) - set(arms))
    num_rows = -(-len(arms) // 2)
    with _drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(3.9, 0.3 + 2.05 * num_rows), layout="constrained")
        axes = figure.subplots(num_rows, 2, squeeze=False)
        for axis in axes.flat[len(arms) :]:
            axis.axis("off")
        for axis, arm in zip(axes.flat, arms, strict=False):
            _draw_confusion(axis, counts[arm])
            axis.set_title(_shorten(condition_style(arm).label, 26), pad=3)
        for axis in axes[:, 0]:
            axis.set_ylabel("true rating")
        for place in (len(arms) - 1, len(arms) - 2):
            if place >= 0:
                axes.flat[place].set_xlabel("rating given")
    return figure


def _draw_confusion(axis: Any, rows: Sequence[Sequence[int]]) -> None:
    shares = [[100 * count / sum(row) if sum(row) else None for count in row] for row in rows]
    shown = [[0.0 if share is None else share for share in row] for row in shares]
    # One hue from white to dark reads in grey too, and with any colour vision.
    axis.imshow(shown, cmap="Blues", vmin=0, vmax=100, aspect="equal")
    for true, row in enumerate(shares):
        for given, share in enumerate(row):
            text = "–" if share is None else f"{share:.0f}"
            # White on dark, black on light; the two greys are outside the page's colour scheme, as the cells behind them are.
            axis.text(given, true, text, ha="center", va="center", fontsize=8, color="#ffffff" if share is not None and share > 55 else "#101418")
    axis.set_xticks(range(len(RATINGS)), [str(rating) for rating in RATINGS])
    axis.set_yticks(range(len(RATINGS)), [f"{rating} ★" for rating in RATINGS])
    axis.tick_params(length=0, labelsize=8)
    for spine in axis.spines.values():
        spine.set_visible(False)


def draw_augmentation(points: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws accuracy on real reviews against the number of real reviews learned from, with synthetic ones added and without.

    Args:
      points: Dicts with `num_real` and `arms`: arm -> {"value", "ci95"}, `real` being the real reviews alone. At least one. PRIVATE.
    """
    arms = order_arms({arm for point in points for arm in point["arms"]})
    with _drawing():
        figure, (axis,) = _new_figure(2.8)
        for num, arm in enumerate(arms):
            style = condition_style(arm)
            own = [(point["num_real"], point["arms"][arm]) for point in points if arm in point["arms"]]
            # A little aside, so that no interval hides another.
            at = [num_real * 1.05 ** (num - (len(arms) - 1) / 2) for num_real, _ in own]
            axis.plot(at, [100 * cell["value"] for _, cell in own], color=style.colour, linestyle=style.line, marker=style.marker, markersize=4.5)
            for x, (_, cell) in zip(at, own, strict=True):
                axis.plot([x, x], [100 * bound for bound in cell["ci95"]], color=style.colour, linewidth=1)
        axis.set_xscale("log")
        from matplotlib.ticker import NullLocator

        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xticks([point["num_real"] for point in points], [f"{point['num_real']:,}" for point in points])
        axis.set_xlabel("real reviews learned from (logarithmic)")
        axis.set_ylabel("% of real reviews right")
        axis.tick_params(axis="x", color=FAINT)
        _grid(axis, "y")
        _add_legend(figure, arms, lines=True)
    return figure
