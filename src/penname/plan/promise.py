"""The privacy of a run, from the config and a number of units alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from penname.config import Config
from penname.privacy.accounting import compute_epsilon_in_two_parts
from penname.privacy.budget import Budget, check_delta
from penname.privacy.keystream import Keystream
from penname.privacy.ledger import Promise
from penname.privacy.mechanism import DpSgd
from penname.privacy.unit import NEIGHBORING_RELATION


@dataclass(frozen=True)
class PlannedPromise:
    """What a run would promise, and the noise that keeps it."""

    lines: list[str]
    """For a person. RELEASABLE, as far as the number of units is."""
    plan_training: Callable[[int], DpSgd] | None
    """The training at this promise with an expected batch size; None where no arm is private."""


def plan_promise(config: Config, *, num_units: int) -> PlannedPromise:
    """The promise, and the noise that keeps it.

    Args:
      config: Of the run.
      num_units: Units in the training split.
    Raises:
      PrivacyError: the promise cannot be kept.
    """
    privacy, train = config.privacy, config.train
    if "with_dp" not in train.arms:
        return PlannedPromise(["promise           none: train.arms has no with_dp; nothing of this run may be released"], None)
    check_delta(privacy.delta, num_units=num_units)
    # The noise depends on no key; this one only fills the place.
    keystream = Keystream.from_seed(0)
    promise = Promise(privacy.target_epsilon, privacy.delta, privacy.unit, NEIGHBORING_RELATION, keystream.source, privacy.unit_column)
    bound = 1 if privacy.unit == "record" else config.records.max_records_per_user
    budget = Budget.plan(promise, marginals_frac=privacy.marginals_frac, max_records_per_unit=bound, keystream=keystream)

    def plan_training(expected_batch_size: int) -> DpSgd:
        return budget.plan_training(
            num_units=num_units,
            expected_batch_size=expected_batch_size,
            num_steps=train.num_steps,
            l2_clip_norm=privacy.l2_clip_norm,
            keystream=keystream,
        )

    mechanism = plan_training(train.expected_batch_size)
    spent = compute_epsilon_in_two_parts([budget.unit_count.event], [mechanism.event, budget.histogram.event], delta=privacy.delta)
    words = {"auto": "user, or record where there is no user id", "column": f"value of the column {privacy.unit_column}"}
    unit = words.get(privacy.unit, privacy.unit)
    lines = [
        f"promise           epsilon {privacy.target_epsilon:g} at delta {privacy.delta:g}, {NEIGHBORING_RELATION}, unit: {unit}",
        f"units             {num_units:,} in the training split",
        f"training          noise multiplier {mechanism.noise_multiplier:.4f}, sampling probability {mechanism.sampling_prob:.4f}, "
        f"{mechanism.num_steps} steps, clip norm {privacy.l2_clip_norm:g}",
        f"marginals         noise multiplier {budget.unit_count.noise_multiplier:.4f} for the count of units, "
        f"{budget.histogram.noise_multiplier:.4f} for the histogram of rating x category",
        f"epsilon spent     {spent:.4f} (all of it is charged before the data is touched)",
    ]
    return PlannedPromise(lines, plan_training)
