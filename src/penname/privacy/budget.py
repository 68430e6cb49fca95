"""How one promise is shared out: a count of units, the training, a histogram. Every release of a run is planned here, once."""

from __future__ import annotations

from dataclasses import dataclass

from penname.privacy.accounting import FIRST_DELTA_FRAC, check_promise, compute_epsilon
from penname.privacy.book import Book
from penname.privacy.errors import PrivacyError
from penname.privacy.exponential import ExponentialDraws
from penname.privacy.keystream import Keystream
from penname.privacy.ledger import COUNT_ID, HISTOGRAM_ID, TRAINING_ID, Promise
from penname.privacy.marginals import plan_marginals
from penname.privacy.mechanism import DpSgd, GaussianRelease


@dataclass(frozen=True)
class Budget:
    """The two marginals of a run; the training gets what they leave."""

    promise: Promise
    unit_count: GaussianRelease
    histogram: GaussianRelease

    @classmethod
    def plan(cls, promise: Promise, *, marginals_frac: float, max_records_per_unit: int, keystream: Keystream) -> Budget:
        """Shares the promise out. Deterministic: the same arguments give the same releases.

        Args:
          promise: For everything together.
          marginals_frac: Share of target_epsilon for count and histogram.
          max_records_per_unit: Contribution bound.
          keystream: Source of sampling and noise.
        Raises:
          PrivacyError: names what of target_epsilon and delta cannot be promised, or says that the share is too small for any noise.
        """
        check_promise(promise.target_epsilon, promise.delta)
        share = promise.target_epsilon * marginals_frac
        count, histogram = plan_marginals(target_epsilon=share, delta=promise.delta, max_records_per_unit=max_records_per_unit, keystream=keystream)
        return cls(promise, count, histogram)

    def plan_training(self, *, num_units: int, expected_batch_size: int, num_steps: int, l2_clip_norm: float, keystream: Keystream) -> DpSgd:
        """DP-SGD with the least noise that keeps the promise together with both marginals.

        The count is accounted for apart, because this depends on it; see `accounting.compute_epsilon_in_two_parts`.

        Args:
          num_units: The released count of units, or a number that is public; never the exact private count.
          expected_batch_size: Units a step on average, as far as num_units is right.
          num_steps: >= 1.
          l2_clip_norm: > 0.
          keystream: Source of sampling and noise.
        """
        sampling_prob = min(1.0, expected_batch_size / num_units)
        return self._calibrate_training(sampling_prob, num_steps=num_steps, l2_clip_norm=l2_clip_norm, keystream=keystream)

    def _calibrate_training(self, sampling_prob: float, *, num_steps: int, l2_clip_norm: float, keystream: Keystream) -> DpSgd:
        return DpSgd.calibrate(
            target_epsilon=self._epsilon_after_count,
            delta=self._delta_after_count,
            other_events=[self.histogram.event],
            sampling_prob=sampling_prob,
            num_steps=num_steps,
            l2_clip_norm=l2_clip_norm,
            keystream=keystream,
        )

    def plan_draws(self, *, temperature: float, num_draws: int, keystream: Keystream) -> ExponentialDraws:
        """Draws of the exponential mechanism in which a unit has as much say as the promise allows together with both marginals.

        Args:
          temperature: > 0.
          num_draws: Of one unit, >= 1.
          keystream: Source of groups and draws.
        """
        return ExponentialDraws.calibrate(
            target_epsilon=self._epsilon_after_count,
            delta=self._delta_after_count,
            other_events=[self.histogram.event],
            temperature=temperature,
            num_draws=num_draws,
            keystream=keystream,
        )

    @property
    def _epsilon_after_count(self) -> float:
        """What the count leaves of the promise."""
        return self.promise.target_epsilon - compute_epsilon([self.unit_count.event], delta=self.promise.delta * FIRST_DELTA_FRAC)

    @property
    def _delta_after_count(self) -> float:
        return self.promise.delta * (1 - FIRST_DELTA_FRAC)

    def check_room(self, book: Book, *, num_steps: int) -> None:
        """Checks that the data set's budget has room for the whole run; call it before the first charge.

        The training's sampling probability depends on a count that is not released yet. That of the run before stands in for it, which is
        released; a run that differs much from it may still be refused by `check_room_for_rest`, with the count alone spent.

        Args:
          book: Of the run.
          num_steps: Of the training.
        Raises:
          BudgetExceededError: there is no room; nothing is written.
        """
        if book.data_set is None or book.is_charged(COUNT_ID, keystream := self.unit_count.keystream):
            return
        before = [event["sampling_prob"] for event in book.data_set.read_events(TRAINING_ID) if "sampling_prob" in event]
        training = self._calibrate_training(before[-1] if before else 1.0, num_steps=num_steps, l2_clip_norm=1.0, keystream=keystream)
        self.check_room_for(book, training)

    def check_room_for(self, book: Book, training: DpSgd | ExponentialDraws) -> None:
        """Checks that the data set's budget has room for a whole run of which the training is known; call it before the first charge.

        Args:
          book: Of the run.
          training: As it will be charged, or one that stands in for it.
        Raises:
          BudgetExceededError: there is no room; nothing is written.
        """
        if not book.is_charged(COUNT_ID, self.unit_count.keystream):
            book.check_room([(COUNT_ID, self.unit_count.event), (TRAINING_ID, training.event), (HISTOGRAM_ID, self.histogram.event)])

    def check_room_for_rest(self, book: Book, training: DpSgd | ExponentialDraws) -> None:
        """Checks that the data set's budget has room for what follows the count; call it before the training is charged.

        Args:
          book: Of the run.
          training: As it will be charged.
        Raises:
          BudgetExceededError: there is no room; nothing is written.
        """
        if not book.is_charged(TRAINING_ID, training.keystream):
            book.check_room([(TRAINING_ID, training.event), (HISTOGRAM_ID, self.histogram.event)])


def check_delta(delta: float, *, num_units: int) -> None:
    """Checks delta <= N^-1.1, which is below 1 / N: above, a mechanism that publishes a few whole records could call itself private.

    Args:
      delta: Promised.
      num_units: N. PRIVATE: the message is for the owner of the data.
    Raises:
      PrivacyError: names the largest delta that is allowed, or there is no unit.
    Source: Ponomareva et al. (2023), section 5.3.3. https://arxiv.org/abs/2303.00654
    """
    if num_units < 1:
        raise PrivacyError("privacy.delta: there is no unit in the training split, so there is nothing to promise")
    allowed = num_units**-1.1
    if not delta <= allowed:
        raise PrivacyError(f"privacy.delta: {delta:g} is too large for {num_units:,} units in the training split; at most N^-1.1 = {allowed:.2g}")
