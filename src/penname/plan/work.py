"""How much a run computes, in expectation: draws of made-up units, laid out as the training lays them out."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from penname.config import Config
from penname.model.tokenize import TokenizedRecord
from penname.train.layout import Layout, Unit, count_tokens

_NUM_DRAWS = 40
# Numbers in the place of tokens: smaller than any vocabulary, and no unit of a plan has more records.
_DIGIT, _MOST_RECORDS = 200, 32


@dataclass(frozen=True)
class TrainingWork:
    """Of one arm."""

    units_a_step: float
    tokens_a_step: float
    """Of records."""
    computed_tokens_a_step: float
    """With filling."""
    num_steps: int
    frozen_tokens: float
    """That go through the layers below the adapters, with filling; 0 where their states are not kept."""
    check_tokens: float
    """Of the self-check and the trial, with filling; the arm with DP only, but for the trial."""
    trial_tokens: float

    @property
    def tokens(self) -> float:
        """Of records, in all steps."""
        return self.tokens_a_step * self.num_steps

    @property
    def filling_frac(self) -> float:
        """Share of the computed tokens that are filling."""
        return 1 - self.tokens_a_step / self.computed_tokens_a_step


def count_training(config: Config, units: Sequence[Unit], layout: Layout, *, num_units: int, keeps_states: bool) -> TrainingWork:
    """What an arm computes.

    Args:
      config: Of the run.
      units: Some of the run's, as lengths.
      layout: Of records in tensors.
      num_units: In the training split.
      keeps_states: Whether what frozen layers make of a record is computed once.
    """
    train = config.train
    sampling_prob = min(1.0, train.expected_batch_size / num_units)
    generator = np.random.default_rng(0)
    sizes = generator.binomial(num_units, sampling_prob, size=_NUM_DRAWS)
    draws = [draw_units(units, int(size), seed=i) for i, size in enumerate(sizes)]
    computed = [sum(count_computed(layout, batch) for batch in layout.cut(draw)) for draw in draws]
    frozen = 0.0
    if keeps_states:
        passes = mean(_count_frozen(layout, draw) for draw in draws)
        # A unit that was drawn before is there already.
        frozen = passes * sum((1 - sampling_prob) ** step for step in range(train.num_steps))
    return TrainingWork(
        float(mean(sizes)),
        mean(sum(map(count_tokens, draw)) for draw in draws),
        mean(computed),
        train.num_steps,
        frozen,
        check_tokens=_count_checks(layout, units),
        trial_tokens=float(layout.tile_tokens or 0),
    )


def draw_units(units: Sequence[Unit], count: int, *, seed: int) -> list[Unit]:
    """`count` units, drawn from the sample with replacement. No two records are equal: the states of equal ones would be computed once."""
    chance = random.Random(seed)
    chosen = [chance.choice(units) for _ in range(count)]
    return [[_tell_apart(record, place) for place, record in enumerate(unit, start=_MOST_RECORDS * number)] for number, unit in enumerate(chosen)]


def _tell_apart(record: TokenizedRecord, number: int) -> TokenizedRecord:
    """The same lengths, with a number in place of the first tokens."""
    digits = [number // _DIGIT % _DIGIT, number % _DIGIT][: len(record.token_ids)]
    return TokenizedRecord([*digits, *record.token_ids[len(digits) :]], record.num_prompt_tokens)


def count_computed(layout: Layout, batch: Sequence[Unit]) -> int:
    """Tokens that are computed for a physical batch, filling included."""
    tokens = sum(map(count_tokens, batch))
    return tokens if layout.tile_tokens is None else layout.tile_tokens * math.ceil(tokens / layout.tile_tokens)


def _count_frozen(layout: Layout, draw: Sequence[Unit]) -> int:
    """Frozen layers take records one by one, whichever unit they are of."""
    return sum(count_computed(layout, batch) for batch in layout.cut([[record] for unit in draw for record in unit]))


def _count_checks(layout: Layout, units: Sequence[Unit]) -> float:
    """Sums that `check_mechanism` asks for: the probes together, each alone, and all but the last."""
    from penname.train.train import choose_probes

    probes = choose_probes(units, layout)
    sums = [probes, *([probe] for probe in probes), *([probes[:-1]] if len(probes) > 2 else [])]
    return float(sum(count_computed(layout, batch) for asked in sums for batch in layout.cut(asked)))
