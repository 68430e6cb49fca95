"""The tables of an audit's page: both arms side by side, and leaks by part and repetition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from penname.report.audit_figures import WAYS
from penname.report.audit_inputs import AuditInputs
from penname.report.metric_tables import format_number, order_arms
from penname.report.wording import format_delta, format_epsilon
from penname.schemas import MetricResult

UNEXPOSED_BITS = 1.442695
"""Mean exposure of a canary that the model never saw: 1 / ln 2."""
_SIGNALS = {
    "calibrated": "from the model, by likelihood less that of the base model",
    "loss": "from the model, by likelihood",
    "min_k": "from the model, by its least likely words",
    "zlib": "from the model, by likelihood over compressed length",
    "ngram_echo": "from the text alone, by word pairs",
    "similarity_echo": "from the text alone, by likeness",
}


@dataclass(frozen=True)
class Cell:
    """A figure and what must be read with it."""

    value: str
    note: str = ""


@dataclass(frozen=True)
class Line:
    """One question, one cell an arm, and what an attack finds that learned nothing."""

    label: str
    cells: dict[str, Cell]
    chance: str


@dataclass(frozen=True)
class Section:
    """Lines that belong together."""

    title: str
    lines: list[Line]


def build_overview(audit: AuditInputs) -> list[Section]:
    """The one table: claim, bounds, attacks, leaks, exposure, copies.

    Args:
      audit: With canaries. PRIVATE.
    """
    sections = [
        Section("Epsilon", [_list_claim(audit), *_list_bounds(audit)]),
        Section("Who was trained on? (AUROC)", _list_membership(audit, "record") + _list_membership(audit, "user")),
        Section("Which canaries were planted? (AUROC)", _list_membership(audit, "canary")),
        Section("Canaries that came out, word for word", [_list_leaks(audit, way) for way in WAYS]),
        Section("Exposure of canaries (bits)", _list_exposure(audit)),
        Section("Copies in the synthetic text", _list_copies(audit)),
    ]
    return [section for section in sections if any(line.cells for line in section.lines)]


def _list_claim(audit: AuditInputs) -> Line:
    promise = audit.promise
    cells = {"no_dp": Cell("none", "nothing is promised")} if "no_dp" in audit.arms else {}
    if "with_dp" in audit.arms:
        spent = f"{format_epsilon(promise['epsilon_spent'])} spent, δ = {format_delta(promise['delta'])}"
        cells["with_dp"] = Cell(format_epsilon(promise["target_epsilon"]), spent)
    return Line("Claimed", cells, "")


def _list_bounds(audit: AuditInputs) -> list[Line]:
    kinds = (
        ("one_run", "model", "Audited: at least, from the model"),
        ("one_run", "text", "Audited: at least, from the text alone"),
        ("classical", "model", "Classical estimate, from the model (no bound)"),
    )
    lines: list[Line] = []
    for method, signal, label in kinds:
        for num_units in sorted({row["num_units"] for row in audit.select("bounds", method=method, signal=signal)}):
            rows = audit.select("bounds", method=method, signal=signal, num_units=num_units)
            group = "" if num_units == 1 else f", secrets in {num_units} units"
            lines.append(Line(f"{label}{group}", {row["arm"]: _show_bound(row, num_units) for row in rows}, "0"))
    return lines


def _show_bound(row: dict[str, Any], num_units: int) -> Cell:
    claim = f"; claimed for {num_units} units {format_epsilon(row['claimed_epsilon'])}" if num_units > 1 and row["claimed_epsilon"] is not None else ""
    ceiling = "" if row["max_epsilon"] is None else f"{row['num_canaries']} canaries could show {row['max_epsilon']:.2f}"
    return Cell(f"{row['epsilon']:.2f}", ceiling + claim)


def _list_membership(audit: AuditInputs, level: str) -> list[Line]:
    whom = {"record": "records, ", "user": "users, ", "canary": ""}[level]
    lines: list[Line] = []
    for signal, words in _SIGNALS.items():
        rows = audit.select("membership", level=level, signal=signal)
        cells = {row["arm"]: Cell(f"{row['auroc']:.3f}", _interval(row["ci95"], 3)) for row in rows}
        chances = sorted({f"{row['reference']:.3f}" for row in rows})
        lines.append(Line(f"{whom}{words}".capitalize() if not whom else f"{whom}{words}"[:1].upper() + f"{whom}{words}"[1:], cells, " / ".join(chances)))
    return [line for line in lines if line.cells]


def _interval(ci95: Sequence[float] | None, num_decimals: int) -> str:
    return "" if ci95 is None else f"{ci95[0]:.{num_decimals}f} to {ci95[1]:.{num_decimals}f}"


def _list_leaks(audit: AuditInputs, way: str) -> Line:
    cells: dict[str, Cell] = {}
    chances: list[str] = []
    for arm in audit.arms:
        rows = audit.select("leaks", arm=arm, way=way, match="exact", part="any")
        planted, left_out = ([row for row in rows if bool(row["num_repetitions"]) is is_in] for is_in in (True, False))
        if not planted:
            continue
        loudest = max(planted, key=lambda row: row["num_repetitions"])
        total = f"{sum(row['num_leaked'] for row in planted)} of {sum(row['num_canaries'] for row in planted)}"
        note = f"{loudest['num_leaked']} of {loudest['num_canaries']} of those in {loudest['num_repetitions']} records; {rows[0]['num_searched']:,} texts"
        cells[arm] = Cell(total, note)
        chances += [f"{row['num_leaked']} of {row['num_canaries']} left out" for row in left_out]
    return Line(f"{WAYS[way][:1].upper()}{WAYS[way][1:]}", cells, " / ".join(dict.fromkeys(chances)))


def _list_exposure(audit: AuditInputs) -> list[Line]:
    lines: list[Line] = []
    for way, words in (("rank", "by rank"), ("sampled", "by a fitted distribution")):
        for repetition in sorted({row["num_repetitions"] for row in audit.select("exposure", way=way)}):
            rows = audit.select("exposure", way=way, num_repetitions=repetition)
            ceiling = rows[0]["ceiling_bits"]
            seen = "" if ceiling is None else f"; at most {ceiling:.1f} can be seen"
            cells = {row["arm"]: Cell(f"{row['mean_bits']:.1f}", f"{_interval(row['ci95'], 1)}{seen}") for row in rows}
            lines.append(Line(f"In {repetition} record{'s' if repetition > 1 else ''}, {words}", cells, f"{UNEXPOSED_BITS:.2f}"))
    return lines


def _list_copies(audit: AuditInputs) -> list[Line]:
    names = {
        "replayed_pii_num": "Phones, addresses and the like that stand in the training data",
        "replayed_pii_num_names": "Names and places that stand in the training data",
        "closer_to_train_frac": "Share nearer to a training review than to an unseen one",
        "near_duplicate_frac": "Share that is nearly a training review",
        "ngram_overlap_frac_13_words": "Share with 13 words in a row from training",
    }
    lines: list[Line] = []
    for name, label in names.items():
        found = {arm: metric for arm in audit.arms if (metric := audit.metric(name, arm)) is not None}
        cells = {arm: Cell(format_number(metric.value), _format_interval(metric)) for arm, metric in found.items()}
        chances = dict.fromkeys(format_number(metric.reference) for metric in found.values() if metric.reference is not None)
        lines.append(Line(label, cells, " / ".join(chances)))
    return [line for line in lines if line.cells]


def _format_interval(metric: MetricResult) -> str:
    return "" if metric.ci95 is None else f"{format_number(metric.ci95[0])} to {format_number(metric.ci95[1])}"


@dataclass(frozen=True)
class LeakTable:
    """Leaks of one arm in one way, by part and repetition."""

    arm: str
    way: str
    repetitions: list[int]
    """0: left out."""
    rows: list[tuple[str, list[Cell]]]
    note: str


def build_leak_tables(audit: AuditInputs) -> list[LeakTable]:
    """One table a way and arm; each cell has exact and fuzzy matches among the canaries. PRIVATE."""
    tables: list[LeakTable] = []
    for way in WAYS:
        for arm in order_arms(set(audit.arms)):
            rows = audit.select("leaks", arm=arm, way=way)
            if not rows:
                continue
            repetitions = sorted({row["num_repetitions"] for row in rows})
            found = {(row["part"], row["num_repetitions"], row["match"]): row for row in rows}
            parts = list(dict.fromkeys(row["part"] for row in rows))
            cells = [(part.replace("_", " "), [_show_leak(found, part, repetition) for repetition in repetitions]) for part in parts]
            note = f"{rows[0]['num_searched']:,} texts; likeness of {rows[0]['threshold']:g} or more counts as nearly: {rows[0]['threshold_note']}"
            tables.append(LeakTable(arm, WAYS[way], repetitions, cells, note))
    return tables


def _show_leak(found: dict[Any, dict[str, Any]], part: str, repetition: int) -> Cell:
    exact, fuzzy = found.get((part, repetition, "exact")), found.get((part, repetition, "fuzzy"))
    if exact is None or fuzzy is None:
        return Cell("–")
    more = fuzzy["num_leaked"] - exact["num_leaked"]
    return Cell(f"{exact['num_leaked']} of {exact['num_canaries']}", f"and {more} nearly" if more > 0 else "")


def build_original_table(audit: AuditInputs) -> list[dict[str, Any]]:
    """The original's experiment: for each share and arm, its parts in 10,000 texts, ours with interval and theirs. PRIVATE."""
    rows: list[dict[str, Any]] = []
    for share in sorted({row["share"] for row in audit.tables.get("originals", [])}):
        for arm in order_arms(set(audit.arms)):
            found = audit.select("originals", share=share, arm=arm)
            if found:
                parts = {row["part"]: Cell(format_number(row["per_10_000"]), _interval(row["ci95"], 0)) for row in found}
                theirs = {row["part"]: "–" if row["theirs"] is None else str(row["theirs"]) for row in found}
                rows.append(
                    {
                        "share": f"{100 * share:g} %",
                        "arm": arm,
                        "parts": parts,
                        "theirs": theirs,
                        **{k: found[0][k] for k in ("num_records", "num_units", "num_searched")},
                    }
                )
    return rows


def group_left_out(audit: AuditInputs) -> list[tuple[str, list[str]]]:
    """Reasons, each with the figures that are not there because of it."""
    found: dict[str, list[str]] = {}
    for row in audit.left_out:
        arm = f" ({row['arm']})" if row["arm"] else ""
        found.setdefault(str(row["reason"]), []).append(f"{row['name']}{arm}")
    return list(found.items())
