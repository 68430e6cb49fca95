"""How one promise is shared out: a count of units, the training, a histogram. Every release of a run is planned here, once."""

from __future__ import annotations

from dataclasses import dataclass

from penname.privacy.errors import PrivacyError
from penname.privacy.keystream import Keystream
from penname.privacy.ledger import Promise
from penname.privacy.marginals import plan_marginals, release_unit_count
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
        """
        share = promise.target_epsilon * marginals_frac
        count, histogram = plan_marginals(target_epsilon=share, delta=promise.delta, max_records_per_unit=max_records_per_unit, keystream=keystream)
        return cls(promise, count, histogram)

    def plan_training(self, *, num_units: int, expected_batch_size: int, num_steps: int, l2_clip_norm: float, keystream: Keystream) -> DpSgd:
        """DP-SGD with the least noise that keeps the promise together with both marginals.

        Args:
          num_units: The released count of units, or a number that is public; never the exact private count.
          expected_batch_size: Units a step on average, as far as num_units is right.
          num_steps: >= 1.
          l2_clip_norm: > 0.
          keystream: Source of sampling and noise.
        """
        return DpSgd.calibrate(
            target_epsilon=self.promise.target_epsilon,
            delta=self.promise.delta,
            other_events=[self.unit_count.event, self.histogram.event],
            sampling_prob=min(1.0, expected_batch_size / num_units),
            num_steps=num_steps,
            l2_clip_norm=l2_clip_norm,
            keystream=keystream,
        )

    def release_unit_count(self, *, num_units: int) -> int:
        """The number of units with noise. Charge `unit_count.event` first."""
        return release_unit_count(self.unit_count, num_units=num_units)


def check_delta(delta: float, *, num_units: int) -> None:
    """Checks delta <= N^-1.1: above, a mechanism that publishes a few whole records could call itself private.

    Args:
      delta: Promised.
      num_units: N. PRIVATE: the message is for the owner of the data.
    Raises:
      PrivacyError: names the largest delta that is allowed.
    Source: Ponomareva et al. (2023), section 5.3.3. https://arxiv.org/abs/2303.00654
    """
    allowed = num_units**-1.1
    if delta > allowed:
        raise PrivacyError(f"privacy.delta: {delta:g} is too large for {num_units:,} units in the training split; at most N^-1.1 = {allowed:.2g}")
