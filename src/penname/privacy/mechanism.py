"""The mechanisms: the only place where a noise multiplier, a sampling probability and a number of steps exist.

A mechanism samples, says how far sums may move, adds the noise, and derives its ledger event from the very fields it uses for that. It
charges that event itself, and releases nothing before it has the receipt.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from penname.privacy.accounting import calibrate_noise
from penname.privacy.book import Book
from penname.privacy.clipping import BoundedSum, clip_and_sum, empty_sum
from penname.privacy.errors import PrivacyError
from penname.privacy.keystream import KEY_BYTES, Keystream
from penname.privacy.ledger import Ledger, Receipt
from penname.privacy.noise import draw_gaussian
from penname.privacy.sampling import draw_dropout_seed, draw_poisson_units

PROBE_SOURCE = "self-check"
"""Of a key that only the self-check draws under."""


class SumMechanism(Protocol):
    """What the training loop needs of a mechanism; `DpSgd` and `NonPrivateSum` have it."""

    @property
    def num_steps(self) -> int: ...
    def draw_units(self, step: int, *, num_units: int) -> NDArray[np.int64]: ...
    def draw_dropout_seed(self, step: int) -> int: ...
    def empty_sum(self, num_params: int) -> BoundedSum: ...
    def release(self, step: int, total: BoundedSum) -> torch.Tensor: ...


@dataclass(frozen=True)
class DpSgd:
    """DP-SGD: Poisson-sampled units, clipped sum, Gaussian noise, `num_steps` times."""

    noise_multiplier: float
    sampling_prob: float
    num_steps: int
    l2_clip_norm: float
    keystream: Keystream
    receipt: Receipt | None = field(default=None, compare=False)
    """Without one for its own event and key, no unit is drawn and nothing is released."""
    _released: dict[int, bytes] = field(default_factory=dict[int, bytes], init=False, repr=False, compare=False)
    """Step -> hash of the sum that its noise was added to. PRIVATE."""

    @classmethod
    def calibrate(
        cls,
        *,
        target_epsilon: float,
        delta: float,
        other_events: Sequence[dict[str, Any]],
        sampling_prob: float,
        num_steps: int,
        l2_clip_norm: float,
        keystream: Keystream,
    ) -> DpSgd:
        """The mechanism with the least noise that keeps the promise together with `other_events`.

        Args:
          target_epsilon: Promised for everything together.
          delta: Promised for everything together.
          other_events: What else the same promise must cover.
          sampling_prob: In (0, 1].
          num_steps: >= 1.
          l2_clip_norm: > 0.
          keystream: Source of sampling and noise.
        Raises:
          PrivacyError: the promise cannot be kept.
        """

        def build(noise_multiplier: float) -> DpSgd:
            return cls(noise_multiplier, sampling_prob, num_steps, l2_clip_norm, keystream)

        noise_multiplier = calibrate_noise(lambda sought: [*other_events, build(sought).event], target_epsilon=target_epsilon, delta=delta)
        return build(noise_multiplier)

    @property
    def event(self) -> dict[str, Any]:
        """What the ledger stores and the accountant composes."""
        return {
            "type": "poisson_sampled_gaussian",
            "noise_multiplier": self.noise_multiplier,
            "l2_sensitivity": self.l2_clip_norm,
            "sampling_prob": self.sampling_prob,
            "num_steps": self.num_steps,
        }

    def charge(self, ledger: Ledger | Book, event_id: str, *, inputs_sha256: str) -> DpSgd:
        """Charges its own event, on disk before this returns; see `Ledger.spend`. Returns the mechanism that may be used."""
        return replace(self, receipt=ledger.spend(event_id, self.event, keystream=self.keystream, inputs_sha256=inputs_sha256))

    def with_probe_key(self) -> DpSgd:
        """The same under a key of its own, for the self-check: it draws and adds noise as this one, and charges nothing.

        Guarantee: `release` takes sums of zeros only, so that nothing of the data comes out of it.
        """
        keystream = Keystream(os.urandom(KEY_BYTES), source=PROBE_SOURCE)
        return replace(self, keystream=keystream, receipt=Receipt(PROBE_SOURCE, self.event, keystream.commitment))

    def draw_units(self, step: int, *, num_units: int) -> NDArray[np.int64]:
        """The units of this step. PRIVATE.

        Raises:
          PrivacyError: the event is not charged, or does not cover the step.
        """
        check_receipt(self.receipt, self.event, self.keystream)
        self._check_step(step)
        return draw_poisson_units(self.keystream, step=step, num_units=num_units, sampling_prob=self.sampling_prob)

    def draw_dropout_seed(self, step: int) -> int:
        """The seed of this step's dropout masks. PRIVATE."""
        self._check_step(step)
        return draw_dropout_seed(self.keystream, step=step)

    def sum_units(self, unit_grads: torch.Tensor) -> BoundedSum:
        """Clips and sums the gradients of some of a step's units, (U, P). PRIVATE."""
        return clip_and_sum(unit_grads, l2_clip_norm=self.l2_clip_norm)

    def empty_sum(self, num_params: int) -> BoundedSum:
        """Where the sum over a step's physical batches starts."""
        return empty_sum(num_params, l2_clip_norm=self.l2_clip_norm)

    def release(self, step: int, total: BoundedSum) -> torch.Tensor:
        """Adds this step's noise to the sum over all of its units, once.

        Args:
          step: 0 <= step < num_steps; the same step always draws the same noise.
          total: Sum over the whole Poisson draw, over several physical batches where need be.
        Returns:
          (P,) float32, RELEASABLE under the event of this mechanism.
        Raises:
          PrivacyError: the event is not charged, the sum was clipped to another bound, the step is outside what the event covers, or its
            noise was added to another sum before.
        """
        check_receipt(self.receipt, self.event, self.keystream)
        self._check_step(step)
        if total.l2_sensitivity != self.l2_clip_norm:
            raise PrivacyError(f"l2_clip_norm: the sum was clipped to {total.l2_sensitivity}, the noise is made for {self.l2_clip_norm}")
        if self.keystream.source == PROBE_SOURCE and (total.num_units or bool(total.value.any())):
            raise PrivacyError("self-check: a probe of the noise may not be given a sum over units; nothing was charged for it")
        digest = hashlib.sha256(total.value.numpy().tobytes()).digest()
        if self._released.setdefault(step, digest) != digest:
            raise PrivacyError(f"release: step {step} was released with another sum; a step's noise is added once, to the sum over its whole draw")
        stddev = self.noise_multiplier * self.l2_clip_norm
        noise = draw_gaussian(self.keystream, purpose="dp_sgd", index=step, size=total.value.numel(), stddev=stddev)
        return (total.value + torch.from_numpy(noise)).float()  # pyright: ignore[reportUnknownMemberType]

    def _check_step(self, step: int) -> None:
        # The event's own number: what was charged is what may be done.
        num_steps = self.event["num_steps"]
        if not 0 <= step < num_steps:
            raise PrivacyError(f"num_steps: step {step} is not covered by an event of {num_steps} steps")


