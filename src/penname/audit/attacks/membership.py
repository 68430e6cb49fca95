"""Who was trained on? Asked of the models, by likelihood, and of the synthetic text alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from penname.audit.evidence import Evidence
from penname.audit.findings import Findings
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.privacy.membership_scores import calibrated_scores, loss_scores, min_k_scores, zlib_scores
from penname.evaluate.privacy.roc import attack_auroc, average_by_unit, roc_curve, tpr_at_fpr
from penname.evaluate.privacy.text_membership import ngram_echo_scores, similarity_echo_scores
from penname.evaluate.samples import Row, RowSet
from penname.schemas import BASE, Arm

TARGET_FPRS = (0.01, 0.001)
SIGNALS = ("loss", "calibrated", "min_k", "zlib")
DRAWN_SIGNAL = "calibrated"
"""Whose curve is kept and drawn: fixed beforehand, so that the best of several by chance is not picked."""
_SOURCES = {
    "loss": "Yeom et al. (2018), arXiv:1709.01604",
    "calibrated": "Watson et al. (2022), arXiv:2111.08440",
    "min_k": "Shi et al. (2024), arXiv:2310.16789",
    "zlib": "Carlini et al. (2021), arXiv:2012.07805",
    "ngram_echo": "Meeus et al. (2025), arXiv:2502.14921",
    "similarity_echo": "Meeus et al. (2025), arXiv:2502.14921",
}
_Score = Callable[[Sequence[int]], np.ndarray]


def find_membership(evidence: Evidence, findings: Findings) -> None:
    """Attacks the models of each arm: train against heldout, by record and by unit; planted canaries against left-out ones.

    Args:
      evidence: PRIVATE.
      findings: Gets the tables membership and curves, and the rows `attack_auroc_...` and `tpr_at_fpr_...`.
    """
    for arm in evidence.arms:
        for signal in SIGNALS:
            # What the attack scores on the base model, which saw nobody: chance, and whatever else tells the two sides apart.
            control = None if signal == "calibrated" else partial(score_places, evidence, BASE, signal)
            _attack_records(evidence, findings, arm, signal, partial(score_places, evidence, arm, signal), control)
            _attack_canaries(evidence, findings, arm, signal, partial(score_places, evidence, arm, signal))


def find_echoes(evidence: Evidence, findings: Findings) -> None:
    """Attacks the synthetic text of each arm, without its model: the same two questions.

    Args:
      evidence: PRIVATE.
      findings: As in `find_membership`.
    """
    for arm in evidence.arms:
        synthetic = evidence.samples.take(evidence.samples.synthetic[arm], evidence.config.evaluate.max_records)
        for signal, score in (("ngram_echo", _echo_ngrams), ("similarity_echo", _echo_similarity)):
            with findings.attempt(f"attack_auroc_{signal}", arm):
                texts = RowSet(f"candidates/{signal}", [_row(candidate.record.text) for candidate in evidence.candidates], evidence.embed)
                scores = score(texts, synthetic, evidence.control)
                _attack_records(evidence, findings, arm, signal, partial(np.take, scores), None)
                _attack_canaries(evidence, findings, arm, signal, partial(np.take, scores))


def _row(text: str) -> Row:
    return Row(0.0, "", text, "")


def _echo_ngrams(candidates: RowSet, synthetic: RowSet, control: RowSet) -> np.ndarray:
    return ngram_echo_scores(candidates.texts, synthetic.texts, control.texts)


def _echo_similarity(candidates: RowSet, synthetic: RowSet, control: RowSet) -> np.ndarray:
    return similarity_echo_scores(candidates.embeddings, synthetic.embeddings, control.embeddings)


def score_places(evidence: Evidence, model: str, signal: str, places: Sequence[int]) -> np.ndarray:
    """(n,) scores of some candidates under the model of an arm, or base; higher means more likely a member. PRIVATE."""
    tokens = evidence.likelihoods(model).take(places)
    if signal == "loss":
        return loss_scores(tokens)
    if signal == "calibrated":
        return calibrated_scores(tokens, evidence.likelihoods(BASE).take(places))
    if signal == "min_k":
        return min_k_scores(tokens)
    return zlib_scores(tokens, [evidence.candidates[place].record.completion for place in places])


def _attack_records(evidence: Evidence, findings: Findings, arm: Arm, signal: str, score: _Score, control: _Score | None) -> None:
    """Train against heldout, by record and by unit."""
    sides = evidence.places("train"), evidence.places("heldout")
    name = f"attack_auroc_{signal}"
    with findings.attempt(name, arm):
        if not sides[1]:
            raise LeftOutError("membership: there are no heldout records to compare with; set records.heldout_frac")
        members, others = (score(side) for side in sides)
        chance = attack_auroc(*(control(side) for side in sides)).value if control is not None else 0.5
        _add(findings, arm, name, signal, "record", members, others, chance)
        by_unit = f"{name}_by_{'unit' if evidence.counts['privacy_unit'] == 'column' else 'user'}"
        with findings.attempt(by_unit, arm):
            if evidence.counts["privacy_unit"] == "record":
                raise LeftOutError("membership by user: the records have no user id; the attack on single records is given alone")
            units = [[evidence.candidates[place].record.unit_id for place in side] for side in sides]
            averaged = [average_by_unit(scores, own) for scores, own in zip((members, others), units, strict=True)]
            chance = attack_auroc(*(average_by_unit(control(side), own) for side, own in zip(sides, units, strict=True))).value if control is not None else 0.5
            _add(findings, arm, by_unit, signal, "user", averaged[0], averaged[1], chance)


def _attack_canaries(evidence: Evidence, findings: Findings, arm: Arm, signal: str, score: _Score) -> None:
    """Planted against left-out canaries, of all repetitions."""
    name, places = f"attack_auroc_{signal}_canaries", evidence.places("canary")
    with findings.attempt(name, arm):
        scores = score(places)
        coins = np.array([canary is not None and canary.is_in for canary in (evidence.candidates[place].canary for place in places)])
        _add(findings, arm, name, signal, "canary", scores[coins], scores[~coins], 0.5)


def _add(findings: Findings, arm: Arm, name: str, signal: str, level: str, members: np.ndarray, others: np.ndarray, chance: float) -> None:
    found, source = attack_auroc(members, others), _SOURCES[signal]
    findings.add(name, arm, found.value, ci95=found.ci95, reference=chance, num_records=found.num_members + found.num_non_members, source=source)
    values = {"auroc": found.value, "ci95": list(found.ci95), "reference": chance, "num_members": found.num_members, "num_non_members": found.num_non_members}
    findings.tabulate("membership", arm=arm, signal=signal, level=level, **values)
    if signal == DRAWN_SIGNAL:
        fprs, tprs = roc_curve(members, others)
        findings.tabulate("curves", arm=arm, signal=signal, level=level, fprs=np.round(fprs, 6).tolist(), tprs=np.round(tprs, 6).tolist())
    for target in TARGET_FPRS:
        rate = f"tpr_at_fpr_{100 * target:g}_percent{name.removeprefix('attack_auroc')}"
        with findings.attempt(rate, arm):
            tpr = tpr_at_fpr(members, others, target_fpr=target)
            findings.add(rate, arm, tpr.value, ci95=tpr.ci95, reference=target, num_records=tpr.num_members, source="Carlini et al. (2022), arXiv:2112.03570")
