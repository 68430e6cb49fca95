"""From events to epsilon, and from epsilon to noise. Nothing is clamped and nothing guessed: what is unknown raises.

An event is a plain dict, as the ledger stores it:
  {"type": "gaussian", "noise_multiplier": s, "l2_sensitivity": b}
  {"type": "poisson_sampled_gaussian", "noise_multiplier": s, "l2_sensitivity": b, "sampling_prob": q, "num_steps": t}
  {"type": "exponential", "temperature": t, "linf_sensitivity": b, "num_draws": n}
  {"type": "non_private"}: epsilon is infinite, so no ledger takes it
noise_multiplier is stddev / l2_sensitivity, so the sensitivity is for the reader and does not enter epsilon. The exponential mechanism draws in proportion to
exp(score / t), where one unit moves no score by more than b: what counts is t / b.
"""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import dp_accounting  # pyright: ignore[reportMissingTypeStubs]
from dp_accounting import pld, rdp  # pyright: ignore[reportMissingTypeStubs]

from penname.privacy.errors import PrivacyError, show_value

METHOD = (
    "Google dp_accounting, privacy loss distributions, neighbouring relation ADD_OR_REMOVE_ONE. The ledger's counts of units, composed, at 1 % of delta; "
    "plus its other events, composed, at 99 % of delta: added because the parameters of the others depend on the count"
)
METHOD_WITH_DRAWS = (
    f"{METHOD}. Where draws of the exponential mechanism are among the others, these are composed by Renyi divergences, a draw as one Gaussian release of the "
    "noise multiplier temperature / linf_sensitivity: both are rho-zCDP with rho = (linf_sensitivity / temperature)^2 / 2"
)

# Width of the privacy loss grid. Both give upper bounds; the coarse one is ten times faster and a little higher, so a search on it errs
# to the private side.
_REPORT_GRID = 1e-4
_SEARCH_GRID = 1e-3
# One Gaussian release loses about 1 / (2 noise_multiplier^2) where that is large, and many steps lose much together. The grid widens with
# either beyond these figures, or little noise would take minutes and gigabytes; the bound stays a bound, its relative width about the same.
_WIDE_GRID_FROM_ONE = 1.0
_WIDE_GRID_FROM_ALL = 100.0
_FINE_GRID_FRAC = 0.01

# Outside, the accountant's arithmetic overflows; nobody wants so little noise, or so much.
_LEAST_ACCOUNTED, _MOST_ACCOUNTED = 1e-3, 1e9
# The accountant cuts tails of about 1e-15 off its tables a composition; a smaller delta would read nothing but what was cut.
_LEAST_DELTA = 1e-12

MAX_STEPS = 1_000_000
"""Of all sampled events together. More would take the accountant minutes, and whoever writes a ledger could make `verify` wait for hours."""
MAX_SAMPLED_EVENTS = 100
"""Different ones, of a ledger: the accountant takes about a quarter of a second for each."""

_FIELDS = {
    "gaussian": {"noise_multiplier", "l2_sensitivity"},
    "poisson_sampled_gaussian": {"noise_multiplier", "l2_sensitivity", "sampling_prob", "num_steps"},
    "exponential": {"temperature", "linf_sensitivity", "num_draws"},
    "non_private": set[str](),
}


def accountant_version() -> str:
    """The version of dp_accounting that is installed."""
    return importlib.metadata.version("dp-accounting")


def describe_method(events: Sequence[dict[str, Any]]) -> str:
    """How the epsilon of these events is computed, in a sentence."""
    return METHOD_WITH_DRAWS if any(event["type"] == "exponential" for event in events) else METHOD


