"""The exponential mechanism, drawn many times: a group of units moves the scores of some options by a bounded amount, and one option is drawn.

Every unit is in one group, so it takes part in the draws of that group and in no others: what the event says of one group holds for all together.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from penname.privacy.accounting import calibrate_noise
from penname.privacy.book import Book
from penname.privacy.errors import PrivacyError
from penname.privacy.keystream import KEY_BYTES, Keystream
from penname.privacy.ledger import Ledger, Receipt
from penname.privacy.mechanism import PROBE_SOURCE, check_receipt

# As for sums of gradients: what a unit adds is a little smaller than the bound, by more than all that is rounded afterwards, and is cut to whole steps of a
# grid, so that float64 adds it without rounding, in any order and beside any others.
_ROUNDING_MARGIN = 1e-5
_GRID_BITS = 34
_MAX_UNITS_A_GROUP = 200_000


@dataclass(frozen=True)
class BoundedScores:
    """Scores of which adding or removing one unit moves none by more than `linf_sensitivity`."""

    value: NDArray[np.float64]
    """(K,) PRIVATE until one of the options is drawn."""
    linf_sensitivity: float
    num_units: int
    """PRIVATE."""


@dataclass(frozen=True)
class ExponentialDraws:
    """Draws in proportion to exp(score / temperature), at most `num_draws` for a group."""

    temperature: float
    linf_sensitivity: float
    """By how much one unit moves a score at most."""
    num_draws: int
    """Of one group, and so of one unit."""
    keystream: Keystream
    receipt: Receipt | None = field(default=None, compare=False)
    """Without one for its own event and key, no unit is put into a group and nothing is drawn."""
    _drawn: dict[tuple[int, int], bytes] = field(default_factory=dict[tuple[int, int], bytes], init=False, repr=False, compare=False)
    """(group, draw) -> hash of the scores that its random number was used for. PRIVATE."""

    @classmethod
    def calibrate(
        cls,
        *,
        target_epsilon: float,
        delta: float,
        other_events: Sequence[dict[str, Any]],
        temperature: float,
        num_draws: int,
        keystream: Keystream,
    ) -> ExponentialDraws:
        """The draws in which one unit has as much say as the promise allows together with `other_events`.

        Args:
          target_epsilon: Promised for everything together.
          delta: Promised for everything together.
          other_events: What else the same promise must cover.
          temperature: > 0.
          num_draws: >= 1.
          keystream: Source of groups and draws.
        Raises:
          PrivacyError: the promise cannot be kept.
        """

        def build(ratio: float) -> ExponentialDraws:
            return cls(temperature, temperature / ratio, num_draws, keystream)

        ratio = calibrate_noise(lambda sought: [*other_events, build(sought).event], target_epsilon=target_epsilon, delta=delta)
        return build(ratio)

    @property
    def event(self) -> dict[str, Any]:
        """What the ledger stores and the accountant composes."""
        return {"type": "exponential", "temperature": self.temperature, "linf_sensitivity": self.linf_sensitivity, "num_draws": self.num_draws}

    def charge(self, ledger: Ledger | Book, event_id: str, *, inputs_sha256: str) -> ExponentialDraws:
        """Charges its own event, on disk before this returns; see `Ledger.spend`. Returns the draws that may be used."""
        return replace(self, receipt=ledger.spend(event_id, self.event, keystream=self.keystream, inputs_sha256=inputs_sha256))

    def with_probe_key(self) -> ExponentialDraws:
        """The same under a key of its own, for the self-check: it draws as this one, and charges nothing.

        Guarantee: `draw` takes scores without units only, so that nothing of the data comes out of it.
        """
        keystream = Keystream(os.urandom(KEY_BYTES), source=PROBE_SOURCE)
        return replace(self, keystream=keystream, receipt=Receipt(PROBE_SOURCE, self.event, keystream.commitment))

    def assign_groups(self, num_choices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Puts every unit into one group, drawn evenly from those that are open to it and on its own: nobody's group depends on who else is there.

        Args:
          num_choices: (N,) how many groups are open to each unit; 0: none. PRIVATE.
        Returns:
          (N,) which of them, from 0; -1: none. PRIVATE.
        Raises:
          PrivacyError: the event is not charged.
        """
        check_receipt(self.receipt, self.event, self.keystream)
        return _choose(self.keystream, "groups", num_choices)

    def choose_records(self, num_records: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which of its records each unit takes part with: one, drawn evenly.

        Args:
          num_records: (N,) of each unit. PRIVATE.
        Returns:
          (N,) which of them, from 0. PRIVATE.
        Raises:
          PrivacyError: the event is not charged.
        """
        check_receipt(self.receipt, self.event, self.keystream)
        return _choose(self.keystream, "group_records", num_records)

    def bound_scores(self, public: NDArray[np.float64], said: torch.Tensor, *, expected_units: float) -> BoundedScores:
        """Public scores, moved by what the units of one group say.

        Guarantee: adding or removing one unit moves no score by more than `linf_sensitivity`, rounding included; what a unit adds is a function of its
        own row alone; one whose row is not finite adds nothing.

        Args:
          public: (K,) scores that depend on no unit of this group but through earlier draws.
          said: (U, K) what each unit would have the scores be. PRIVATE; U may be 0.
          expected_units: > 0, public: what is added up is divided by it, whoever is there.
        Source: Vinod, Pillutla and Thakurta (2025), InvisibleInk, https://arxiv.org/abs/2507.02974
        """
        if not (math.isfinite(expected_units) and expected_units > 0) or said.ndim != 2 or said.shape[1] != len(public):
            raise PrivacyError(f"scores: need (U, {len(public)}) and a positive number of expected units, have {tuple(said.shape)} and {expected_units}")
        if len(said) > _MAX_UNITS_A_GROUP:
            raise PrivacyError(f"scores: {len(said):,} units in one group, more than the {_MAX_UNITS_A_GROUP:,} whose rounding is covered")
        bound = self.linf_sensitivity * expected_units * (1 - _ROUNDING_MARGIN)
        step = 2.0 ** (math.frexp(bound)[1] - 1 - _GRID_BITS)
        total = np.zeros(len(public))
        for row in said.double().cpu().numpy():
            moved = row - public
            if np.isfinite(moved).all():
                total += np.trunc(np.clip(moved, -bound, bound) / step)
        return BoundedScores(public + total * step / expected_units, self.linf_sensitivity, len(said))

    def draw(self, group: int, place: int, scores: BoundedScores) -> int:
        """Draws one of the options, once: the same group and place draw the same random number always.

        Args:
          group: Which.
          place: 0 <= place < num_draws, of the draws of this group.
          scores: Of the options, which must not depend on the group's units but through earlier draws.
        Returns:
          The option's index, RELEASABLE under the event of this mechanism.
        Raises:
          PrivacyError: the event is not charged or does not cover the draw, a unit moves the scores by more than it says, or the random number was used
            for other scores before.
        Source: McSherry and Talwar (2007); its privacy loss lies in an interval of 2 linf_sensitivity / temperature: Dong, Durfee and Rogers (2020),
          https://arxiv.org/abs/1909.13830
        """
        check_receipt(self.receipt, self.event, self.keystream)
        num_draws = self.event["num_draws"]
        if not 0 <= place < num_draws:
            raise PrivacyError(f"num_draws: draw {place} is not covered by an event of {num_draws} draws a unit")
        if scores.linf_sensitivity != self.linf_sensitivity:
            raise PrivacyError(f"linf_sensitivity: a unit moves the scores by {scores.linf_sensitivity}, {self.linf_sensitivity} is charged")
        if self.keystream.source == PROBE_SOURCE and scores.num_units:
            raise PrivacyError("self-check: a probe of the draws may not be given scores of units; nothing was charged for it")
        digest = hashlib.sha256(scores.value.tobytes()).digest()
        if self._drawn.setdefault((group, place), digest) != digest:
            raise PrivacyError(f"draw: group {group} has made draw {place} from other scores; each draw is made once")
        return _draw(self.keystream, "exponential", group, place, scores.value, self.temperature)


@dataclass(frozen=True)
class NonPrivateDraws:
    """The same groups and draws without a bound on what a unit says: the arm to compare with. Epsilon is infinite; what it makes is PRIVATE."""

    temperature: float
    num_draws: int
    keystream: Keystream

    @property
    def event(self) -> dict[str, Any]:
        """What the accountant says of it: no epsilon is enough. No ledger takes it."""
        return {"type": "non_private"}

    def assign_groups(self, num_choices: NDArray[np.int64]) -> NDArray[np.int64]:
        """As with privacy. PRIVATE."""
        return _choose(self.keystream, "groups", num_choices)

    def choose_records(self, num_records: NDArray[np.int64]) -> NDArray[np.int64]:
        """As with privacy. PRIVATE."""
        return _choose(self.keystream, "group_records", num_records)

    def bound_scores(self, public: NDArray[np.float64], said: torch.Tensor, *, expected_units: float) -> BoundedScores:
        """The mean of what the units say, or the public scores where there are none. PRIVATE."""
        value = said.double().cpu().numpy().mean(axis=0) if len(said) else public
        return BoundedScores(value, math.inf, len(said))

    def draw(self, group: int, place: int, scores: BoundedScores) -> int:
        """PRIVATE for ever."""
        return _draw(self.keystream, "exponential_no_dp", group, place, scores.value, self.temperature)


def _choose(keystream: Keystream, purpose: str, num_choices: NDArray[np.int64]) -> NDArray[np.int64]:
    uniforms = keystream.draw_uniforms(purpose, 0, len(num_choices))
    return np.where(num_choices > 0, np.minimum(np.floor(uniforms * num_choices), num_choices - 1), -1).astype(np.int64)


def _draw(keystream: Keystream, purpose: str, group: int, place: int, scores: NDArray[np.float64], temperature: float) -> int:
    (uniform,) = keystream.draw_uniforms(f"{purpose}/{group}", place, 1)
    reached: NDArray[np.float64] = np.cumsum(np.exp((scores - scores.max()) / temperature))
    # The first option whose sum is beyond the random number.
    return min(int((reached <= uniform * reached[-1]).sum()), len(scores) - 1)
