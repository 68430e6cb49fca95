"""How well scores tell members from non-members: AUROC, true positives at few false alarms, and the curve behind both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from penname.evaluate.bootstrap import Interval
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.privacy.exact_intervals import clopper_pearson

_Z95 = 1.959963984540054
_EDGE = 1e-9


@dataclass(frozen=True, slots=True)
class AttackAuroc:
    """How well an attack ranks. PRIVATE."""

    value: float
    ci95: Interval
    num_members: int
    num_non_members: int


@dataclass(frozen=True, slots=True)
class AttackTpr:
    """What an attack finds when it may raise few false alarms. PRIVATE."""

    value: float
    """Share of the members whose score is above the threshold."""
    ci95: Interval
    """Of the share at this threshold; that the threshold comes from a sample of non-members is not in it."""
    target_fpr: float
    fpr: float
    """Share of the non-members above the threshold, at most `target_fpr`."""
    threshold: float
    num_members: int
    num_non_members: int


def attack_auroc(member_scores: np.ndarray, non_member_scores: np.ndarray) -> AttackAuroc:
    """Probability that a member scores above a non-member; ties count half.

    Range, direction, reference: 0 to 1; lower is better for privacy; 0.5 is what an attack scores that learned nothing. Far below 0.5 is
    a leak too: the same scores with their sign turned attack as well.

    Args:
      member_scores: (n,), higher means more likely a member, n >= 2. PRIVATE.
      non_member_scores: (m,), m >= 2. PRIVATE.
    Returns:
      AttackAuroc: interval by DeLong on the logit scale; Newcombe's where every member is above every non-member, or below: DeLong
      would give a point there. PRIVATE.
    Raises:
      LeftOutError: fewer than two scores on a side, or scores that are no numbers.
    Source: DeLong, DeLong and Clarke-Pearson (1988), doi:10.2307/2531595, in the form of Sun and Xu (2014); Newcombe (2006),
      Statistics in Medicine 25, 559-573, method 5.

    >>> attack_auroc(np.array([2.0, 3.0]), np.array([1.0, 2.0])).value
    0.875
    """
    from scipy.stats import rankdata

    members, others = check_scores(member_scores, non_member_scores)
    num_members, num_others = len(members), len(others)
    ranks = rankdata(np.concatenate([members, others]))
    above_others = (ranks[:num_members] - rankdata(members)) / num_others  # for each member, the share of non-members below it
    below_members = 1 - (ranks[num_members:] - rankdata(others)) / num_members
    value = float(above_others.mean())
    variance = float(above_others.var(ddof=1) / num_members + below_members.var(ddof=1) / num_others)
    if variance == 0 or not 0 < value < 1:
        interval = _newcombe_interval(value, num_members, num_others)
    else:
        logit, half = np.log(value / (1 - value)), _Z95 * np.sqrt(variance) / (value * (1 - value))
        interval = (float(1 / (1 + np.exp(half - logit))), float(1 / (1 + np.exp(-half - logit))))
    return AttackAuroc(value, (min(value, interval[0]), max(value, interval[1])), num_members, num_others)


def _newcombe_interval(value: float, num_members: int, num_others: int) -> Interval:
    """Every AUROC from which `value` is less than 1.96 of that AUROC's own standard errors away."""
    from scipy.optimize import brentq

    extra = (num_members + num_others) / 2 - 1

    def surplus(auroc: float) -> float:
        spread = auroc * (1 - auroc) / (num_members * num_others) * (1 + extra * (1 - auroc) / (2 - auroc) + extra * auroc / (1 + auroc))
        return (value - auroc) ** 2 - _Z95**2 * spread

    # Where the value is 0 or 1 it is a root itself; the bound is the other one.
    low: Any = brentq(surplus, _EDGE, min(value, 1 - _EDGE)) if value > _EDGE and surplus(_EDGE) > 0 else 0.0
    high: Any = brentq(surplus, max(value, _EDGE), 1 - _EDGE) if value < 1 - _EDGE and surplus(1 - _EDGE) > 0 else 1.0
    return float(low), float(high)


