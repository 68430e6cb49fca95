"""Canaries in what the twin wrote: of itself, and when it was asked for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from penname.audit.evidence import Evidence
from penname.audit.findings import Findings
from penname.evaluate.privacy.canary_leaks import ANY, CanaryLeaks, LeakCount, PlantedCanary, count_leaks
from penname.records.canaries import Canary
from penname.schemas import Arm

_SOURCE = "matches as in the system that penname set out from; fuzzy by rapidfuzz; targeted as in Carlini et al. (2021), arXiv:2012.07805"


@dataclass(frozen=True, slots=True)
class RestOfCanary:
    """What is left to leak of a canary whose beginning the attacker knows. PRIVATE."""

    canary_id: str
    is_in: bool
    num_repetitions: int
    parts: dict[str, str]


def hide_prefix(canary: Canary) -> RestOfCanary:
    """A canary without what its prefix says: those parts, and of the whole what follows."""
    parts = {part: value for part, value in canary.parts.items() if value not in canary.prefix}
    if "whole" in parts:
        parts["whole"] = canary.suffix
    return RestOfCanary(canary.canary_id, canary.is_in, canary.num_repetitions, parts)


def find_leaks(evidence: Evidence, findings: Findings) -> None:
    """Counts leaks of each arm in its synthetic records and in what it wrote after targeted prompts, by part and repetition.

    Args:
      evidence: PRIVATE.
      findings: Gets the table leaks and the rows `canary_leaks_num_...`.
    """
    for arm in evidence.arms:
        for way in ("generated", "asked", "begun"):
            with findings.attempt(f"canary_leaks_num_{way}", arm):
                leaks = count_leaks(*_read_texts(evidence, arm, way))
                for match in ("exact", "fuzzy"):
                    _add(findings, arm, way, match, leaks)


def _read_texts(evidence: Evidence, arm: Arm, way: str) -> tuple[Sequence[PlantedCanary], list[str]]:
    """What to look for, and in what.

    Raises:
      LeftOutError: nobody can be asked.
    """
    (twin,) = evidence.twins
    if way == "generated":
        return evidence.canaries, [f"{row.title}\n{row.text}" for row in evidence.rows(twin, arm)]
    if way == "asked":
        return evidence.canaries, [row.text for row in evidence.prompted(arm) if row.way == "record"]
    return [hide_prefix(canary) for canary in evidence.canaries], [row.text for row in evidence.prompted(arm) if row.way == "prefix"]


def _add(findings: Findings, arm: str, way: str, match: str, leaks: CanaryLeaks) -> None:
    counts: tuple[LeakCount, ...] = getattr(leaks, match)
    by_chance = {row.part: row.num_leaked / row.num_canaries for row in counts if row.num_repetitions == 0}
    for row in counts:
        findings.tabulate(
            "leaks",
            arm=arm,
            way=way,
            match=match,
            **asdict(row),
            threshold=leaks.fuzzy_threshold,
            threshold_note=leaks.threshold_note,
            num_searched=leaks.num_texts,
        )
        if row.part != ANY or not row.num_repetitions:
            continue
        low, high = (row.num_canaries * bound for bound in row.leaked_ci95)
        # Where none was left out, nothing says what chance finds; invented secrets are not found by chance.
        findings.add(
            f"canary_leaks_num_{way}_{row.num_repetitions}_times{'_fuzzy' if match == 'fuzzy' else ''}",
            arm,
            row.num_leaked,
            ci95=(low, high),
            reference=by_chance.get(ANY, 0.0) * row.num_canaries,
            num_records=row.num_canaries,
            source=_SOURCE,
        )