def check_event(event: Any) -> None:
    """Checks that an event is one of those that this module can account for.

    Raises:
      PrivacyError: names the field that is missing, unknown or out of range.
    """
    # What a ledger from elsewhere holds may be any JSON.
    if not isinstance(event, dict):
        raise PrivacyError(f"event: must be an object, is {show_value(event)}")
    event = cast("dict[str, Any]", event)
    kind = event.get("type")
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise PrivacyError(f"event: type {show_value(kind)} is not known to this accountant")
    fields = set(event) - {"type"}
    if fields != _FIELDS[kind]:
        raise PrivacyError(f"event {kind}: has the fields {show_value(sorted(fields))}, needs {sorted(_FIELDS[kind])}")
    if kind == "non_private":
        return
    if kind == "exponential":
        _check_exponential(event)
        return
    for name in ("noise_multiplier", "l2_sensitivity"):
        if not _is_positive(event[name]):
            raise PrivacyError(f"event {kind}: {name} must be positive and finite, is {show_value(event[name])}")
    if not _LEAST_ACCOUNTED <= event["noise_multiplier"] <= _MOST_ACCOUNTED:
        raise PrivacyError(f"event {kind}: noise_multiplier {show_value(event['noise_multiplier'])} is outside what the accountant can compute")
    if kind == "poisson_sampled_gaussian":
        if not _is_positive(event["sampling_prob"]) or event["sampling_prob"] > 1:
            raise PrivacyError(f"event {kind}: sampling_prob must be in (0, 1], is {show_value(event['sampling_prob'])}")
        if type(event["num_steps"]) is not int or not 1 <= event["num_steps"] <= MAX_STEPS:
            raise PrivacyError(f"event {kind}: num_steps must be a whole number from 1 to {MAX_STEPS:,}, is {show_value(event['num_steps'])}")


def _check_exponential(event: dict[str, Any]) -> None:
    for name in ("temperature", "linf_sensitivity"):
        if not _is_positive(event[name]):
            raise PrivacyError(f"event exponential: {name} must be positive and finite, is {show_value(event[name])}")
    if not _LEAST_ACCOUNTED <= event["temperature"] / event["linf_sensitivity"] <= _MOST_ACCOUNTED:
        raise PrivacyError("event exponential: temperature / linf_sensitivity is outside what the accountant can compute")
    if type(event["num_draws"]) is not int or not 1 <= event["num_draws"] <= MAX_STEPS:
        raise PrivacyError(f"event exponential: num_draws must be a whole number from 1 to {MAX_STEPS:,}, is {show_value(event['num_draws'])}")


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= sys.float_info.max


def check_promise(target_epsilon: Any, delta: Any) -> None:
    """Checks that a promise is one that can be accounted for.

    Raises:
      PrivacyError: names target_epsilon or delta.
    """
    if not _is_positive(target_epsilon):
        raise PrivacyError(f"target_epsilon: must be positive and finite, is {show_value(target_epsilon)}")
    _check_delta(delta)


def _check_delta(delta: Any) -> None:
    if not _is_positive(delta) or not _LEAST_DELTA <= delta < 1:
        raise PrivacyError(f"delta: must be in (0, 1) and at least {_LEAST_DELTA:g}, is {show_value(delta)}")


@dataclass(frozen=True)
class _Merged:
    """Events that spend the same as those given, as few as can be."""

    gaussian: float | None
    """Noise multiplier of one Gaussian release in place of all of them."""
    sampled: tuple[tuple[tuple[float, float], int], ...]
    """((noise_multiplier, sampling_prob), number of steps), sampling_prob < 1."""
    is_private: bool
    has_draws: bool
    """Some of the Gaussian release stands for draws of the exponential mechanism, which are no worse in Renyi divergences only."""


def _merge(events: Sequence[dict[str, Any]]) -> _Merged:
    """Checks and merges events.

    Gaussian releases with noise multipliers s_i are together one with (sum of 1 / s_i^2)^(-1/2), exactly; a step that takes everyone is one
    of them. Source: Dong, Roth and Su (2019), corollary 3.3. https://arxiv.org/abs/1905.02383

    A draw of the exponential mechanism has a privacy loss in an interval of 2 linf_sensitivity / temperature, so it is rho-zCDP with
    rho = (linf_sensitivity / temperature)^2 / 2, as one Gaussian release with the noise multiplier temperature / linf_sensitivity is.
    Source: Cesar and Rogers (2021), https://arxiv.org/abs/2004.07223; Bun and Steinke (2016), https://arxiv.org/abs/1605.02065
    """
    precision, sampled, is_private, has_draws = 0.0, dict[tuple[float, float], int](), True, False
    for event in events:
        check_event(event)
        if event["type"] == "non_private":
            is_private = False
            continue
        if event["type"] == "exponential":
            precision += event["num_draws"] * (event["linf_sensitivity"] / event["temperature"]) ** 2
            has_draws = True
            continue
        noise_multiplier, sampling_prob, num_steps = float(event["noise_multiplier"]), float(event.get("sampling_prob", 1)), event.get("num_steps", 1)
        if sampling_prob == 1:
            precision += num_steps / noise_multiplier**2
        else:
            sampled[noise_multiplier, sampling_prob] = sampled.get((noise_multiplier, sampling_prob), 0) + num_steps
    if len(sampled) > MAX_SAMPLED_EVENTS or sum(sampled.values()) > MAX_STEPS:
        raise PrivacyError(f"events: more than {MAX_SAMPLED_EVENTS} different sampled events or {MAX_STEPS:,} steps together are not accounted for")
    return _Merged(precision**-0.5 if precision else None, tuple(sampled.items()), is_private, has_draws)


