"""How many guesses the models save whoever looks for a canary, by how often it was repeated."""

from __future__ import annotations

import math

import numpy as np

from penname.audit.evidence import Evidence
from penname.audit.findings import Findings
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.privacy.exposure import UNEXPOSED_BITS, exposure_by_rank, exposure_by_sampling, summarise_exposure
from penname.evaluate.privacy.membership_scores import calibrated_scores
from penname.records.canaries import Canary
from penname.schemas import BASE, Arm

_SOURCE = "Carlini et al. (2019), arXiv:1802.08232, on log-likelihoods less those of the base model"


def find_exposure(evidence: Evidence, findings: Findings) -> None:
    """Exposure of the planted canaries of each arm among left-out ones of their kind, by rank and from a fitted distribution.

    Scores are log-likelihoods less those of the base model: what an attacker has who knows the base model, as he does here.

    Args:
      evidence: PRIVATE.
      findings: Gets the table exposure and the rows `exposure_bits_...`.
    """
    for arm in evidence.arms:
        with findings.attempt("exposure_bits", arm):
            _measure(evidence, findings, arm)


def _measure(evidence: Evidence, findings: Findings, arm: Arm) -> None:
    places = evidence.places("canary") + evidence.places("reference")
    scores = calibrated_scores(evidence.likelihoods(arm).take(places), evidence.likelihoods(BASE).take(places))
    of_place = dict(zip(places, scores.tolist(), strict=True))
    for way, measure in (("rank", exposure_by_rank), ("sampled", exposure_by_sampling)):
        bits: dict[int, list[float]] = {}
        num_references = 0
        for kind in evidence.config.audit.kinds:
            planted, others = _sort_by_coin(evidence, of_place, kind)
            with findings.attempt(f"exposure_bits_{way}_{kind}", arm):
                found = measure(np.array([score for _, score in planted]), np.array(others))
                # Kinds have a few more or fewer left-out canaries; what can be seen at most is that of the largest.
                num_references = max(num_references, len(others))
                for (canary, _), own in zip(planted, found, strict=True):
                    bits.setdefault(canary.num_repetitions, []).append(float(own))
        if bits:
            _add(evidence, findings, arm, way, bits, num_references)


def _sort_by_coin(evidence: Evidence, of_place: dict[int, float], kind: str) -> tuple[list[tuple[Canary, float]], list[float]]:
    """Planted canaries of a kind with their scores, and the scores of all others of that kind; the original's string is a persona."""
    planted: list[tuple[Canary, float]] = []
    others: list[float] = []
    for place, score in of_place.items():
        canary = evidence.candidates[place].canary
        if canary is None or (canary.kind if canary.kind != "original" else "persona") != kind:
            continue
        if canary.is_in:
            planted.append((canary, score))
        else:
            others.append(score)
    return planted, others


def _add(evidence: Evidence, findings: Findings, arm: Arm, way: str, bits: dict[int, list[float]], num_references: int) -> None:
    # A fitted tail has no end of its own; what doubles hold is one.
    ceiling = math.log2(num_references + 1) if way == "rank" else 1023.0
    for repetition in sorted({canary.num_repetitions for canary in evidence.canaries}):
        name = f"exposure_bits_{way}_{repetition}_times"
        with findings.attempt(name, arm):
            if repetition not in bits:
                raise LeftOutError(f"exposure: no canary of {repetition} repetitions was planted")
            found = summarise_exposure(
                np.array(bits[repetition]),
                ceiling_bits=ceiling,
                num_references=num_references,
                num_bootstrap=evidence.config.evaluate.num_bootstrap,
                rng=evidence.generator(f"exposure/{arm}/{way}/{repetition}"),
            )
            findings.add(name, arm, found.mean_bits, ci95=found.ci95, reference=UNEXPOSED_BITS, num_records=found.num_canaries, source=_SOURCE)
            findings.tabulate(
                "exposure",
                arm=arm,
                way=way,
                num_repetitions=repetition,
                mean_bits=found.mean_bits,
                ci95=list(found.ci95),
                ceiling_bits=ceiling if way == "rank" else None,
                num_canaries=found.num_canaries,
                num_references=num_references,
            )
