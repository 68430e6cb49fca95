"""What a metric is: a declaration and one function from samples to estimates.

A metric is listed by hand in `registry.py`; nothing is discovered. Its `version` goes up when the same data would score differently.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from penname.evaluate.bootstrap import Interval
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.samples import LeftOut, RowSet, Samples
from penname.schemas import BASE, Family


@dataclass(frozen=True, slots=True)
class Estimate:
    """One figure of one arm. PRIVATE: it was computed from real rows."""

    arm: str
    """A name of `Samples.synthetic`, `real` for what real data score, or `base` for what the untrained model does."""
    value: float
    ci95: Interval
    reference: float
    """What real data score in its place."""
    num_records: int


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure: what it is called, how to read it, how to compute it."""

    name: str
    family: Family
    direction: Literal["higher", "lower", "none"]
    range: tuple[float, float]
    """Smallest and largest possible value; intervals are cut to it."""
    version: int
    source: str
    """Paper or definition that it follows."""
    compute: Callable[[Samples], list[Estimate]]
    is_default: bool = True
    """Whether it is computed where `evaluate.metrics` names none: what takes minutes or hours has to be asked for."""
    columns: tuple[str, ...] = ()
    """Of rating, title and category, those without which it is left out."""


def compare_with_test(samples: Samples, name: str, measure: Callable[[RowSet, RowSet, Samples, str], tuple[float, Interval]]) -> list[Estimate]:
    """Measures every synthetic set against test, and heldout against test as the reference.

    All sets have the same number of rows, so that a bias of small samples is the same in value and reference.

    Args:
      samples: PRIVATE.
      name: The metric's name; it keys the random numbers.
      measure: (candidate, test, samples, stream name) -> value and interval; may raise LeftOutError.
    Returns:
      list[Estimate]: `real` first, then the arms in their order. PRIVATE.
    """
    num = samples.num_compared
    test = samples.take(samples.test, num)
    return _estimate(samples, name, samples.heldout, lambda rows, stream: measure(rows, test, samples, stream))


def describe_each(samples: Samples, name: str, measure: Callable[[RowSet, Samples, str], tuple[float, Interval]], *, with_base: bool = False) -> list[Estimate]:
    """Measures every synthetic set by itself, and test by itself as the reference; sizes are equal.

    Args:
      samples: PRIVATE.
      name: The metric's name; it keys the random numbers.
      measure: (rows, samples, stream name) -> value and interval; may raise LeftOutError.
      with_base: Whether what the untrained model wrote is measured too, as the arm `base`.
    Returns:
      list[Estimate]: `real` first, then the arms in their order. PRIVATE.
    """
    return _estimate(samples, name, samples.test, lambda rows, stream: measure(rows, samples, stream), with_base=with_base)


def _estimate(
    samples: Samples, name: str, real: RowSet, measure: Callable[[RowSet, str], tuple[float, Interval]], *, with_base: bool = False
) -> list[Estimate]:
    """`real` and every arm; an arm that cannot be measured is left out and the others stay, but nothing stands without its reference."""
    num = samples.num_compared
    reference, interval = measure(samples.take(real, num), f"{name}/real")
    estimates = [Estimate("real", reference, interval, reference, num)]
    base = {BASE: samples.base} if with_base and samples.base is not None else {}
    for arm, rows in (samples.synthetic | base).items():
        taken = samples.take(rows, num)
        try:
            value, interval = measure(taken, f"{name}/{arm}")
        except LeftOutError as error:
            samples.left_out.append(LeftOut(name, arm, str(error)))
        else:
            estimates.append(Estimate(arm, value, interval, reference, len(taken)))
    return estimates