@dataclass(frozen=True)
class NonPrivateSum:
    """The same Poisson draws without clipping and noise: the arm to compare with. Epsilon is infinite; what it makes is PRIVATE."""

    sampling_prob: float
    num_steps: int
    keystream: Keystream

    @property
    def event(self) -> dict[str, Any]:
        """What the accountant says of it: no epsilon is enough. No ledger takes it."""
        return {"type": "non_private"}

    def draw_units(self, step: int, *, num_units: int) -> NDArray[np.int64]:
        """The units of this step. PRIVATE."""
        return draw_poisson_units(self.keystream, step=step, num_units=num_units, sampling_prob=self.sampling_prob)

    def draw_dropout_seed(self, step: int) -> int:
        """The seed of this step's dropout masks. PRIVATE."""
        return draw_dropout_seed(self.keystream, step=step)

    def bound_nothing(self, total: torch.Tensor, *, num_units: int) -> BoundedSum:
        """The sum of some of a step's units' gradients, (P,), as it is. PRIVATE."""
        return BoundedSum(total.double().cpu(), float("inf"), num_units, 0)

    def empty_sum(self, num_params: int) -> BoundedSum:
        """Where the sum over a step's physical batches starts."""
        return BoundedSum(torch.zeros(num_params, dtype=torch.float64, device="cpu"), float("inf"), 0, 0)

    def release(self, step: int, total: BoundedSum) -> torch.Tensor:
        """The sum as it is. PRIVATE for ever."""
        return total.value.float()


@dataclass(frozen=True)
class GaussianRelease:
    """One noisy vector, such as a histogram or a count."""

    name: str
    noise_multiplier: float
    l2_sensitivity: float
    keystream: Keystream
    receipt: Receipt | None = field(default=None, compare=False)
    """Without one for its own event and key, nothing is released."""
    _released: dict[str, bytes] = field(default_factory=dict[str, bytes], init=False, repr=False, compare=False)
    """Name -> hash of the value that its noise was added to. PRIVATE."""

    @property
    def event(self) -> dict[str, Any]:
        """What the ledger stores and the accountant composes."""
        return {"type": "gaussian", "noise_multiplier": self.noise_multiplier, "l2_sensitivity": self.l2_sensitivity}

    def charge(self, ledger: Ledger | Book, event_id: str, *, inputs_sha256: str) -> GaussianRelease:
        """Charges its own event, on disk before this returns; see `Ledger.spend`. Returns the release that may be used."""
        return replace(self, receipt=ledger.spend(event_id, self.event, keystream=self.keystream, inputs_sha256=inputs_sha256))

    def release(self, value: NDArray[np.float64]) -> NDArray[np.float64]:
        """Adds the noise. The same value always gets the same noise under one key.

        Args:
          value: (K,) whose L2 sensitivity is at most `l2_sensitivity`. PRIVATE.
        Returns:
          (K,) RELEASABLE under the event of this mechanism.
        Raises:
          PrivacyError: the event is not charged, or its noise was added to another value before: the difference of two would be without noise.
        """
        check_receipt(self.receipt, self.event, self.keystream)
        digest = hashlib.sha256(value.tobytes()).digest()
        if self._released.setdefault(self.name, digest) != digest:
            raise PrivacyError(f"release: {self.name} was released with another value; its noise is added once")
        stddev = self.noise_multiplier * self.l2_sensitivity
        return value + draw_gaussian(self.keystream, purpose=self.name, index=0, size=value.size, stddev=stddev)


def check_receipt(receipt: Receipt | None, event: dict[str, Any], keystream: Keystream) -> None:
    """Checks that an event is charged, under this key.

    Raises:
      PrivacyError: it is not.
    """
    if receipt is None:
        raise PrivacyError(f"ledger: a {event['type']} event is not charged; charge the mechanism before it touches the data")
    if receipt.event != event or receipt.key_commitment != keystream.commitment:
        raise PrivacyError(f"ledger: the receipt of {receipt.event_id} is for another event or another key than this mechanism's")