def compute_epsilon(events: Sequence[dict[str, Any]], *, delta: float) -> float:
    """The epsilon that the events spend together.

    Guarantee: an upper bound; the discretisation of the privacy loss is pessimistic. Where draws of the exponential mechanism are among the events, it is
    the bound of `compute_epsilon_rdp`.

    Args:
      events: In the form above; none of them spends 0.
      delta: In (0, 1).
    Raises:
      PrivacyError: an event is not understood, or delta is out of range.
    Source: Koskela et al. (2020); Doroshenko et al. (2022), https://arxiv.org/abs/2207.04380
    """
    return _compute_on_grid(_REPORT_GRID, events, delta)


FIRST_DELTA_FRAC = 0.01
"""Share of delta that goes to the releases on which the parameters of the others depend."""


def compute_epsilon_in_two_parts(
    first: Sequence[dict[str, Any]], rest: Sequence[dict[str, Any]], *, delta: float, by: Callable[..., float] | None = None
) -> float:
    """The epsilon that `first` and `rest` spend together, where the parameters of `rest` may depend on what `first` released.

    Guarantee: an upper bound. Privacy losses compose like this only when their parameters are fixed in advance. So each part is composed by
    itself, at its share of delta, and the two are added: basic composition holds whatever the second part depends on.

    Args:
      first: Events with fixed parameters, such as counts.
      rest: Events whose parameters are fixed once `first` is known.
      delta: For both together, in (0, 1).
      by: `compute_epsilon` unless told otherwise, or `compute_epsilon_rdp`.
    Source: Rogers et al. (2016), https://arxiv.org/abs/1605.08294; Dwork and Roth (2014), theorem B.1.
    """
    compute = by or compute_epsilon
    if not first or not rest:
        return compute([*first, *rest], delta=delta)
    return compute(first, delta=delta * FIRST_DELTA_FRAC) + compute(rest, delta=delta * (1 - FIRST_DELTA_FRAC))


def _compute_on_grid(grid: float, events: Sequence[dict[str, Any]], delta: float) -> float:
    _check_delta(delta)
    merged = _merge(events)
    return _compute_rdp(merged, delta) if merged.has_draws else _compose_on_grid(grid, merged, delta)


# A run asks for the same figure at every charge, in its certificate and wherever its plan is made again.
@functools.lru_cache(maxsize=1024)
def _compose_on_grid(grid: float, merged: _Merged, delta: float) -> float:
    if merged.gaussian is not None and not merged.sampled:
        # The loss of Gaussian releases alone has the standard deviation 1 / noise_multiplier; a grid that is coarse beside it would be far above the truth.
        grid = min(_REPORT_GRID, _FINE_GRID_FRAC / merged.gaussian)
    accountant = pld.PLDAccountant(dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=grid * _widen_grid(merged))
    return _compose(accountant, merged, delta)


def _widen_grid(merged: _Merged) -> float:
    """By how much the grid must be wider for these events; about the largest loss of one step, and the mean loss of all of them."""
    largest_loss = all_losses = 0.5 / merged.gaussian**2 if merged.gaussian else 0.0
    for (noise_multiplier, sampling_prob), num_steps in merged.sampled:
        loss = 0.5 / noise_multiplier**2
        largest_loss = max(largest_loss, loss)
        # Bounds of the mean loss of a mixture: by convexity, and by its chi-square divergence.
        mean_loss = sampling_prob * min(loss, sampling_prob * math.expm1(min(2 * loss, 700.0)))
        all_losses += num_steps * mean_loss
    return max(1.0, largest_loss / _WIDE_GRID_FROM_ONE, all_losses / _WIDE_GRID_FROM_ALL)


