"""From events to epsilon, and from epsilon to noise. Nothing is clamped and nothing guessed: what is unknown raises.

An event is a plain dict, as the ledger stores it:
  {"type": "gaussian", "noise_multiplier": s, "l2_sensitivity": b}
  {"type": "poisson_sampled_gaussian", "noise_multiplier": s, "l2_sensitivity": b, "sampling_prob": q, "num_steps": t}
noise_multiplier is stddev / l2_sensitivity, so the sensitivity is for the reader and does not enter epsilon.
"""

from __future__ import annotations

import importlib.metadata
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any, cast

import dp_accounting  # pyright: ignore[reportMissingTypeStubs]
from dp_accounting import pld, rdp  # pyright: ignore[reportMissingTypeStubs]

from penname.privacy.errors import PrivacyError

METHOD = "Google dp_accounting, privacy loss distributions, neighbouring relation ADD_OR_REMOVE_ONE, composed from the ledger's events"

# Width of the privacy loss grid. Both give upper bounds; the coarse one is ten times faster and a little higher, so a search on it errs
# to the private side.
_REPORT_GRID = 1e-4
_SEARCH_GRID = 1e-3
# One Gaussian release spends about 1 / (2 noise_multiplier^2) where that is large. The grid widens with it beyond this figure, or a small
# noise multiplier would take minutes and gigabytes; the bound stays a bound, and its relative width the same.
_WIDE_GRID_FROM = 1.0

# Outside, the accountant's arithmetic overflows; nobody wants so little noise, or so much.
_LEAST_ACCOUNTED, _MOST_ACCOUNTED = 1e-3, 1e9

_FIELDS = {
    "gaussian": {"noise_multiplier", "l2_sensitivity"},
    "poisson_sampled_gaussian": {"noise_multiplier", "l2_sensitivity", "sampling_prob", "num_steps"},
}


def accountant_version() -> str:
    """The version of dp_accounting that is installed."""
    return importlib.metadata.version("dp-accounting")


def check_event(event: Any) -> None:
    """Checks that an event is one of the two that this module can account for.

    Raises:
      PrivacyError: names the field that is missing, unknown or out of range.
    """
    # What a ledger from elsewhere holds may be any JSON.
    if not isinstance(event, dict):
        raise PrivacyError(f"event: must be an object, is {event!r}")
    event = cast("dict[str, Any]", event)
    kind = event.get("type")
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise PrivacyError(f"event: type {kind!r} is not known to this accountant")
    fields = set(event) - {"type"}
    if fields != _FIELDS[kind]:
        raise PrivacyError(f"event {kind}: has the fields {sorted(fields)}, needs {sorted(_FIELDS[kind])}")
    for name in ("noise_multiplier", "l2_sensitivity"):
        if not _is_positive(event[name]):
            raise PrivacyError(f"event {kind}: {name} must be positive and finite, is {event[name]!r}")
    if not _LEAST_ACCOUNTED <= event["noise_multiplier"] <= _MOST_ACCOUNTED:
        raise PrivacyError(f"event {kind}: noise_multiplier {event['noise_multiplier']!r} is outside what the accountant can compute")
    if kind == "poisson_sampled_gaussian":
        if not _is_positive(event["sampling_prob"]) or event["sampling_prob"] > 1:
            raise PrivacyError(f"event {kind}: sampling_prob must be in (0, 1], is {event['sampling_prob']!r}")
        if type(event["num_steps"]) is not int or event["num_steps"] < 1:
            raise PrivacyError(f"event {kind}: num_steps must be a whole number >= 1, is {event['num_steps']!r}")


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= sys.float_info.max


def _to_dp_event(event: dict[str, Any]) -> dp_accounting.DpEvent:
    check_event(event)
    gaussian = dp_accounting.GaussianDpEvent(event["noise_multiplier"])
    if event["type"] == "gaussian":
        return gaussian
    sampled = dp_accounting.PoissonSampledDpEvent(event["sampling_prob"], gaussian)
    return dp_accounting.SelfComposedDpEvent(sampled, event["num_steps"])


