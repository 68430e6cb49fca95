"""The sentences of an audit's page, with its numbers: the verdict, what an attacker could do, and why a repeated secret is not protected."""

from __future__ import annotations

from typing import Any

from penname.report.audit_inputs import AuditInputs
from penname.report.wording import format_delta, format_epsilon

_UNITS = {"user": ("user", "users"), "record": ("review", "reviews"), "column": ("value of the protected column", "values of the protected column")}

_NO_PROMISE = 20.0
"""An epsilon that lets an attacker be right but for one case in half a billion."""


def write_audit_verdict(audit: AuditInputs) -> str:
    """One sentence: whether the claim stood. PRIVATE."""
    if audit.failures:
        return "An attack found more than the claimed epsilon allows: the guarantee does not hold."
    if "with_dp" not in audit.arms:
        return "There is no arm with differential privacy here, so there is no claim to test; what leaks without it stands below."
    if audit.experiment == "original":
        return "How often one string comes out that stands in front of some of the training reviews. This counts; it tests no claim."
    bounds = [row for row in audit.select("bounds", arm="with_dp", method="one_run") if row["num_units"] == 1]
    claim = format_epsilon(audit.promise["target_epsilon"])
    if not bounds:
        return f"No bound on epsilon could be had here, so the claim of {claim} was not tested; the reasons stand below."
    best = max(bounds, key=lambda row: row["epsilon"])
    return (
        f"No attack refuted the claim: the audited lower bound on epsilon is {best['epsilon']:.2f}, the claim is {claim}, and {best['num_canaries']} "
        f"canaries could have shown {best['max_epsilon']:.2f} at most."
    )


def explain_attacker(audit: AuditInputs) -> str:
    """What an attacker could and could not do here, in plain words, with the numbers of this audit. PRIVATE."""
    sentences = [
        "We invented secrets, planted about half of them in a copy of the training reviews by the toss of a coin, ran it all on the copy, and attacked."
    ]
    for arm, name in (("no_dp", "Without privacy"), ("with_dp", "With differential privacy")):
        found = [words for words in (_tell_leaks(audit, arm), _tell_membership(audit, arm), _tell_bound(audit, arm)) if words]
        if found:
            sentences.append(f"{name}, {'; '.join(found)}.")
    sentences.append(
        "What an attack did not find is not shown to be absent: another one may get further. What holds against every attack is the claimed epsilon, "
        "and no more than that."
    )
    return " ".join(sentences)


def _tell_leaks(audit: AuditInputs, arm: str) -> str:
    rows = {row["way"]: row for row in audit.select("leaks", arm=arm, match="exact", part="any") if row["num_repetitions"] == _most_repeated(audit)}
    if "generated" not in rows:
        return ""
    row = rows["generated"]
    begun = f", and {rows['begun']['num_leaked']} when an attacker gave the beginning" if "begun" in rows else ""
    return (
        f"of the {row['num_canaries']} planted secrets that stood in {row['num_repetitions']} reviews, parts of {row['num_leaked']} came out in "
        f"{row['num_searched']:,} generated reviews{begun}"
    )


def _most_repeated(audit: AuditInputs) -> int:
    return max((row["num_repetitions"] for row in audit.canaries if row["num_in"]), default=0)


def _tell_membership(audit: AuditInputs, arm: str) -> str:
    found = audit.select("membership", arm=arm, signal="calibrated", level="record")
    if not found:
        return ""
    low, high = found[0]["ci95"]
    chance = "guessing, 0.5, is within that" if low <= 0.5 <= high else "guessing is 0.5"
    figures = f"{found[0]['auroc']:.2f} ({low:.2f} to {high:.2f}; {chance})"
    return f"whoever holds the model tells a review it learned from and one it did not apart with an AUROC of {figures}"


def _tell_bound(audit: AuditInputs, arm: str) -> str:
    found = audit.select("bounds", arm=arm, method="one_run", signal="model", num_units=1)
    if not found:
        return ""
    row = found[0]
    return f"the coins of {row['num_canaries']} secrets that one person could have written show an epsilon of at least {row['epsilon']:.2f}, at 95 % confidence"


def explain_repetition(audit: AuditInputs) -> str:
    """Why a secret that is repeated is not protected, with the numbers of this audit. PRIVATE."""
    promise = audit.promise
    one, many = _UNITS.get(promise["privacy_unit"], ("unit", "units"))
    if promise["target_epsilon"] is None:
        return "Nothing is promised here, so nothing is protected, repeated or not."
    epsilon = promise["target_epsilon"]
    bound = promise["max_records_per_unit"]
    records = "one review" if bound == 1 else f"at most {bound} reviews"
    rows = _list_repeated(audit)
    head = (
        f"The promise is for one {one}, with {records}: epsilon {format_epsilon(epsilon)} at delta {format_delta(promise['delta'])}. A secret that stands "
        f"in the data of k {many} is covered by k times that epsilon, and delta grows faster still (group privacy)."
    )
    largest = rows[-1] if rows else None
    if largest is not None and largest["num_units"] > 1:
        grown = format_epsilon(epsilon * largest["num_units"])
        head += (
            f" Here a secret in {largest['num_records']:,} reviews is carried by {largest['num_units']:,} {many}: epsilon {grown}, "
            f"{'which is no promise at all' if epsilon * largest['num_units'] > _NO_PROMISE else 'a weaker promise'}"
            f"{_tell_exposure(audit, largest)}."
        )
    if promise["privacy_unit"] == "record":
        tail = (
            f" One person who repeats a secret in 100 reviews is 100 units: epsilon {format_epsilon(100 * epsilon)}. "
            "Protect users instead, where the data names them."
        )
    else:
        tail = (
            f" Had the single review been protected instead of the {one}, one person who repeats a secret in 100 reviews would be 100 units, at epsilon "
            f"{format_epsilon(100 * epsilon)}; here only {bound} of their reviews take part, under one promise. Many people with one secret stay many "
            "units in both cases."
        )
    return head + tail


def _list_repeated(audit: AuditInputs) -> list[dict[str, Any]]:
    """Records and units that carry one secret, fewest first."""
    if audit.experiment == "original":
        found = {row["num_records"]: row["num_units"] for row in audit.tables.get("originals", [])}
    else:
        found = {row["num_repetitions"]: row["num_units"] for row in audit.canaries}
    return [{"num_records": num, "num_units": found[num]} for num in sorted(found)]


def _tell_exposure(audit: AuditInputs, largest: dict[str, Any]) -> str:
    found = {row["arm"]: row for row in audit.select("exposure", way="rank", num_repetitions=largest["num_records"])}
    if set(found) != {"no_dp", "with_dp"}:
        return ""
    with_dp, no_dp = (f"{found[arm]['mean_bits']:.1f}" for arm in ("with_dp", "no_dp"))
    return f". Its mean exposure was {with_dp} bits with privacy and {no_dp} without; a secret the model never saw has 1.4"
