"""The self-check of draws: before the first one, on the run's own data and model, is what the code does what the accountant assumes?

Every check raises when it fails. What a check says of itself goes into the certificate, so it states no figure that was measured on private data.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from penname.privacy.errors import SelfCheckError
from penname.privacy.exponential import BoundedScores, ExponentialDraws
from penname.privacy.selfcheck import CheckResult

ScoreUnits = Callable[[Sequence[int]], tuple[torch.Tensor, list[BoundedScores]]]
"""What the units with these indices say, (U, T, K), and the scores of T draws with them; computed together, by the code that writes."""

_ROUNDING = 1e-12
_NUM_DRAWS = 20_000
_NUM_OPTIONS = 8
_NUM_UNITS = 200_000
_MOST_CHOICES = 7


def check_draws(mechanism: ExponentialDraws, score_units: ScoreUnits, *, num_probe_units: int) -> list[CheckResult]:
    """Runs the checks: batch mates, sensitivity, noise, sampler, and that nothing but the draws changes.

    Args:
      mechanism: The one that will draw; it is probed under a key of its own.
      score_units: The run's own way to the scores.
      num_probe_units: Units 0 .. n-1 are probed.
    Raises:
      SelfCheckError: names the check that failed.
    """
    units = range(num_probe_units)
    together, alone = score_units(units), [score_units([unit]) for unit in units]
    return [
        check_units_apart(together[0], [said for said, _ in alone]),
        check_moves(score_units, together[1], [scores for _, scores in alone], bound=mechanism.linf_sensitivity),
        check_law(mechanism),
        check_groups(mechanism),
        check_texts_differ(mechanism),
    ]


def check_units_apart(together: torch.Tensor, alone: Sequence[torch.Tensor]) -> CheckResult:
    """What a unit says is the same bits alone and among others."""
    if not torch.equal(together, torch.cat([*alone, together[:0]])):
        raise SelfCheckError("self-check batch_mates: what a unit says changes with the other units of its group")
    return CheckResult("batch_mates", True, "what a unit says of each next word is the same alone and in a group, bit for bit")


def check_moves(score_units: ScoreUnits, together: Sequence[BoundedScores], alone: Sequence[Sequence[BoundedScores]], *, bound: float) -> CheckResult:
    """Removing one unit moves no score by more than the bound: from a group of its own, and from one with others."""
    _, nobody = score_units([])
    pairs = [pair for scores in alone for pair in zip(scores, nobody, strict=True)]
    if len(alone) > 1:
        _, fewer = score_units(range(len(alone) - 1))
        pairs += list(zip(together, fewer, strict=True))
    for one, other in pairs:
        if not float(np.abs(one.value - other.value).max()) <= bound * (1 + _ROUNDING):
            raise SelfCheckError("self-check sensitivity: a score moves by more than linf_sensitivity when one unit is removed")
    return CheckResult("sensitivity", True, "removing one unit moves the score of no word by more than linf_sensitivity")


def check_law(mechanism: ExponentialDraws) -> CheckResult:
    """First and last draws follow exp(score / temperature), at scores that tell one temperature from another."""
    probe, event = mechanism.with_probe_key(), mechanism.event
    step = -3.0 * float(event["temperature"]) / (_NUM_OPTIONS - 1)
    scores = np.array([step * option for option in range(_NUM_OPTIONS)], dtype=np.float64)
    shown = BoundedScores(scores, mechanism.linf_sensitivity, 0)
    weights = np.exp(scores / event["temperature"])
    expected = _NUM_DRAWS * weights / weights.sum()
    for place in {0, mechanism.num_draws - 1}:
        found = np.bincount([probe.draw(group, place, shown) for group in range(_NUM_DRAWS)], minlength=_NUM_OPTIONS)
        if _is_unlikely(found, expected):
            raise SelfCheckError("self-check noise: the draws do not follow the temperature that is accounted for")
    return CheckResult("noise", True, f"{_NUM_DRAWS:,} draws follow exp(score / temperature) with the temperature that the ledger's event states")


def check_groups(mechanism: ExponentialDraws) -> CheckResult:
    """Every unit is in one of the groups that are open to it, evenly, and where there is none in none."""
    probe = mechanism.with_probe_key()
    num_choices = np.arange(_NUM_UNITS) % (_MOST_CHOICES + 1)
    groups = probe.assign_groups(num_choices)
    for count in range(_MOST_CHOICES + 1):
        own = groups[num_choices == count]
        if count == 0:
            is_right = bool((own == -1).all())
        else:
            is_right = bool(((own >= 0) & (own < count)).all()) and not _is_unlikely(np.bincount(own, minlength=count), np.full(count, len(own) / count))
        if not is_right:
            raise SelfCheckError("self-check sampler: units are not put evenly into the groups that are open to them")
    return CheckResult("sampler", True, "each unit is put into one group, evenly, whoever else there is")


def check_texts_differ(mechanism: ExponentialDraws) -> CheckResult:
    """There is no adapter that could move; instead, no two draws share their random number."""
    probe = mechanism.with_probe_key()
    even = BoundedScores(np.zeros(2), mechanism.linf_sensitivity, 0)
    places = range(min(64, mechanism.num_draws))
    texts = [tuple(probe.draw(group, place, even) for place in places) for group in range(8)]
    if len(places) > 32 and any(one == other for one, other in itertools.combinations(texts, 2)):
        raise SelfCheckError("self-check adapters_moved: two texts are drawn from the same random numbers")
    return CheckResult("adapters_moved", True, "there is no adapter; the words of each text are drawn from random numbers of their own")


def _is_unlikely(found: Any, expected: Any) -> bool:
    """Whether counts lie where right ones come about once in two million runs."""
    from scipy import stats  # pyright: ignore[reportMissingTypeStubs]

    statistic = float(((found - expected) ** 2 / expected).sum())
    law: Any = stats.chi2(max(1, len(found) - 1))
    return len(found) > 1 and float(law.sf(statistic)) < 5e-7
