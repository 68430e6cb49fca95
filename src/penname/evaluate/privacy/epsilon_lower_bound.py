"""Lower bounds on epsilon from what an attacker found out, and the verdict on the epsilon that was claimed."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from penname.evaluate.privacy.errors import AuditFailureError, LeftOutError
from penname.evaluate.privacy.exact_intervals import clopper_pearson
from penname.evaluate.privacy.roc import check_scores

CONFIDENCE = 0.95
GUESS_FRACS = (1.0, 0.25, 0.0625)
"""Shares of the canaries that the one-run attacker guesses; he abstains on those in the middle. Fixed before the scores are seen."""
MAX_EPSILON = 100.0
"""No bound looks further; no audit of a real size gets near."""
_TOLERANCE = 1e-4
_MAX_CANARIES = 1 << 18
_NUM_THRESHOLDS = 200


@dataclass(frozen=True, slots=True)
class EpsilonBound:
    """With `confidence`, the mechanism is not (epsilon', delta)-DP for any epsilon' below `epsilon`. PRIVATE."""

    method: str
    """one_run or classical."""
    epsilon: float
    delta: float
    confidence: float
    num_canaries: int
    num_guesses: int
    """Canaries that were not abstained on (one_run), or that the threshold was tried on (classical)."""
    num_correct: int
    max_epsilon: float
    """What it would have been had every guess been right: the most that so many canaries can show."""


def one_run_p_values(num_correct: int, num_guesses: int, num_canaries: int, *, epsilon: np.ndarray, delta: float) -> np.ndarray:
    """Largest probability with which an (epsilon, delta)-DP mechanism lets an attacker guess at least so many coins right.

    Args:
      num_correct: 0 <= correct <= guesses.
      num_guesses: Guesses made, abstentions left out.
      num_canaries: Canaries whose inclusion was a fair coin each, >= guesses.
      epsilon: (K,) of the null hypothesis, ADD_OR_REMOVE_ONE of a canary.
      delta: Of the null hypothesis.
    Returns:
      (K,) float64.
    Source: Steinke, Nasr and Jagielski (2023), theorem 5.2 and appendix D. https://arxiv.org/abs/2305.08846
    """
    from scipy.stats import binom

    epsilon = np.asarray(epsilon, dtype=np.float64)
    accuracy = 1 / (1 + np.exp(-epsilon))
    tail = binom.sf(num_correct - 1, num_guesses, accuracy)
    if delta == 0 or num_correct == 0:
        return np.minimum(tail, 1.0)
    # P[correct > W >= correct - i] for i = 1, 2, ..., correct, where W counts the right guesses of randomised response.
    steps = np.arange(1, num_correct + 1)
    below = np.cumsum(binom.pmf(num_correct - steps, num_guesses, accuracy[..., None]), axis=-1)
    alpha = np.max(below / steps, axis=-1)
    return np.minimum(tail + 2 * num_canaries * delta * alpha, 1.0)


@functools.lru_cache(maxsize=4096)
def one_run_epsilon(num_correct: int, num_guesses: int, num_canaries: int, *, delta: float, error_prob: float = 1 - CONFIDENCE) -> float:
    """The largest epsilon that so many right guesses refute.

    Guarantee: an (epsilon, delta)-DP mechanism yields more than epsilon with probability at most `error_prob`.

    Args:
      num_correct, num_guesses, num_canaries: As in `one_run_p_values`. The number of guesses was fixed beforehand.
      delta: Of the claim.
      error_prob: Of one such test.
    Returns:
      float: 0 where not even epsilon 0 is refuted.
    Source: Steinke, Nasr and Jagielski (2023). https://arxiv.org/abs/2305.08846
    """

    def is_refuted(epsilon: float) -> bool:
        return float(one_run_p_values(num_correct, num_guesses, num_canaries, epsilon=np.array([epsilon]), delta=delta)[0]) <= error_prob

    if not is_refuted(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while high < MAX_EPSILON and is_refuted(high):
        low, high = high, 2 * high
    while high - low > _TOLERANCE:
        middle = (low + high) / 2
        low, high = (middle, high) if is_refuted(middle) else (low, middle)
    return low


def canaries_needed(epsilon: float, *, delta: float, error_prob: float = 1 - CONFIDENCE) -> int:
    """The fewest canaries that can refute `epsilon`: so many guessed right of so many in one run.

    >>> canaries_needed(0.0, delta=0.0), canaries_needed(1.0, delta=0.0)
    (5, 10)

    Raises:
      LeftOutError: none of a size that an audit could have can, since delta or epsilon is too large.
    """

    def can_refute(num: int) -> bool:
        return float(one_run_p_values(num, num, num, epsilon=np.array([epsilon]), delta=delta)[0]) <= error_prob

    low, high = 0, 1
    while not can_refute(high):
        if high > _MAX_CANARIES:
            raise LeftOutError(f"epsilon_lower_bound: not even {_MAX_CANARIES:,} canaries can refute epsilon {epsilon:g} at delta {delta:g} in one run")
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if can_refute(middle) else (middle, high)
    return high


def bound_epsilon_one_run(scores: np.ndarray, is_in: np.ndarray, *, delta: float, rng: np.random.Generator, num_bounds: int = 1) -> EpsilonBound:
    """Lower bound from one training run: the attacker guesses the coins of the canaries that score highest (in) and lowest (out).

    Range, direction, reference: 0 and up; lower is better; 0 is what an attack finds that learned nothing. Tries every share of
    GUESS_FRACS and pays for the choice (Bonferroni).
    Guarantee: for an (epsilon, delta)-DP mechanism the bound exceeds epsilon in at most 5 of 100 runs, if each canary is one privacy unit and
    its coin is fair, independent and unknown to whoever made the scores. Canaries in one model may lean on each other; this bound allows for it.
    Of `num_bounds` such bounds, any exceeds its epsilon in at most 5 of 100 runs.

    Args:
      scores: (n,) higher means more likely in. PRIVATE.
      is_in: (n,) bool, the coins. PRIVATE.
      delta: Of the claim.
      rng: Seeded; breaks ties, so that the order of the canaries, which may follow their coins, does not.
      num_bounds: How many are compared with a claim in one audit, fixed beforehand; each pays for all of them.
    Returns:
      EpsilonBound: PRIVATE.
    Raises:
      LeftOutError: too few canaries for any bound (says how many), or scores that are no numbers.
    Source: Steinke, Nasr and Jagielski (2023), algorithm 1. https://arxiv.org/abs/2305.08846
    """
    scores, is_in = np.asarray(scores, dtype=np.float64), np.asarray(is_in, dtype=bool)
    num, error_prob = len(scores), (1 - CONFIDENCE) / (len(GUESS_FRACS) * num_bounds)
    needed = canaries_needed(0.0, delta=delta, error_prob=error_prob)
    if num < needed:
        raise LeftOutError(f"epsilon_lower_bound: {num} canaries; one run needs {needed} or more for any bound above 0")
    if not np.isfinite(scores).all():
        raise LeftOutError("epsilon_lower_bound: some scores are not finite numbers; see what the model gave for them")
    shuffled = rng.permutation(num)
    ranked = is_in[shuffled][np.argsort(scores[shuffled], kind="stable")]
    tried: list[EpsilonBound] = []
    for frac in GUESS_FRACS:
        num_guesses = max(2, round(frac * num))
        num_low = num_guesses // 2
        num_correct = int(np.sum(~ranked[:num_low]) + np.sum(ranked[num - (num_guesses - num_low) :]))
        epsilon = one_run_epsilon(num_correct, num_guesses, num, delta=delta, error_prob=error_prob)
        tried.append(EpsilonBound("one_run", epsilon, delta, CONFIDENCE, num, num_guesses, num_correct, math.nan))
    best = max(tried, key=lambda bound: bound.epsilon)
    ceiling = one_run_epsilon(num, num, num, delta=delta, error_prob=error_prob)
    return EpsilonBound("one_run", best.epsilon, delta, CONFIDENCE, num, best.num_guesses, best.num_correct, ceiling)


def epsilon_from_rates(
    num_true_positives: np.ndarray | int, num_members: int, num_false_positives: np.ndarray | int, num_non_members: int, *, delta: float
) -> np.ndarray:
    """Classical lower bound from the hits and false alarms of one attack that was fixed beforehand.

    Guarantee: for an (epsilon, delta)-DP mechanism the bound exceeds epsilon with probability at most 5 %, if every trial is a run of its own.

    Args:
      num_true_positives: Members taken for members; arrays broadcast.
      num_members: Trials with the unit.
      num_false_positives: Non-members taken for members.
      num_non_members: Trials without the unit.
      delta: Of the claim.
    Returns:
      float64 array, 0 and up: the better of log((TPR - delta) / FPR) and log((TNR - delta) / FNR), each rate at its worst.
    Source: Jagielski, Ullman and Oprea (2020), https://arxiv.org/abs/2006.07709; Nasr et al. (2021), https://arxiv.org/abs/2101.04535

    >>> round(float(epsilon_from_rates(1000, 1000, 0, 1000, delta=0.0)), 2)
    5.6
    """
    # Two one-sided statements, each wrong with probability 2.5 %: both rates are as bad as they may be, and both inequalities follow from them.
    tpr_low, _ = clopper_pearson(num_true_positives, num_members, confidence=CONFIDENCE)
    _, fpr_high = clopper_pearson(num_false_positives, num_non_members, confidence=CONFIDENCE)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.log(np.maximum(tpr_low - delta, 0.0) / fpr_high)
        missed = np.log(np.maximum(1 - fpr_high - delta, 0.0) / (1 - tpr_low))
    return np.maximum(np.maximum(found, missed), 0.0)


def bound_epsilon_classical(member_scores: np.ndarray, non_member_scores: np.ndarray, *, delta: float, rng: np.random.Generator) -> EpsilonBound:
    """Classical lower bound: a threshold is chosen on one half of the scores and tried on the other.

    Range, direction, reference: 0 and up; lower is better; 0 is what an attack finds that learned nothing.
    Guarantee: as `epsilon_from_rates`. With canaries of one run, which share a model, it is an estimate and not a bound; only
    `bound_epsilon_one_run` is one there.

    Args:
      member_scores: (n,) higher means more likely a member, n >= 4. PRIVATE.
      non_member_scores: (m,), m >= 4. PRIVATE.
      delta: Of the claim.
      rng: Seeded; draws the halves.
    Returns:
      EpsilonBound: PRIVATE.
    Raises:
      LeftOutError: fewer than four scores on a side, or scores that are no numbers.
    Source: Jagielski, Ullman and Oprea (2020), https://arxiv.org/abs/2006.07709
    """
    members, others = check_scores(member_scores, non_member_scores)
    if min(len(members), len(others)) < 4:
        raise LeftOutError(f"epsilon_lower_bound: {len(members)} members and {len(others)} non-members; the classical bound needs four or more of each")
    halves = [np.array_split(rng.permutation(side), 2) for side in (members, others)]
    (chosen_members, tried_members), (chosen_others, tried_others) = halves
    levels = np.unique(np.quantile(np.concatenate([chosen_members, chosen_others]), np.linspace(0, 1, _NUM_THRESHOLDS)))
    thresholds = np.concatenate([levels[:1], (levels[:-1] + levels[1:]) / 2])
    by_threshold = epsilon_from_rates(
        _count_above(chosen_members, thresholds), len(chosen_members), _count_above(chosen_others, thresholds), len(chosen_others), delta=delta
    )
    best = np.flatnonzero(by_threshold >= by_threshold.max())
    # Of equally good ones the middle: the outer ones separate the other half less surely.
    threshold = thresholds[[best[len(best) // 2]]]
    hits, alarms = int(_count_above(tried_members, threshold)[0]), int(_count_above(tried_others, threshold)[0])
    num, num_correct = len(tried_members) + len(tried_others), hits + len(tried_others) - alarms
    epsilon = float(epsilon_from_rates(hits, len(tried_members), alarms, len(tried_others), delta=delta))
    ceiling = float(epsilon_from_rates(len(tried_members), len(tried_members), 0, len(tried_others), delta=delta))
    return EpsilonBound("classical", epsilon, delta, CONFIDENCE, len(members) + len(others), num, num_correct, ceiling)


def _count_above(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    return len(scores) - np.searchsorted(np.sort(scores), thresholds, side="right")


def group_promise(epsilon: float, delta: float, *, num_units: int) -> tuple[float, float]:
    """What an (epsilon, delta) promise to one unit is worth to a secret that stands in the data of several.

    Args:
      epsilon, delta: Promised to each unit.
      num_units: Units that carry the secret, >= 1.
    Returns:
      (epsilon, delta) of the group; delta may reach 1, and then nothing is promised.
    Source: Dwork and Roth (2014), theorem 2.2; for delta, Vadhan (2017), lemma 2.2.

    >>> group_promise(1.0, 0.0, num_units=64)
    (64.0, 0.0)
    """
    if num_units == 1 or epsilon == 0:
        return epsilon * num_units, min(1.0, delta * num_units)
    # delta (1 + e^epsilon + ... + e^((k - 1) epsilon)), by logarithms: e^(k epsilon) overflows long before delta does not matter.
    exponent = num_units * epsilon + math.log1p(-math.exp(-num_units * epsilon)) - math.log(math.expm1(epsilon))
    return epsilon * num_units, min(1.0, delta * math.exp(min(exponent, 700.0)))


def check_claim(bounds: Sequence[EpsilonBound], *, claimed_epsilon: float, delta: float, what: str) -> None:
    """Compares what was found with what was claimed; the audit ends here when more was found.

    Args:
      bounds: Of one arm, all at the delta of the claim.
      claimed_epsilon: `epsilon_spent` of the arm, of the group where several units carry one canary (`group_promise`).
      delta: Of the claim.
      what: The arm, and the canaries, for the message.
    Raises:
      AuditFailureError: a lower bound is above the claim: the guarantee does not hold.
      ValueError: a bound is for another delta: the two cannot be compared.
    """
    for bound in bounds:
        if bound.delta < delta:
            raise ValueError(f"a bound at delta {bound.delta:g} says nothing about a claim at delta {delta:g}")
        if bound.epsilon > claimed_epsilon:
            raise AuditFailureError(
                f"audit: {what} leaks at least epsilon {bound.epsilon:.2f} ({bound.method.replace('_', '-')} bound, {bound.confidence:.0%} confidence, "
                f"{bound.num_canaries:,} canaries), more than the {claimed_epsilon:.2f} that is claimed at delta {delta:g}: "
                "the guarantee does not hold; release nothing of this run and look for the fault"
            )
