"""Which figures of fidelity and of people's judgement a run has, each with one sentence that says what it shows in this run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penname.errors import RunDirError
from penname.report import fidelity_figures, human_figures
from penname.report.figures import condition_style
from penname.report.metric_tables import format_number, order_arms
from penname.report.untrusted_text import spell_out_hidden
from penname.run_dir import ARTEFACTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIDELITY_RESULT = "fidelity_evaluation_result"
HUMAN_RESULT = "utility_evaluation_result_2"
"""Names of the pictures in the system that penname set out from."""


@dataclass(frozen=True)
class FidelityFigure:
    """One figure: what it is called, what it says, how it is drawn."""

    name: str
    title: str
    caption: str
    draw: Callable[[], Figure]
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    """The numbers behind it; none where they would be a table of coordinates. PRIVATE."""


def plan_fidelity_figures(data: Mapping[str, Any]) -> list[FidelityFigure]:
    """The figures that the evaluation left numbers for.

    Args:
      data: Of `utility_page.read_figure_data`. PRIVATE.
    Raises:
      RunDirError: the data are not in the form in which they were written.
    """
    try:
        return [*_plan_neighbours(data), *_plan_map(data), *_plan_words(data), *_plan_correlations(data)]
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, ZeroDivisionError):
        raise RunDirError(f"{ARTEFACTS['figure_data'].path}: is damaged; run `penname evaluate` again") from None


def _label(arm: str) -> str:
    return condition_style(arm).label


def _synthetic(arms: Sequence[str]) -> list[str]:
    return [arm for arm in arms if arm != "real"]


def _join(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _plan_neighbours(data: Mapping[str, Any]) -> list[FidelityFigure]:
    cosines = {arm: [float(value) for value in values] for arm, values in data.get("nearest_neighbours", {}).items() if values}
    if "real" not in cosines:
        return []
    arms = order_arms(set(cosines))
    means = {arm: sum(cosines[arm]) / len(cosines[arm]) for arm in arms}
    said = _join([f"{format_number(means[arm])} ({_label(arm)})" for arm in _synthetic(arms)])
    caption = (
        f"Each review is compared with the real test review nearest to it. The mean cosine is {said}; other real reviews, drawn as Real, "
        f"reach {format_number(means['real'])}. Closer than real would mean copies, or one kind of text over and over."
    )
    rows = [[_label(arm), f"{len(cosines[arm]):,}", format_number(means[arm]), *(format_number(q) for q in _quartiles(cosines[arm]))] for arm in arms]
    return [
        FidelityFigure(
            FIDELITY_RESULT,
            "Likeness to the nearest real review",
            caption,
            lambda: fidelity_figures.draw_nearest_neighbours(cosines),
            ["", "Reviews drawn", "Mean", "Lower quarter", "Median", "Upper quarter"],
            rows,
        )
    ]


def _quartiles(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    return [ordered[round(share * (len(ordered) - 1))] for share in (0.25, 0.5, 0.75)]


def _plan_map(data: Mapping[str, Any]) -> list[FidelityFigure]:
    points = {arm: [(float(x), float(y)) for x, y in own] for arm, own in data.get("embedding_map", {}).items() if own}
    arms = order_arms(set(points))
    if "real" not in points or len(arms) < 2:
        return []
    empty = {arm: _frac_alone(points["real"], points[arm]) for arm in _synthetic(arms)}
    said = _join([f"{100 * share:.0f} % ({_label(arm)})" for arm, share in empty.items()])
    caption = (
        f"Texts that mean similar things lie near each other (t-SNE of embeddings, {len(points['real'])} a set; distances across the map mean little). "
        f"Grey: all other sets. Of the places where real reviews lie, so much has no synthetic review nearby: {said}."
    )
    return [FidelityFigure("embedding_map", "Map of the reviews", caption, lambda: fidelity_figures.draw_map(points))]


def _frac_alone(real: Sequence[tuple[float, float]], others: Sequence[tuple[float, float]], num_cells: int = 8) -> float:
    """Share of the cells of a grid with real points that hold no point of the others."""
    cells, filled = ({(min(int(x * num_cells), num_cells - 1), min(int(y * num_cells), num_cells - 1)) for x, y in points} for points in (real, others))
    return len(cells - filled) / len(cells)


def _plan_words(data: Mapping[str, Any]) -> list[FidelityFigure]:
    drawn = data.get("word_shares")
    if not drawn or not drawn["words"]:
        return []
    words, real = [str(word) for word in drawn["words"]], [float(share) for share in drawn["test"]]
    shares = {arm: [float(share) for share in own] for arm, own in drawn["sets"].items()}
    synthetic = {arm: shares[arm] for arm in _synthetic(order_arms(set(shares)))}
    if not synthetic:
        return []
    floor = min(real) / 3
    twice = {arm: sum(not 0.5 <= max(floor, a) / b <= 2 for a, b in zip(own, real, strict=True)) for arm, own in shares.items()}
    said = _join([f"{twice[arm]} ({_label(arm)})" for arm in synthetic])
    between = f"; between two sets of real reviews {twice['real']}" if "real" in twice else ""
    caption = (
        f"The {len(words)} commonest words of real reviews; on the dashed line a set uses a word as often, at the bottom never. Words that it uses "
        f"more than twice as often, or less than half: {said}{between}."
    )
    order = fidelity_figures.furthest_words(real, [max(floor, share) for share in next(reversed(synthetic.values()))], 12)
    arms = list(synthetic)
    rows = [[spell_out_hidden(words[place]), format_number(real[place]), *(format_number(synthetic[arm][place]) for arm in arms)] for place in order]
    return [
        FidelityFigure(
            "word_frequencies",
            "Word frequencies",
            caption,
            lambda: fidelity_figures.draw_word_shares(words, real, synthetic),
            ["Uses in a thousand words", "Real", *(_label(arm) for arm in arms)],
            rows,
        )
    ]


def _plan_correlations(data: Mapping[str, Any]) -> list[FidelityFigure]:
    drawn = data.get("correlations")
    if not drawn or "real" not in drawn["sets"]:
        return []
    attributes = [str(name) for name in drawn["attributes"]]
    matrices = {arm: [[float(value) for value in row] for row in rows] for arm, rows in drawn["sets"].items()}
    arms = order_arms(set(matrices))
    rating, sentiment = attributes.index("rating"), attributes.index("sentiment")
    said = _join([f"{matrices[arm][rating][sentiment]:+.2f} ({_label(arm)})" for arm in _synthetic(arms)])
    known = f"{matrices['real'][rating][sentiment]:+.2f}"
    caption = f"How strongly attributes of a review go together, from −1 to +1. Rating and sentiment of the text: {known} in real reviews"
    caption += f", {said}." if said else "."
    pairs = [(row, column) for row in range(len(attributes)) for column in range(row)]
    rows = [[f"{attributes[a]} and {attributes[b]}", *(f"{matrices[arm][a][b]:+.2f}" for arm in arms)] for a, b in pairs]
    return [
        FidelityFigure(
            "attribute_correlations",
            "What goes together",
            caption,
            lambda: fidelity_figures.draw_correlations(attributes, matrices),
            ["Correlation", *(_label(arm) for arm in arms)],
            rows,
        )
    ]


def plan_human_figures(summary: Mapping[str, Any] | None) -> list[FidelityFigure]:
    """The counts of what people said, where anybody has judged.

    Args:
      summary: The artefact human_summary; None where nobody has. PRIVATE.
    Raises:
      RunDirError: the summary is damaged.
    """
    if summary is None:
        return []
    try:
        names = {str(key): str(label) for key, label in summary["categories"].items()}
        judged = {str(arm): int(num) for arm, num in summary["num_judged"].items() if num}
        counts = {arm: {names[key]: int(num) for key, num in summary["counts"].get(arm, {}).items()} for arm in judged}
        num_raters = int(summary["num_raters"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise RunDirError(f"{ARTEFACTS['human_summary'].path}: is damaged; write it again with `penname ratings`") from None
    if not judged:
        return []
    arms, labels = order_arms(set(judged)), list(names.values())
    good = _join([f"{100 * counts[arm].get(labels[0], 0) / judged[arm]:.0f} % ({_label(arm)})" for arm in arms])
    caption = f"What {num_raters} {'person' if num_raters == 1 else 'people'} said without knowing where a review came from. Called good: {good}."
    return [
        FidelityFigure(
            HUMAN_RESULT,
            "Judged by people",
            caption,
            lambda: human_figures.draw_labels(labels, counts, judged),
            ["Label", *(f"{_label(arm)}, of {judged[arm]:,}" for arm in arms)],
            [[label, *(f"{counts[arm].get(label, 0):,}" for arm in arms)] for label in labels],
        )
    ]
