"""Small drawings in lines of SVG: an interval on a scale, a training curve, bars of counts. Attributes only: the page allows no style in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from penname.report.figures import condition_style
from penname.report.metric_tables import MetricRow, format_number, order_arms

WIDTH, HEIGHT = 180, 12
"""Of one line of a strip."""
_CSS_CLASSES = {"real": "real", "no_dp": "no-dp", "with_dp": "with-dp"}


def css_class(arm: str) -> str:
    """The class that colours a condition."""
    return _CSS_CLASSES.get(arm, "other")


def draw_strip(row: MetricRow) -> Markup:
    """Every arm's value and interval on one scale, each with its numbers as a tooltip; the reference is a dashed line.

    The numbers stand beside it in the table, so that the drawing itself is hidden from screen readers.
    """
    ends = [end for cell in row.cells.values() for end in (*(cell.ci95 or ()), cell.value)] + ([row.reference] if row.reference is not None else [])
    low, high = min(ends), max(ends)
    span = (high - low) or 1.0

    def x(value: float) -> str:
        return f"{6 + (value - low) / span * (WIDTH - 12):.1f}"

    parts = [Markup('<line class="axis" x1="0" x2="{}" y1="{}" y2="{}"/>').format(WIDTH, h, h) for h in (len(row.cells) * HEIGHT,)]
    if row.reference is not None:
        parts.append(Markup('<line class="reference" x1="{}" x2="{}" y1="0" y2="{}"/>').format(x(row.reference), x(row.reference), len(row.cells) * HEIGHT))
    for place, arm in enumerate(order_arms(set(row.cells))):
        cell = row.cells[arm]
        y = place * HEIGHT + HEIGHT / 2
        label = f"{condition_style(arm).label}: {format_number(cell.value)}"
        if cell.ci95:
            label += f", 95 % from {format_number(cell.ci95[0])} to {format_number(cell.ci95[1])}"
        interval = Markup('<line x1="{}" x2="{}" y1="{}" y2="{}"/>').format(x(cell.ci95[0]), x(cell.ci95[1]), y, y) if cell.ci95 else Markup("")
        dot = Markup('<circle cx="{}" cy="{}" r="3.5"/>').format(x(cell.value), y)
        parts.append(Markup('<g class="mark-{}"><title>{}</title>{}{}</g>').format(css_class(arm), label, interval, dot))
    drawing = Markup("").join(parts)
    return Markup('<svg class="strip" viewBox="0 0 {} {}" aria-hidden="true" focusable="false">{}</svg>').format(WIDTH, len(row.cells) * HEIGHT + 1, drawing)


@dataclass(frozen=True)
class Curve:
    """The losses of one arm so far. PRIVATE."""

    arm: str
    points: tuple[tuple[int, float], ...]


def draw_curves(curves: Sequence[Curve], *, num_steps: int) -> Markup:
    """Training loss by step; the last value stands beside it as text."""
    values = [loss for curve in curves for _, loss in curve.points]
    if not values:
        return Markup("")
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    width, height, left, foot = 460, 200, 44, 24
    parts = []
    for value in (low, (low + high) / 2, high):
        y = 8 + (high - value) / span * (height - 16 - foot)
        parts.append(Markup('<line class="axis" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(left, width, y, y))
        parts.append(Markup('<text x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(left - 6, y + 4, format_number(round(value, 3))))
    parts.append(
        Markup('<text x="{}" y="{}">step 1</text><text x="{}" y="{}" text-anchor="end">{}</text>').format(left, height - 6, width, height - 6, num_steps)
    )
    for curve in curves:
        places = [(left + step / max(1, num_steps - 1) * (width - left - 4), 8 + (high - loss) / span * (height - 16 - foot)) for step, loss in curve.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        dots = Markup("").join(
            Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3"><title>{}</title></circle>').format(
                x, y, f"{condition_style(curve.arm).label}, step {step + 1}: {format_number(loss)}"
            )
            for (x, y), (step, loss) in zip(places, curve.points, strict=True)
        )
        parts.append(Markup('<g class="mark-{}"><polyline points="{}"/>{}</g>').format(css_class(curve.arm), path, dots))
    label = "Training loss by step of " + " and ".join(condition_style(curve.arm).label for curve in curves)
    return Markup('<svg class="curves" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(width, height, label, Markup("").join(parts))


def draw_counts(counts: Mapping[str, Mapping[str, int]], labels: Mapping[str, str], totals: Mapping[str, int]) -> Markup:
    """Bars of each category, one an arm: the picture of the system that penname set out from, in shares so that sets of any size compare."""
    bar, gap, left, width = 16, 14, 150, 460
    group = len(counts) * bar + gap
    parts, y = [], 4
    for category, label in labels.items():
        parts.append(Markup('<text x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(left - 10, y + (group - gap) / 2 + 4, label))
        for place, (arm, of_arm) in enumerate(counts.items()):
            frac = of_arm[category] / totals[arm] if totals.get(arm) else 0.0
            words = f"{condition_style(arm).label}, {label}: {of_arm[category]} of {totals.get(arm, 0)}"
            top = y + place * bar
            length = frac * (width - left - 40)
            parts.append(
                Markup('<g class="mark-{}"><title>{}</title><rect x="{}" y="{}" width="{:.1f}" height="{}"/><text x="{:.1f}" y="{}">{}</text></g>').format(
                    css_class(arm), words, left, top, max(length, 1.0), bar - 3, left + length + 6, top + bar - 5, of_arm[category]
                )
            )
        y += group
    label = "Records of each category, by arm; the table holds the numbers"
    return Markup('<svg class="counts" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(width, y, label, Markup("").join(parts))
