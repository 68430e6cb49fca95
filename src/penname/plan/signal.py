"""Whether private training can learn anything beside its noise, judged by trials on fiction."""

from __future__ import annotations

import math
from collections.abc import Callable

from penname.privacy.mechanism import DpSgd

HALF_LOST = 3.2
"""Length of the noise, in clip norms, at which half of what training learns without noise is lost.

Source: trials of the default model on the fictional marketplace, benchmarks/results/tuning.json; a test reads it off them.
"""


def noise_length(mechanism: DpSgd, *, num_weights: int, expected_batch_size: int) -> float:
    """How long the noise is in the mean of all steps' gradients, in clip norms: what a unit's own gradient can be at the most.

    Args:
      mechanism: Of the training.
      num_weights: P, that train.
      expected_batch_size: Units a step, which a step's sum is divided by.
    """
    return mechanism.noise_multiplier * math.sqrt(num_weights / mechanism.num_steps) / expected_batch_size


def describe_signal(plan_training: Callable[[int], DpSgd], *, num_weights: int, expected_batch_size: int, num_units: int) -> list[str]:
    """Lines for a person: the noise beside a gradient, and where it is too much, the batch or the number of units that would do.

    Args:
      plan_training: The training at the run's promise with another expected batch size.
      num_weights: P, that train.
      expected_batch_size: Units a step.
      num_units: Units in the training split.
    """

    def find_length(batch: int) -> float:
        return noise_length(plan_training(batch), num_weights=num_weights, expected_batch_size=batch)

    # A batch larger than the data set draws everybody and no more.
    batch = min(expected_batch_size, num_units)
    length = find_length(batch)
    lines = [
        f"noise             {length:.2g} clip norms in the mean of all gradients; by trials on fiction, half of what is learned without noise "
        f"is lost at {HALF_LOST:g}"
    ]
    if length < HALF_LOST:
        return lines
    while length >= HALF_LOST and batch < num_units:
        batch = min(2 * batch, num_units)
        length = find_length(batch)
    if length < HALF_LOST:
        words = f"train.expected_batch_size={batch} is enough, and takes as much longer as it is larger"
        return [*lines, f"SMALL BATCH       most of what could be learned would be lost in noise; {words}"]
    # With all units in every step the noise multiplier does not change with their number, and the batch is that number.
    enough = _round_up(math.ceil(num_units * length / HALF_LOST))
    return [
        *lines,
        "TOO SMALL         the data set is too small for this epsilon: most of what could be learned would be lost in noise, even with all units in each step. "
        f"So it starts to work at about {enough:,} units. Or raise privacy.target_epsilon, or train fewer weights (model.lora_rank, model.top_layers)",
    ]


def _round_up(number: int) -> int:
    """To two digits.

    >>> _round_up(12_345)
    13000
    """
    unit = 10 ** max(0, len(str(number)) - 2)
    return -(-number // unit) * unit
