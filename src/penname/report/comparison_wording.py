"""What a family of metrics says of each synthetic set in this run, in sentences that follow the numbers."""

from __future__ import annotations

from penname.report.figures import condition_style
from penname.report.metric_tables import MetricCell, MetricRow, MetricTable, format_number

_NOT_JUDGED = ("human",)


def describe_family(table: MetricTable) -> list[str]:
    """One sentence for each synthetic set: by how many figures it does as well as real data, and where it is furthest off.

    A figure counts as that good when it is within the 95 % interval of what real data score, or better. In the family privacy it counts when the set's own
    interval reaches what is found where nothing can have leaked. Metrics without a better direction, and the untuned base model, are not judged.
    """
    if table.family in _NOT_JUDGED:
        return []
    sentences = []
    for arm in table.arms:
        if arm in ("real", "base"):
            continue
        judged = [(row, gap) for row in table.rows if (gap := _find_gap(table.family, row, arm)) is not None]
        if judged:
            sentences.append(_say(table.family, arm, judged))
    return sentences


def _say(family: str, arm: str, judged: list[tuple[MetricRow, float]]) -> str:
    num_good = sum(gap <= 0 for _, gap in judged)
    label = condition_style(arm).label
    if family == "privacy":
        line = f"{label}: {num_good} of {len(judged)} tests find no more than where nothing can have leaked"
    else:
        line = f"{label}: as good as another sample of real reviews by {num_good} of {len(judged)} figures"
    worst, gap = max(judged, key=lambda item: item[1])
    if gap <= 0:
        return f"{line}."
    cell = worst.cells[arm]
    against = "" if cell.reference is None else f", reference {format_number(cell.reference)}"
    # A label is the start of a sentence elsewhere; abbreviations keep their letters.
    name = worst.label if worst.label[:2].isupper() else worst.label[0].lower() + worst.label[1:]
    return f"{line}; furthest off is “{name}” ({format_number(cell.value)}{against})."


def _find_gap(family: str, row: MetricRow, arm: str) -> float | None:
    """How far a figure is beyond what counts as good, in widths of the interval; 0 or below is good, None cannot be judged."""
    cell, real = row.cells.get(arm), row.cells.get("real")
    if cell is None or row.direction == "none":
        return None
    sign = 1 if row.direction == "lower" else -1
    if family == "privacy":
        if cell.reference is None or cell.ci95 is None:
            return None
        # A reference that all arms share is itself a figure of a sample; one of an arm's own is measured on the very same records.
        others = () if real is None or real.ci95 is None or row.references_differ else real.ci95
        limit = max(sign * bound for bound in (cell.reference, *others)) * sign
        return _widths(sign, _best(sign, cell), limit, (cell,))
    if real is None or real.ci95 is None:
        return None
    return _widths(sign, cell.value, max(sign * bound for bound in real.ci95) * sign, (real, cell))


def _best(sign: int, cell: MetricCell) -> float:
    bounds = cell.ci95 or (cell.value, cell.value)
    return min(sign * bound for bound in bounds) * sign


def _widths(sign: int, value: float, limit: float, cells: tuple[MetricCell, ...]) -> float:
    """The gap in widths of the wider interval."""
    width = max(high - low for low, high in (cell.ci95 or (cell.value, cell.value) for cell in cells))
    # Rounding must not make a difference of two equal numbers.
    gap = sign * (value - limit)
    # An interval of no width, as of a figure that is 0 for all real data, would make any gap the widest.
    return 0.0 if abs(gap) < 1e-9 else gap / max(width, 0.01 * abs(limit), 1e-3)
