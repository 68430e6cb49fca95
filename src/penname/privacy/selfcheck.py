"""The self-check: before the first step, on the run's own data and model, is what the code does what the accountant assumes?

Every check raises when it fails. What a check says of itself goes into the certificate, so it states bounds and never a figure that was
measured on private data.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from penname.privacy.clipping import BoundedSum
from penname.privacy.errors import SelfCheckError
from penname.privacy.mechanism import DpSgd

SumUnits = Callable[[Sequence[int]], tuple[BoundedSum, torch.Tensor]]
"""Clipped sum and row losses of the units with these indices, computed together, by the code that training uses."""

# Relative to the clip norm: a float64 sum of a few units differs with their order by a few parts in 10^16; one that was rounded to float32
# differs by a few parts in 10^8.
_SUMMATION_ERROR = 1e-12
_NUM_NOISE_DRAWS = 200_000
# Five standard errors: a right mechanism fails each comparison about once in two million runs, one with 2/3 or 3/2 of the scale always.
_NUM_STANDARD_ERRORS = 5.0
_NUM_SAMPLER_ROUNDS = 100
_MIN_UNITS, _MAX_UNITS = 20_000, 250_000
# The variance of one draw's size that its law needs to be looked at; a smaller one says too little.
_MIN_SIZE_VARIANCE = 10.0


@dataclass(frozen=True)
class CheckResult:
    """One check that passed."""

    name: str
    passed: bool
    detail: str


def check_mechanism(mechanism: DpSgd, sum_units: SumUnits, *, num_probe_units: int) -> list[CheckResult]:
    """Runs the checks that need no step: batch mates, sensitivity, noise, sampler.

    Args:
      mechanism: The one that will train. Noise and sampler are probed under a key of their own, so that no draw is used twice.
      sum_units: Training's own way to a clipped sum.
      num_probe_units: Units 0 .. n-1 are probed; at least 1.
    Raises:
      SelfCheckError: names the check that failed.
    """
    known: dict[tuple[int, ...], tuple[BoundedSum, torch.Tensor]] = {}

    def sum_once(indices: Sequence[int]) -> tuple[BoundedSum, torch.Tensor]:
        key = tuple(indices)
        if key not in known:
            known[key] = sum_units(key)
        return known[key]

    return [
        check_batch_mates(sum_once, num_probe_units=num_probe_units, l2_clip_norm=mechanism.l2_clip_norm),
        check_sensitivity(sum_once, num_probe_units=num_probe_units, l2_clip_norm=mechanism.l2_clip_norm),
        check_noise(mechanism),
        check_sampler(mechanism),
    ]


def check_batch_mates(sum_units: SumUnits, *, num_probe_units: int, l2_clip_norm: float) -> CheckResult:
    """A unit's losses are the same bits alone and among others, and so is what it adds to the sum."""
    together, losses = sum_units(range(num_probe_units))
    alone = [sum_units([unit]) for unit in range(num_probe_units)]
    # Batches may order their units in another way, so the losses are compared as a set.
    if not torch.equal(losses.sort().values, torch.cat([row_losses for _, row_losses in alone]).sort().values):
        raise SelfCheckError("self-check batch_mates: a record's loss changes with the other records of its batch" + _HINT)
    apart = sum(part.value for part, _ in alone)
    if not _norm(together.value - apart) <= l2_clip_norm * _SUMMATION_ERROR:
        raise SelfCheckError("self-check batch_mates: what a unit adds to the sum changes with the other units of its batch" + _HINT)
    return CheckResult("batch_mates", True, "a record's loss, and what its unit adds to the sum, are the same alone and in a batch, bit for bit")


# The charge is bound to the layout, so another one is another run.
_HINT = (
    "; where records are packed, this machine does not compute one like the other: start in a new folder for --out with train.layout=alone"
    " (or, if your program multiplied matrices before it called penname, with MKL_CBWR=AUTO,STRICT in its environment)"
)


def check_sensitivity(sum_units: SumUnits, *, num_probe_units: int, l2_clip_norm: float) -> CheckResult:
    """Removing one unit moves the clipped sum by at most the clip norm: from a batch of its own, and from a batch with others."""
    most = l2_clip_norm * (1 + _SUMMATION_ERROR)
    moves = [sum_units([unit])[0].value for unit in range(num_probe_units)]
    if num_probe_units > 1:
        moves.append(sum_units(range(num_probe_units))[0].value - sum_units(range(num_probe_units - 1))[0].value)
    if not all(_norm(move) <= most for move in moves):
        raise SelfCheckError("self-check sensitivity: the clipped sum moves by more than l2_clip_norm when one unit is removed")
    return CheckResult("sensitivity", True, "removing one unit moves the clipped sum by at most l2_clip_norm")


def _norm(value: torch.Tensor) -> float:
    return float(value.norm())  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


