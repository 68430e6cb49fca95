"""The figures of an audit: curves of the membership attacks, exposure and leaks by repetition; the same bytes for the same numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from penname.report.figures import INK, _add_legend, _drawing, _grid, _new_figure, condition_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SMALLEST_RATE = 1e-3
WAYS = {"generated": "in generated reviews", "asked": "asked for by its record's prompt", "begun": "asked for by its beginning"}
"""How a canary may come out, in words."""
LEVELS = {"record": "records: trained on or not", "user": "users: trained on or not", "canary": "canaries: planted or not"}


def draw_attack_curves(curves: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws true against false positives on logarithmic axes, a panel a question, a line an arm.

    Args:
      curves: Rows with arm, level, and fprs and tprs of one length. At least one. PRIVATE.
    Returns:
      A figure; the dashed line is guessing. Rates below one in a thousand are not drawn.
    """
    levels = [level for level in LEVELS if any(curve["level"] == level for curve in curves)]
    arms = _list_arms(curves)
    with _drawing():
        figure, axes = _new_figure(0.4 + 2.5 * len(levels), len(levels))
        for axis, level in zip(axes, levels, strict=True):
            axis.plot([_SMALLEST_RATE, 1], [_SMALLEST_RATE, 1], color=INK, linewidth=0.9, linestyle=(0, (2, 2)))
            for curve in (curve for curve in curves if curve["level"] == level):
                style = condition_style(curve["arm"])
                points = _steps(curve["fprs"], curve["tprs"])
                every = max(1, len(points) // 10)
                axis.plot(*zip(*points, strict=True), color=style.colour, linestyle=style.line, marker=style.marker, markersize=3.5, markevery=every)
            _scale_logarithmically(axis)
            axis.set_title(LEVELS[level])
            axis.set_ylabel("members found")
            _grid(axis, "both")
        axes[-1].set_xlabel("others taken for members")
        _add_legend(figure, arms, lines=True)
    return figure


def _scale_logarithmically(axis: Any) -> None:
    from matplotlib.ticker import NullLocator

    ticks = {0.001: "0.1 %", 0.01: "1 %", 0.1: "10 %", 1.0: "100 %"}
    axis.set_xscale("log")
    axis.set_yscale("log")
    for own in (axis.xaxis, axis.yaxis):
        own.set_ticks(list(ticks), list(ticks.values()))
        own.set_minor_locator(NullLocator())
    axis.set_xlim(_SMALLEST_RATE, 1.15)
    axis.set_ylim(_SMALLEST_RATE, 1.3)


def _steps(fprs: Sequence[float], tprs: Sequence[float]) -> list[tuple[float, float]]:
    """The curve from the smallest rate drawn; zero has no logarithm."""
    before = [tpr for fpr, tpr in zip(fprs, tprs, strict=True) if fpr <= _SMALLEST_RATE]
    start = (_SMALLEST_RATE, max([*before, 0.0]))
    points = [start, *((fpr, tpr) for fpr, tpr in zip(fprs, tprs, strict=True) if fpr > _SMALLEST_RATE)]
    return [(fpr, max(tpr, _SMALLEST_RATE)) for fpr, tpr in points]


def draw_exposure(rows: Sequence[Mapping[str, Any]], *, unexposed_bits: float) -> Figure:
    """Draws mean exposure with its interval by the number of records that hold a canary.

    Args:
      rows: Of one way of measuring, with arm, num_repetitions, mean_bits, ci95 and ceiling_bits. At least one. PRIVATE.
      unexposed_bits: What a canary has that the model never saw.
    """
    ceilings = [row["ceiling_bits"] for row in rows if row["ceiling_bits"] is not None]
    with _drawing():
        figure, (axis,) = _new_figure(2.7)
        _draw_by_repetition(axis, rows, lambda row: (row["mean_bits"], row["ci95"]))
        axis.axhline(unexposed_bits, color=INK, linewidth=0.9, linestyle=(0, (2, 2)))
        if ceilings:
            axis.axhline(max(ceilings), color=INK, linewidth=0.9, linestyle=":")
        axis.set_ylim(bottom=0)
        axis.set_ylabel("exposure (bits)")
        axis.set_xlabel("records that hold the canary")
        _add_legend(figure, _list_arms(rows), lines=True)
    return figure


def draw_leaks(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws the share of the canaries that came out, by the number of records that hold one; a panel a way.

    Args:
      rows: Exact matches of any part, with arm, way, num_repetitions (0: left out), num_canaries, num_leaked and leaked_ci95. At least one. PRIVATE.
    """
    ways = [way for way in WAYS if any(row["way"] == way for row in rows)]
    with _drawing():
        figure, axes = _new_figure(0.4 + 1.7 * len(ways), len(ways), sharex=True)
        for axis, way in zip(axes, ways, strict=True):
            own = [row for row in rows if row["way"] == way]
            planted = [row for row in own if row["num_repetitions"]]
            _draw_by_repetition(axis, planted, lambda row: (100 * row["num_leaked"] / row["num_canaries"], [100 * bound for bound in row["leaked_ci95"]]))
            axis.set_ylim(-4, 104)
            axis.set_ylabel("% found")
            axis.set_title(WAYS[way])
        axes[-1].set_xlabel("records that hold the canary")
        _add_legend(figure, _list_arms(rows), lines=True)
    return figure


def _list_arms(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Without and with DP, in that order everywhere."""
    return sorted({row["arm"] for row in rows})


def _draw_by_repetition(axis: Any, rows: Sequence[Mapping[str, Any]], read: Any) -> None:
    """A line an arm over the repetitions, which stand at equal distances; arms a little beside each other, so that intervals do not hide one another."""
    repetitions = sorted({row["num_repetitions"] for row in rows})
    arms = _list_arms(rows)
    for num, arm in enumerate(arms):
        own, style = sorted((row for row in rows if row["arm"] == arm), key=lambda row: row["num_repetitions"]), condition_style(arm)
        at = [repetitions.index(row["num_repetitions"]) + (num - (len(arms) - 1) / 2) * 0.12 for row in own]
        found = [read(row) for row in own]
        axis.plot(at, [value for value, _ in found], color=style.colour, linestyle=style.line, marker=style.marker, markersize=5)
        for place, (_, interval) in zip(at, found, strict=True):
            axis.plot([place, place], interval, color=style.colour, linewidth=1.6, solid_capstyle="round")
    axis.set_xticks(range(len(repetitions)), [f"{repetition:,}" for repetition in repetitions])
    axis.set_xlim(-0.4, len(repetitions) - 0.6)
    _grid(axis, "y")
