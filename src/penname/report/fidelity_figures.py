"""The figures of fidelity: likeness to the nearest real review, the map, word frequencies, correlations; the same bytes for the same numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from penname.report.figures import FAINT, INK, WIDTH_INCHES, _add_legend, _drawing, _grid, _new_figure, _shorten, condition_style
from penname.report.metric_tables import order_arms
from penname.report.untrusted_text import spell_out_hidden

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NUM_BINS = 24
_NUM_NAMED = 6


def draw_nearest_neighbours(cosines: Mapping[str, Sequence[float]]) -> Figure:
    """Draws how alike the texts of each set are to their nearest real text: shares by cosine, and a line at each mean.

    Args:
      cosines: arm -> cosines; `real` is heldout against test, the reference. At least one arm has some. PRIVATE.
    """
    import numpy as np

    arms = [arm for arm in order_arms(set(cosines)) if cosines[arm]]
    lowest = min(min(cosines[arm]) for arm in arms)
    edges = np.linspace(min(lowest, 0.95), 1.0, _NUM_BINS + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    with _drawing():
        figure, (axis,) = _new_figure(2.7)
        for arm in arms:
            style, own = condition_style(arm), np.clip(np.asarray(cosines[arm]), edges[0], 1.0)
            shares = 100 * np.histogram(own, edges)[0] / len(own)
            axis.plot(centres, shares, color=style.colour, linestyle=style.line, marker=style.marker, markersize=3.2, linewidth=1.4, markevery=2)
            axis.plot([own.mean()] * 2, [0, 0.09], color=style.colour, linewidth=2.4, transform=axis.get_xaxis_transform())
        axis.set_ylim(bottom=0)
        axis.set_xlabel("cosine to the nearest real review (stroke: mean)")
        axis.set_ylabel("% of reviews")
        _grid(axis, "y")
        _add_legend(figure, arms, lines=True)
    return figure


def draw_map(points: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """Draws texts on one plane: a panel an arm, its texts in colour over those of all other sets in grey.

    Args:
      points: arm -> [x, y] from 0 to 1, at least one. PRIVATE.
    """
    arms = [arm for arm in order_arms(set(points)) if points[arm]]
    num_rows = -(-len(arms) // 2)
    with _drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(WIDTH_INCHES, 2.05 * num_rows), layout="constrained")
        axes = figure.subplots(num_rows, 2, squeeze=False)
        for axis in axes.flat:
            axis.axis("off")
        for axis, arm in zip(axes.flat, arms, strict=False):
            style = condition_style(arm)
            for other in arms:
                if other != arm:
                    axis.plot(*zip(*points[other], strict=True), color=FAINT, marker=".", markersize=2.2, linestyle="none")
            axis.plot(*zip(*points[arm], strict=True), color=style.colour, marker=style.marker, markersize=2.6, markeredgewidth=0, linestyle="none")
            axis.set_title(_shorten(style.label, 26), pad=2)
            axis.set_aspect("equal")
            axis.set_xlim(-0.03, 1.03)
            axis.set_ylim(-0.03, 1.03)
    return figure


def draw_word_shares(words: Sequence[str], real: Sequence[float], shares: Mapping[str, Sequence[float]]) -> Figure:
    """Draws how often each of the commonest real words stands in a set against how often it stands in real text: a panel an arm.

    Args:
      words: PRIVATE, never trusted; at least one.
      real: Uses in a thousand words of test, above 0.
      shares: arm -> the same in the set; at least one arm.
    """
    arms = order_arms(set(shares))
    floor = min(real) / 3
    with _drawing():
        figure, axes = _new_figure(0.2 + 2.5 * len(arms), len(arms), sharex=True, sharey=True)
        for axis, arm in zip(axes, arms, strict=True):
            style, own = condition_style(arm), [max(floor, share) for share in shares[arm]]
            axis.plot([floor, max(real)], [floor, max(real)], color=INK, linewidth=0.9, linestyle=(0, (2, 2)))
            axis.plot(real, own, color=style.colour, marker=style.marker, markersize=3, markeredgewidth=0, linestyle="none")
            # Those that are not used at all lie at the bottom, on each other; naming them would be a blot.
            named = [place for place in furthest_words(real, own, len(own)) if own[place] > floor][:_NUM_NAMED]
            for place in named:
                axis.annotate(_shorten(spell_out_hidden(words[place]), 14), (real[place], own[place]), (3, 2), textcoords="offset points", fontsize=7)
            axis.set_xscale("log")
            axis.set_yscale("log")
            _plain_ticks(axis)
            axis.set_title(style.label if arm != "real" else "Other real reviews", pad=3)
            axis.set_ylabel("in this set")
        axes[-1].set_xlabel("uses in a thousand words of real reviews")
    return figure


def _plain_ticks(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    for line in (axis.xaxis, axis.yaxis):
        line.set_major_locator(LogLocator(numticks=6))
        line.set_minor_locator(NullLocator())
        line.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def furthest_words(real: Sequence[float], own: Sequence[float], num_words: int) -> list[int]:
    """Places of the words whose shares differ by the largest factor, the largest first."""
    factors = [max(a / b, b / a) for a, b in zip(real, own, strict=True)]
    return sorted(range(len(factors)), key=lambda place: (-factors[place], place))[:num_words]


def draw_correlations(attributes: Sequence[str], matrices: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """Draws correlations between attributes as a heatmap a set, with the numbers in the cells.

    Args:
      attributes: K names, ours.
      matrices: arm -> (K, K) correlations; `real` is test. PRIVATE.
    """
    arms = order_arms(set(matrices))
    size = len(attributes)
    with _drawing():
        figure, axes = _new_figure(0.3 + 2.1 * len(arms), len(arms), sharex=True)
        for axis, arm in zip(axes, arms, strict=True):
            # Blue to red through white, and the sign stands in the cell: grey prints and any colour vision can read it.
            axis.imshow(matrices[arm], cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
            for row in range(size):
                for column in range(size):
                    value = matrices[arm][row][column]
                    colour = "#ffffff" if abs(value) > 0.62 else "#101418"
                    axis.text(column, row, f"{value:+.2f}" if row != column else "1", ha="center", va="center", fontsize=7, color=colour)
            axis.set_yticks(range(size), list(attributes))
            axis.tick_params(length=0, labelsize=8)
            axis.set_title(condition_style(arm).label, pad=3)
            for spine in axis.spines.values():
                spine.set_visible(False)
        axes[-1].set_xticks(range(size), list(attributes), rotation=35, ha="right")
    return figure
