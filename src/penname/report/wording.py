"""The sentences of the report that depend on its numbers: the verdict, what epsilon means, why a run may not be released."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from penname.report.metric_tables import format_number
from penname.schemas import MetricResult


def unit_in_words(certificate: dict[str, Any]) -> str:
    """Who is protected, as it reads after `every`."""
    words = {"user": "user", "record": "single review", "column": f"value of the column {certificate.get('unit_column')}"}
    return words.get(certificate["privacy_unit"], str(certificate["privacy_unit"]))


def _one_unit_with_its_records(certificate: dict[str, Any]) -> str:
    kind, unit = certificate["privacy_unit"], unit_in_words(certificate)
    if kind == "user":
        return "one user, with all reviews of theirs that take part,"
    return f"one {unit}, with all its reviews that take part," if kind == "column" else f"one {unit}"


def reasons_not_to_release(certificate: dict[str, Any]) -> list[str]:
    """Why nothing of this run may leave the folder; empty for a run that may be released.

    What the certificate says is not believed against its own numbers: a seed, a missing arm, a failed check or an overspent
    budget counts even where it calls the run releasable.
    """
    reasons = [str(reason) for reason in certificate.get("not_releasable_because") or []]
    spent, promise = certificate.get("epsilon_spent"), certificate["promise"]
    if spent is None and not reasons:
        reasons.append("There is no arm with differential privacy (with_dp) in this run.")
    if certificate.get("noise_source") == "seed" and not any("seed" in reason for reason in reasons):
        reasons.append("Its sampling and noise came from a seed, so whoever knows the seed can take them away.")
    if spent is not None and spent > promise["target_epsilon"]:
        reasons.append(f"It spent epsilon {format_epsilon(spent)}, more than the {format_epsilon(promise['target_epsilon'])} that it promised.")
    failed = [str(check["name"]) for check in certificate.get("self_checks") or [] if not check["passed"]]
    if failed and not any("check" in reason for reason in reasons):
        reasons.append(f"A self-check failed: {', '.join(failed)}.")
    if not certificate.get("releasable") and not reasons:
        reasons.append("Its certificate says so, without a reason.")
    return reasons


def write_verdict(certificate: dict[str, Any], metrics: Sequence[MetricResult]) -> str:
    """One sentence: what was promised, spent, for whom, and what it cost.

    Args:
      certificate: As `release/certificate.json`.
      metrics: All results; the cost is the first `tstr_..._score` with an arm with_dp. PRIVATE.
    """
    spent = certificate.get("epsilon_spent")
    if spent is None:
        return "This run has no arm with differential privacy: it promises nothing, and nothing of it may be shared."
    target, delta = certificate["promise"]["target_epsilon"], format_delta(certificate["promise"]["delta"])
    promise = (
        f"Every {unit_in_words(certificate)} was promised at most ε\u00a0=\u00a0{format_epsilon(target)} (δ\u00a0=\u00a0{delta}) and "
        f"{format_epsilon(spent)} of it was spent"
    )
    held_back = "nothing of this run may be released, for the reasons given above"
    lead = f"{promise}, but {held_back}" if reasons_not_to_release(certificate) else promise
    return f"{lead}; {_cost_in_words(metrics)}."


def _cost_in_words(metrics: Sequence[MetricResult]) -> str:
    found = pick_cost_metric(metrics)
    if "with_dp" not in found:
        return "what it cost in usefulness was not measured"
    name = next(iter(found.values())).name
    measure = "an accuracy of " if "accuracy" in name else ""
    words = f"a classifier trained on the private synthetic reviews reaches {measure}{format_number(found['with_dp'].value)} on real reviews"
    against = []
    real = found["real"].value if "real" in found else found["with_dp"].reference
    if real is not None:
        against.append(f"{format_number(real)} when it is trained on real ones")
    if "no_dp" in found:
        against.append(f"{format_number(found['no_dp'].value)} without privacy")
    guess = next((metric.value for metric in metrics if metric.name == "majority_accuracy_score"), None)
    if guess is not None and "accuracy" in name:
        against.append(f"{format_number(guess)} for always guessing the commoner answer")
    return f"{words}, against {_join(against)}" if against else words


def _join(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def pick_cost_metric(metrics: Sequence[MetricResult]) -> dict[str, MetricResult]:
    """The results, by arm, of the metric that stands for the cost of privacy; empty where none was computed."""
    names = [m.name for m in metrics if m.name.startswith("tstr_") and m.direction == "higher" and m.arm == "with_dp"]
    if not names:
        return {}
    name = min(names, key=lambda n: ("accuracy" not in n, names.index(n)))
    return {metric.arm: metric for metric in metrics if metric.name == name}


def _round_up(value: float, num_decimals: int) -> str:
    """A bound must not look better than it is; the slack keeps 0.1, which is not exact in binary, from becoming 0.101."""
    scale = 10**num_decimals
    return f"{math.ceil(value * scale - 1e-6) / scale:,.{num_decimals}f}"


def format_epsilon(epsilon: float) -> str:
    """An epsilon to three decimals, never rounded down.

    >>> format_epsilon(8.0), format_epsilon(7.9871), format_epsilon(0.1)
    ('8', '7.988', '0.1')
    """
    return _round_up(epsilon, 3).rstrip("0").rstrip(".")


def format_delta(delta: float) -> str:
    """A small probability in powers of ten.

    >>> format_delta(1e-05), format_delta(2.5e-06), format_delta(0.01)
    ('10⁻⁵', '2.5 × 10⁻⁶', '0.01')
    """
    if delta >= 0.001:
        return f"{delta:g}"
    digits, _, exponent = f"{delta:.2e}".partition("e")
    power = "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    digits = digits.rstrip("0").rstrip(".")
    return power if digits == "1" else f"{digits} × {power}"


def explain_epsilon(epsilon: float, delta: float, certificate: dict[str, Any]) -> list[str]:
    """What the guarantee allows in the worst case, in two plain sentences.

    Args:
      epsilon: Spent, in nats.
      delta: Spent.
      certificate: For its privacy_unit and unit_column.
    Source: Kairouz, Oh, Viswanath (2015), Theorem 2.1: an attacker who starts with even odds is right with probability at most
      (e^epsilon + delta) / (1 + e^epsilon). https://arxiv.org/abs/1311.0776
    """
    unit, who = unit_in_words(certificate), _one_unit_with_its_records(certificate)
    # Beyond a million the factor says nothing more, and math.exp overflows above 709.
    factor = _round_up(math.exp(epsilon), 2 if epsilon < 5 else 0) if epsilon < 14 else "more than a million"
    odds_against = math.exp(-epsilon)
    right = min(1.0, (1 + delta * odds_against) / (1 + odds_against))
    shown = "more than 99.99 %" if right > 0.9999 else f"{_round_up(100 * right, 2)} %"
    return [
        f"Adding or removing {who} changes the probability of any released result by at most a factor of {factor} "
        f"(e to the power of ε), apart from a failure probability of δ = {format_delta(delta)}.",
        f"Someone who knows everything but one {unit}, and starts with even odds, can tell whether that {unit} took part with a "
        f"probability of at most {shown}. This is a ceiling for every possible attack, not what an attack reaches.",
    ]
