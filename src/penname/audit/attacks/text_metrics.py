"""Memorisation, personal data and linkage: the privacy metrics of any evaluation, on what the twin wrote."""

from __future__ import annotations

from penname.audit.evidence import Evidence
from penname.audit.findings import Findings
from penname.evaluate.evaluate import compute_metrics, list_left_out
from penname.evaluate.privacy.personal_names import REPLAYED_NAMES
from penname.evaluate.registry import METRICS


def measure_texts(evidence: Evidence, findings: Findings) -> None:
    """Computes the registry's privacy metrics, and names of persons and places; train is the twin's own, so a replayed canary counts as replayed.

    Args:
      evidence: PRIVATE.
      findings: Gets their rows, and those that are left out.
    """
    metrics = tuple(metric for metric in METRICS if metric.family == "privacy" and metric.name != REPLAYED_NAMES.name)
    chosen = (*metrics, REPLAYED_NAMES)
    findings.rows += compute_metrics(evidence.samples, chosen)
    findings.left_out += list_left_out(evidence.samples, chosen)