def compute_epsilon(events: Sequence[dict[str, Any]], *, delta: float) -> float:
    """The epsilon that the events spend together.

    Guarantee: an upper bound; the discretisation of the privacy loss is pessimistic.

    Args:
      events: In the form above; none of them spends 0.
      delta: In (0, 1).
    Raises:
      PrivacyError: an event is not understood, or delta is out of range.
    Source: Koskela et al. (2020); Doroshenko et al. (2022), https://arxiv.org/abs/2207.04380
    """
    return _compose(_pld_accountant(_REPORT_GRID, events), events, delta)


def _pld_accountant(grid: float, events: Sequence[dict[str, Any]]) -> pld.PLDAccountant:
    for event in events:
        check_event(event)
    largest_loss = max((0.5 / event["noise_multiplier"] / event["noise_multiplier"] for event in events), default=0.0)
    grid *= max(1.0, largest_loss / _WIDE_GRID_FROM)
    return pld.PLDAccountant(dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=grid)


def compute_epsilon_rdp(events: Sequence[dict[str, Any]], *, delta: float) -> float:
    """The same by Renyi differential privacy: another road, and always at least as much as `compute_epsilon`.

    Source: Mironov (2017); Mironov, Talwar and Zhang (2019), https://arxiv.org/abs/1908.10530
    """
    log = logging.getLogger("absl")
    level = log.level
    # The accountant warns on standard error of every order that it leaves out; the bound of those that remain holds without them.
    log.setLevel(logging.ERROR)
    try:
        return _compose(rdp.RdpAccountant(neighboring_relation=dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE), events, delta)
    finally:
        log.setLevel(level)


def _compose(accountant: dp_accounting.PrivacyAccountant, events: Sequence[dict[str, Any]], delta: float) -> float:
    if not 0 < delta < 1:
        raise PrivacyError(f"delta: must be in (0, 1), is {delta}")
    for event in events:
        accountant.compose(_to_dp_event(event))
    return float(accountant.get_epsilon(delta)) if events else 0.0


# Below this the search stops: the accountant's tables grow without use, and no promise worth making is met there.
_LEAST_NOISE = 0.05


def calibrate_noise(make_events: Callable[[float], Sequence[dict[str, Any]]], *, target_epsilon: float, delta: float, tolerance: float = 1e-3) -> float:
    """The smallest noise multiplier, up to `tolerance` and rounded up, at which the events keep the promise.

    Guarantee: compute_epsilon(make_events(result), delta) <= target_epsilon. Errs to the private side.

    Args:
      make_events: All events that the promise covers, given the noise multiplier that is sought.
      target_epsilon: > 0.
      delta: In (0, 1).
      tolerance: Relative width of the last bracket.
    Raises:
      PrivacyError: no noise multiplier up to 10^5 keeps the promise; the other events spend too much.
    """

    # On a grid that is coarse beside the promise, the upper bound would be far above the truth, and noise be wasted.
    search_grid = min(_SEARCH_GRID, target_epsilon / 100)

    def spends(noise_multiplier: float) -> float:
        events = make_events(noise_multiplier)
        return _compose(_pld_accountant(search_grid, events), events, delta)

    low, high = 0.0, 1.0
    while spends(high) > target_epsilon:
        low, high = high, 2 * high
        if high > 1e5:
            raise PrivacyError(f"target_epsilon: {target_epsilon} at delta {delta} is too small to reach with any noise; raise it, or take fewer steps")
    while high - low > tolerance * high and high > _LEAST_NOISE:
        middle = (low + high) / 2
        low, high = (middle, high) if spends(middle) > target_epsilon else (low, middle)
    if compute_epsilon(make_events(high), delta=delta) > target_epsilon:
        raise PrivacyError("target_epsilon: the search for the noise multiplier and the final accounting disagree")
    return high