def check_noise(mechanism: DpSgd) -> CheckResult:
    """The noise that `release` adds, in the first steps and in the last, has mean 0 and the standard deviation that is accounted for, and no two share it."""
    probe = mechanism.with_probe_key()
    event = mechanism.event
    expected = event["noise_multiplier"] * event["l2_sensitivity"]
    steps = sorted({0, min(1, mechanism.num_steps - 1), mechanism.num_steps - 1})
    noises = [probe.release(step, probe.empty_sum(_NUM_NOISE_DRAWS)).double().numpy() / expected for step in steps]
    for noise in noises:
        mean_error, stddev_error = abs(noise.mean()), abs(noise.std() - 1)
        if mean_error > _NUM_STANDARD_ERRORS / math.sqrt(_NUM_NOISE_DRAWS) or stddev_error > _NUM_STANDARD_ERRORS / math.sqrt(2 * _NUM_NOISE_DRAWS):
            raise SelfCheckError("self-check noise: the noise does not have the mean and standard deviation that are accounted for")
    for one, other in itertools.combinations(noises, 2):
        if abs((one * other).mean()) > _NUM_STANDARD_ERRORS / math.sqrt(_NUM_NOISE_DRAWS):
            raise SelfCheckError("self-check noise: the noise of two steps is correlated")
    return CheckResult("noise", True, f"{_NUM_NOISE_DRAWS:,} draws have the mean and standard deviation that the ledger's event states")


def check_sampler(mechanism: DpSgd) -> CheckResult:
    """Units are drawn each on its own with the probability that is accounted for, anew in every step.

    The total of all draws finds another probability (2/3 or 3/2 of it always, down to 5e-5); the spread of their sizes finds batches of a
    fixed size; the overlap of two steps finds passes over shuffled data, as far as chance alone would give an overlap to miss.
    """
    from scipy import stats  # pyright: ignore[reportMissingTypeStubs]

    prob = mechanism.event["sampling_prob"]
    num_units = int(np.clip(math.ceil(_MIN_SIZE_VARIANCE / prob), _MIN_UNITS, _MAX_UNITS))
    sizes: list[int] = []
    overlap = 0
    for _ in range(_NUM_SAMPLER_ROUNDS):
        probe = mechanism.with_probe_key()
        drawn = probe.draw_units(0, num_units=num_units)
        sizes.append(len(drawn))
        if mechanism.num_steps > 1:
            overlap += len(np.intersect1d(drawn, probe.draw_units(1, num_units=num_units), assume_unique=True))
    num_draws = num_units * _NUM_SAMPLER_ROUNDS
    if _is_unlikely(stats.binom(num_draws, prob), sum(sizes)):
        raise SelfCheckError("self-check sampler: units are not drawn with the probability that is accounted for")
    variance = num_units * prob * (1 - prob)
    spread = sum((size - num_units * prob) ** 2 for size in sizes)
    if variance >= _MIN_SIZE_VARIANCE and _is_unlikely(stats.chi2(_NUM_SAMPLER_ROUNDS), spread / variance):
        raise SelfCheckError("self-check sampler: the number of units in a batch does not vary as independent draws do")
    if mechanism.num_steps > 1 and _is_unlikely(stats.binom(num_draws, prob * prob), overlap):
        raise SelfCheckError("self-check sampler: the draws of two steps are not independent")
    return CheckResult("sampler", True, f"{num_draws:,} units are drawn on their own with the sampling probability that the ledger's event states")


def _is_unlikely(law: Any, value: float) -> bool:
    """Whether a value lies in the tails that a right mechanism reaches about once in a million runs."""
    return min(float(law.cdf(value)), float(law.sf(value - 1))) < 5e-7


def check_only_adapters_train(parameters: Mapping[str, torch.nn.Parameter], *, is_adapter: Callable[[str], bool]) -> CheckResult:
    """Exactly the adapter's weights are trainable."""
    for name, parameter in parameters.items():
        if parameter.requires_grad != is_adapter(name):
            state = "would train" if parameter.requires_grad else "would not train"
            raise SelfCheckError(f"self-check only_adapters_train: {name} {state}")
    return CheckResult("only_adapters_train", True, "the adapter's weights are trainable and no others")


def check_adapters_moved(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> CheckResult:
    """The first private step changed every tensor of the adapter, as its noise must: one that stays would be certified and be useless."""
    for name, weights in before.items():
        if torch.equal(weights, after[name]):
            raise SelfCheckError(f"self-check adapters_moved: the first step did not change {name}")
    if not before:
        raise SelfCheckError("self-check adapters_moved: there is no adapter")
    return CheckResult("adapters_moved", True, "the first step changed every tensor of the adapter")


def to_rows(results: Sequence[CheckResult]) -> list[dict[str, Any]]:
    """The results as the certificate stores them."""
    return [asdict(result) for result in results]
