"""The figure of what people saw: how many reviews of each set were given each label; the same bytes for the same numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from penname.report.figures import _add_legend, _drawing, _grid, _new_figure, condition_style
from penname.report.metric_tables import order_arms

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_labels(categories: Sequence[str], counts: Mapping[str, Mapping[str, int]], num_judged: Mapping[str, int]) -> Figure:
    """Draws the share of the judged reviews of each set that got each label, with the count at the end of the bar.

    Args:
      categories: Labels, ours, in order; at least one.
      counts: arm -> label -> reviews; several labels may apply to one. PRIVATE.
      num_judged: arm -> reviews judged, above 0.
    """
    arms = order_arms(set(counts))
    step = 0.8 / len(arms)
    with _drawing():
        figure, (axis,) = _new_figure(0.7 + (0.15 + 0.14 * len(arms)) * len(categories))
        for num, arm in enumerate(arms):
            style = condition_style(arm)
            at = [-row - (num - (len(arms) - 1) / 2) * step for row in range(len(categories))]
            shares = [100 * counts[arm].get(name, 0) / num_judged[arm] for name in categories]
            axis.barh(at, shares, step, color=style.colour, edgecolor="white", linewidth=0.5, hatch=style.hatch)
            for place, share, name in zip(at, shares, categories, strict=True):
                axis.annotate(f"{counts[arm].get(name, 0):,}", (share, place), (3, 0), textcoords="offset points", va="center", fontsize=7)
        axis.set_yticks([-row for row in range(len(categories))], [name.replace("_", " ") for name in categories])
        axis.tick_params(axis="y", length=0)
        axis.set_ylim(-len(categories) + 0.4, 0.6)
        axis.set_xlim(0, 108)
        axis.set_xlabel("% of the reviews judged (number: reviews)")
        _grid(axis, "x")
        _add_legend(figure, arms, bars=True)
    return figure
