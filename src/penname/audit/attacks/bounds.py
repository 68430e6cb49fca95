"""Lower bounds on epsilon, beside what is claimed: of single units, and of groups that carry one canary together."""

from __future__ import annotations

import numpy as np

from penname.audit.attacks.membership import score_places
from penname.audit.evidence import Evidence
from penname.audit.findings import Findings
from penname.evaluate.privacy.epsilon_lower_bound import EpsilonBound, bound_epsilon_classical, bound_epsilon_one_run, check_claim, group_promise
from penname.evaluate.privacy.errors import AuditFailureError, LeftOutError
from penname.schemas import Arm

SIGNAL = "calibrated"
"""Of the attack on the model: one score, fixed beforehand."""
_SOURCES = {
    "one_run": "Steinke, Nasr and Jagielski (2023), arXiv:2305.08846",
    "classical": "Jagielski, Ullman and Oprea (2020), arXiv:2006.07709; an estimate, as all canaries are of one run",
}


def find_bounds(evidence: Evidence, findings: Findings) -> None:
    """Bounds epsilon from the canaries' coins and compares with the claim.

    Canaries that one unit carries test the promise to a unit; those of k units test what it is worth to k. A one-run bound above the claim is a failure;
    the classical figure is an estimate and fails nothing.

    Args:
      evidence: PRIVATE.
      findings: Gets the table bounds, the rows `epsilon_lower_bound_...`, and failures.
    """
    places = evidence.places("canary")
    # The model and the text, for every group of which something is claimed: an honest audit must not fail more often because it asks more often.
    num_bounds = 2 * sum(_claims_anything(evidence, num_units) for num_units in set(evidence.num_units.tolist())) or 1
    of_canary = {evidence.candidates[place].record.text: place for place in places}
    for arm in evidence.arms:
        for num_units in sorted(set(evidence.num_units.tolist())):
            chosen = [i for i, canary in enumerate(evidence.canaries) if evidence.num_units[i] == num_units and canary.whole in of_canary]
            coins = evidence.is_in[chosen]
            group, stream = "" if num_units == 1 else f"_{num_units}_units", f"bound/{arm}/{num_units}"
            with findings.attempt(f"epsilon_lower_bound_one_run{group}", arm):
                claim = _claim(evidence, arm, num_units)
                scores = score_places(evidence, arm, SIGNAL, [of_canary[evidence.canaries[i].whole] for i in chosen])
                found = bound_epsilon_one_run(scores, coins, delta=claim[1], rng=evidence.generator(stream), num_bounds=num_bounds)
                _add(findings, arm, "model", num_units, claim, found)
                if num_units == 1:
                    _estimate(evidence, findings, arm, claim, scores, coins)
            with findings.attempt(f"epsilon_lower_bound_one_run_text{group}", arm):
                claim = _claim(evidence, arm, num_units)
                echoes, rng = evidence.echo_of_canaries(arm)[chosen], evidence.generator(f"{stream}/text")
                found = bound_epsilon_one_run(echoes, coins, delta=claim[1], rng=rng, num_bounds=num_bounds)
                _add(findings, arm, "text", num_units, claim, found)


def _estimate(evidence: Evidence, findings: Findings, arm: Arm, claim: tuple[float | None, float], scores: np.ndarray, coins: np.ndarray) -> None:
    with findings.attempt("epsilon_lower_bound_classical", arm):
        rng = evidence.generator(f"bound/{arm}/classical")
        _add(findings, arm, "model", 1, claim, bound_epsilon_classical(scores[coins], scores[~coins], delta=claim[1], rng=rng))


def _claims_anything(evidence: Evidence, num_units: int) -> bool:
    privacy = evidence.config.privacy
    return group_promise(privacy.target_epsilon, privacy.delta, num_units=num_units)[1] < 1


def _claim(evidence: Evidence, arm: Arm, num_units: int) -> tuple[float | None, float]:
    """Epsilon and delta that are claimed of a group; without DP nothing is, and delta is that of the other arm.

    Raises:
      LeftOutError: the promise is worth nothing to so many.
    """
    privacy = evidence.config.privacy
    if arm == "no_dp":
        return None, privacy.delta
    epsilon, delta = group_promise(privacy.target_epsilon, privacy.delta, num_units=num_units)
    if delta >= 1:
        raise LeftOutError(
            f"epsilon_lower_bound: epsilon {privacy.target_epsilon:g} at delta {privacy.delta:g} for one unit promises nothing to a secret in the data "
            f"of {num_units} units, so there is no claim to test"
        )
    return epsilon, delta


def _add(findings: Findings, arm: Arm, signal: str, num_units: int, claim: tuple[float | None, float], bound: EpsilonBound) -> None:
    name = f"epsilon_lower_bound_{bound.method}{'_text' if signal == 'text' else ''}{'' if num_units == 1 else f'_{num_units}_units'}"
    findings.add(name, arm, bound.epsilon, ci95=None, reference=0.0, num_records=bound.num_canaries, source=_SOURCES[bound.method])
    values = {"epsilon": bound.epsilon, "delta": bound.delta, "claimed_epsilon": claim[0], "max_epsilon": bound.max_epsilon}
    numbers = {"num_canaries": bound.num_canaries, "num_guesses": bound.num_guesses, "num_correct": bound.num_correct}
    findings.tabulate("bounds", arm=arm, method=bound.method, signal=signal, num_units=num_units, **values, **numbers)
    if claim[0] is None or bound.method != "one_run":
        return
    try:
        whom = "one unit" if num_units == 1 else f"{num_units} units together"
        check_claim([bound], claimed_epsilon=claim[0], delta=claim[1], what=f"the arm with_dp ({'its model' if signal == 'model' else 'its text'}, {whom})")
    except AuditFailureError as error:
        findings.failures.append(str(error))
