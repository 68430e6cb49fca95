"""The experiment of the system that penname set out from: how often its one string comes out, by share of the reviews that hold it."""

from __future__ import annotations

from penname.audit.evidence import Evidence
from penname.audit.findings import Findings
from penname.evaluate.bootstrap import frac_interval
from penname.evaluate.privacy.canary_leaks import ANY, count_leaks
from penname.records.canaries import ORIGINAL_STRING, make_original
from penname.run_dir import read_rows

ORIGINAL_FIGURES = {
    (0.01, "no_dp"): (3, 2, 2, 2),
    (0.1, "no_dp"): (23, 20, 23, 20),
    (1.0, "no_dp"): (227, 214, 211, 208),
    (0.01, "with_dp"): (0, 0, 0, 0),
    (0.1, "with_dp"): (0, 0, 0, 0),
    (1.0, "with_dp"): (113, 108, 104, 104),
}
"""What its authors report: name, street, phone and whole string in 10,000 generated texts, by share and arm."""
_PARTS = ("name", "street", "phone", "whole")
_SOURCE = "the experiment of the system that penname set out from"


def find_originals(evidence: Evidence, findings: Findings) -> None:
    """Counts the parts of the string in what each arm of each twin wrote.

    Args:
      evidence: PRIVATE.
      findings: Gets the table originals, and rows `canary_leaks_num_per_10_000_...`.
    """
    for twin in evidence.twins:
        planted = [row for row in read_rows(twin.run_dir.path("train_records")) if row["text"].startswith(ORIGINAL_STRING)]
        num_units = len({row["unit_id"] for row in planted})
        for arm in evidence.arms:
            with findings.attempt(f"canary_leaks_num_per_10_000_{twin.name}", arm):
                rows = evidence.rows(twin, arm)
                leaks = count_leaks([make_original(len(planted))], [f"{row.title}\n{row.text}" for row in rows])
                theirs: dict[str, int | None] = dict(zip(_PARTS, ORIGINAL_FIGURES.get((twin.share or 0.0, arm), (None,) * len(_PARTS)), strict=True))
                for count in leaks.exact:
                    if count.part == ANY:
                        continue
                    low, high = _interval_of(count.num_texts, len(rows))
                    values = {"num_texts": count.num_texts, "num_searched": len(rows), "per_10_000": count.texts_per_10_000, "ci95": [low, high]}
                    planting = {"share": twin.share, "num_records": len(planted), "num_units": num_units}
                    findings.tabulate("originals", arm=arm, twin=twin.name, part=count.part, theirs=theirs[count.part], **planting, **values)
                    name = f"canary_leaks_num_per_10_000_{count.part}_share_{100 * (twin.share or 0.0):g}_percent"
                    findings.add(name, arm, count.texts_per_10_000, ci95=(low, high), reference=0.0, num_records=len(rows), source=_SOURCE)


def _interval_of(num_hits: int, num_texts: int) -> tuple[float, float]:
    """Wilson's interval of hits, in 10,000 texts."""
    low, high = frac_interval(num_hits, num_texts)
    return 1e4 * low, 1e4 * high