def compute_epsilon_rdp(events: Sequence[dict[str, Any]], *, delta: float) -> float:
    """The same by Renyi differential privacy: an upper bound by another road, and above `compute_epsilon` but for the rounding up of its grid.

    Source: Mironov (2017); Mironov, Talwar and Zhang (2019), https://arxiv.org/abs/1908.10530
    """
    _check_delta(delta)
    return _compute_rdp(_merge(events), delta)


def _compute_rdp(merged: _Merged, delta: float) -> float:
    log = logging.getLogger("absl")
    level = log.level
    # The accountant warns on standard error of every order that it leaves out; the bound of those that remain holds without them.
    log.setLevel(logging.ERROR)
    try:
        return _compose_rdp(merged, delta)
    finally:
        log.setLevel(level)


@functools.lru_cache(maxsize=1024)
def _compose_rdp(merged: _Merged, delta: float) -> float:
    accountant = rdp.RdpAccountant(neighboring_relation=dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)
    return _compose(accountant, merged, delta)


def _compose(accountant: dp_accounting.PrivacyAccountant, merged: _Merged, delta: float) -> float:
    if not merged.is_private:
        return math.inf
    if merged.gaussian is None and not merged.sampled:
        return 0.0
    try:
        if merged.gaussian is not None:
            accountant.compose(dp_accounting.GaussianDpEvent(merged.gaussian))
        for (noise_multiplier, sampling_prob), num_steps in merged.sampled:
            step = dp_accounting.PoissonSampledDpEvent(sampling_prob, dp_accounting.GaussianDpEvent(noise_multiplier))
            accountant.compose(dp_accounting.SelfComposedDpEvent(step, num_steps))
        return float(accountant.get_epsilon(delta))
    except OverflowError:
        raise PrivacyError("events: so little noise is outside what the accountant can compute") from None


# Below this the search stops: the accountant's tables grow without use, and no promise worth making is met there.
_LEAST_NOISE = 0.05
# Below this the grid that a search needs takes minutes; no data of any use is released under it.
_LEAST_TARGET = 5e-4


def calibrate_noise(make_events: Callable[[float], Sequence[dict[str, Any]]], *, target_epsilon: float, delta: float, tolerance: float = 1e-3) -> float:
    """The smallest noise multiplier, up to `tolerance` and rounded up, at which the events keep the promise.

    Guarantee: compute_epsilon(make_events(result), delta) <= target_epsilon. Errs to the private side.

    Args:
      make_events: All events that the promise covers, given the noise multiplier that is sought.
      target_epsilon: > 0.
      delta: In (0, 1).
      tolerance: Relative width of the last bracket.
    Raises:
      PrivacyError: target_epsilon or delta is out of range, or no noise multiplier up to 10^5 keeps the promise.
    """
    check_promise(target_epsilon, delta)
    if target_epsilon < _LEAST_TARGET and _merge(make_events(1.0)).sampled:
        raise PrivacyError(f"target_epsilon: {target_epsilon:g}, or its share for the marginals, is too small to reach with any noise; raise it")
    # On a grid that is coarse beside the promise, the upper bound would be far above the truth, and noise be wasted.
    search_grid = min(_SEARCH_GRID, target_epsilon / 100)

    def spends(noise_multiplier: float) -> float:
        return _compute_on_grid(search_grid, make_events(noise_multiplier), delta)

    low, high = 0.0, 1.0
    while spends(high) > target_epsilon:
        low, high = high, 2 * high
        if high > 1e5:
            raise PrivacyError(f"target_epsilon: {target_epsilon} at delta {delta} is too small to reach with any noise; raise it, or take fewer steps")
    while high - low > tolerance * high and high > _LEAST_NOISE:
        middle = (low + high) / 2
        low, high = (middle, high) if spends(middle) > target_epsilon else (low, middle)
    if compute_epsilon(make_events(high), delta=delta) > target_epsilon:
        raise PrivacyError(f"target_epsilon: {target_epsilon:g} at delta {delta:g} is too small beside the accountant's grid; raise it, or take fewer steps")
    return high