def tpr_at_fpr(member_scores: np.ndarray, non_member_scores: np.ndarray, *, target_fpr: float) -> AttackTpr:
    """Share of members found when at most `target_fpr` of the non-members are taken for members.

    Range, direction, reference: 0 to 1; lower is better for privacy; `target_fpr` is what an attack scores that learned nothing.

    Args:
      member_scores: (n,), higher means more likely a member. PRIVATE.
      non_member_scores: (m,), m >= 1 / target_fpr. PRIVATE.
      target_fpr: In (0, 1), such as 0.01.
    Returns:
      AttackTpr: Clopper-Pearson interval. PRIVATE.
    Raises:
      LeftOutError: too few non-members for such a rate, or scores that are no numbers.
    Source: Carlini et al. (2022), https://arxiv.org/abs/2112.03570; Clopper and Pearson (1934).

    >>> tpr_at_fpr(np.array([9.0, 0.5]), np.arange(10.0) / 10, target_fpr=0.1).value
    0.5
    """
    members, others = check_scores(member_scores, non_member_scores)
    needed = int(np.ceil(1 / target_fpr - 1e-9))
    if len(others) < needed:
        raise LeftOutError(
            f"tpr_at_fpr: a false positive rate of {target_fpr:g} needs {needed:,} non-members, there are {len(others):,}; take more heldout data"
        )
    allowed = int(np.floor(target_fpr * len(others) + 1e-9))
    # The score of the first non-member that may not be taken: whoever is above it is a member to the attacker.
    threshold = float(np.sort(others)[::-1][allowed])
    num_hits = int(np.sum(members > threshold))
    low, high = clopper_pearson(num_hits, len(members))
    fpr = float(np.mean(others > threshold))
    return AttackTpr(num_hits / len(members), (float(low), float(high)), target_fpr, fpr, threshold, len(members), len(others))


def roc_curve(member_scores: np.ndarray, non_member_scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The curve: (K,) false positive rates and (K,) true positive rates, from (0, 0) to (1, 1), one point a distinct score. PRIVATE.

    Raises:
      LeftOutError: fewer than two scores on a side, or scores that are no numbers.
    """
    members, others = check_scores(member_scores, non_member_scores)
    thresholds = np.unique(np.concatenate([members, others]))[::-1]
    rates = [1 - np.searchsorted(np.sort(own), thresholds, side="left") / len(own) for own in (others, members)]
    return np.concatenate([[0.0], rates[0]]), np.concatenate([[0.0], rates[1]])


def average_by_unit(scores: np.ndarray, unit_ids: list[str]) -> np.ndarray:
    """The mean score of each unit's records: an attack on a user rather than on a record.

    Args:
      scores: (n,). PRIVATE.
      unit_ids: n units, in any order. PRIVATE.
    Returns:
      (U,) float64, units in order of first appearance. PRIVATE.
    Raises:
      LeftOutError: there is no id, or not one a record.
    Source: Kandpal et al. (2023), user inference. https://arxiv.org/abs/2310.09266

    >>> average_by_unit(np.array([1.0, 5.0, 3.0]), ["b", "a", "b"]).tolist()
    [2.0, 5.0]
    """
    if len(unit_ids) != len(scores) or not all(unit_ids):
        raise LeftOutError("membership by user: the records have no user id; the attack on single records is given alone")
    places = {unit_id: place for place, unit_id in enumerate(dict.fromkeys(unit_ids))}
    units = np.array([places[unit_id] for unit_id in unit_ids])
    return np.bincount(units, weights=np.asarray(scores, dtype=np.float64)) / np.bincount(units)


def check_scores(member_scores: np.ndarray, non_member_scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64.

    Raises:
      LeftOutError: fewer than two on a side, or one is no finite number.
    """
    sides = np.asarray(member_scores, dtype=np.float64).ravel(), np.asarray(non_member_scores, dtype=np.float64).ravel()
    for name, scores in zip(("members", "non-members"), sides, strict=True):
        if len(scores) < 2:
            raise LeftOutError(f"membership: {len(scores)} {name}; an attack needs two or more on each side")
        num_bad = int(np.sum(~np.isfinite(scores)))
        if num_bad:
            raise LeftOutError(f"membership: {num_bad:,} of {len(scores):,} scores of {name} are not finite numbers; see what the model gave for them")
    return sides
