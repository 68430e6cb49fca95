"""Each check passes on what is right, with many keys, and catches the break that it is for."""

import dataclasses
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from penname.privacy.certificate import SELF_CHECKS
from penname.privacy.clipping import BoundedSum, clip_and_sum
from penname.privacy.errors import SelfCheckError
from penname.privacy.keystream import Keystream
from penname.privacy.mechanism import DpSgd
from penname.privacy.selfcheck import (
    check_adapters_moved,
    check_batch_mates,
    check_mechanism,
    check_noise,
    check_only_adapters_train,
    check_sampler,
    check_sensitivity,
    to_rows,
)
from tests.conftest import charged

MECHANISM = DpSgd(noise_multiplier=0.9, sampling_prob=0.05, num_steps=10, l2_clip_norm=1.0, keystream=Keystream.from_seed(1))
GRADS = 3 * torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
LOSSES = torch.tensor([1.0, 2.0, 3.0, 4.0])


def sum_rightly(indices):
    return clip_and_sum(GRADS[list(indices)], l2_clip_norm=1.0), LOSSES[list(indices)]


def sum_batch_mean(indices):
    """The loss that divides by the batch."""
    rows = list(indices)
    return clip_and_sum(GRADS[rows] / len(rows), l2_clip_norm=1.0), LOSSES[rows] / len(rows)


def sum_clipped_to(bound):
    def sum_units(indices):
        total = clip_and_sum(GRADS[list(indices)], l2_clip_norm=bound)
        return BoundedSum(total.value, 1.0, total.num_units, total.num_clipped), LOSSES[list(indices)]

    return sum_units


@dataclass(frozen=True)
class ScaledNoise(DpSgd):
    factor: float = 1.0

    def release(self, step, total):
        return total.value + self.factor * (super().release(step, total) - total.value)


@dataclass(frozen=True)
class SameNoise(DpSgd):
    def release(self, step, total):
        return super().release(0, total)


@dataclass(frozen=True)
class ShiftedNoise(DpSgd):
    def release(self, step, total):
        return super().release(step, total) + 0.02


@dataclass(frozen=True)
class ScaledSampler(DpSgd):
    factor: float = 1.0

    def draw_units(self, step, *, num_units):
        return charged(replace(MECHANISM, sampling_prob=self.sampling_prob * self.factor, keystream=self.keystream)).draw_units(step, num_units=num_units)


@dataclass(frozen=True)
class FixedSizeBatches(DpSgd):
    def draw_units(self, step, *, num_units):
        order = self.keystream.draw_uniforms("order", step, num_units).argsort()
        return np.sort(order[: round(num_units * self.sampling_prob)])


@dataclass(frozen=True)
class ShuffledEpoch(DpSgd):
    """A pass over shuffled data, with sizes as Poisson draws have them: pitfall 1."""

    def draw_units(self, step, *, num_units):
        order = self.keystream.draw_uniforms("order", 0, num_units).argsort()
        sizes = [len(super(ShuffledEpoch, self).draw_units(i, num_units=num_units)) for i in range(step + 1)]
        return np.sort(order[sum(sizes[:-1]) : sum(sizes)])


@dataclass(frozen=True)
class SameDraw(DpSgd):
    def draw_units(self, step, *, num_units):
        return super().draw_units(0, num_units=num_units)


def with_class(kind, **fields):
    values = {field.name: getattr(MECHANISM, field.name) for field in dataclasses.fields(MECHANISM) if field.init}
    return kind(**(values | fields))


def test_what_is_right_passes_twenty_times():
    for seed in range(20):
        mechanism = replace(MECHANISM, keystream=Keystream.from_seed(seed), sampling_prob=(0.002, 0.05, 0.5, 1.0)[seed % 4], num_steps=1 + seed % 3)
        results = check_mechanism(mechanism, sum_rightly, num_probe_units=4)
        assert all(result.passed for result in results)


def test_the_checks_are_those_that_the_certificate_asks_for():
    weight = torch.nn.Parameter(torch.zeros(2))
    made = [
        check_only_adapters_train({"lora_A": weight}, is_adapter=lambda name: "lora" in name),
        *check_mechanism(MECHANISM, sum_rightly, num_probe_units=2),
        check_adapters_moved({"a": torch.zeros(2)}, {"a": torch.ones(2)}),
    ]
    assert tuple(row["name"] for row in to_rows(made)) == SELF_CHECKS
    assert all(set(row) == {"name", "passed", "detail"} and row["passed"] is True for row in to_rows(made))


def test_a_loss_that_divides_by_the_batch_is_caught():
    with pytest.raises(SelfCheckError, match="batch_mates: a record's loss"):
        check_batch_mates(sum_batch_mean, num_probe_units=4, l2_clip_norm=1.0)


def sum_rounded_by_the_batch(indices):
    """Right but for a rounding that depends on how many units there are: what half precision and padded batches do."""
    rows = list(indices)
    grads = GRADS[rows].bfloat16().float() if len(rows) > 1 else GRADS[rows]
    return clip_and_sum(grads, l2_clip_norm=1.0), LOSSES[rows]


def sum_in_float32(indices):
    total, losses = sum_rightly(indices)
    return replace(total, value=total.value.float().double()), losses


@pytest.mark.parametrize("sum_units", [sum_rounded_by_the_batch, sum_in_float32])
def test_a_gradient_that_is_rounded_by_its_batch_is_caught(sum_units):
    with pytest.raises(SelfCheckError, match="batch_mates: what a unit adds"):
        check_batch_mates(sum_units, num_probe_units=4, l2_clip_norm=1.0)


def test_the_order_of_the_units_in_a_batch_is_free():
    def sum_units(indices):
        return sum_rightly(sorted(indices, reverse=True))

    assert check_batch_mates(sum_units, num_probe_units=4, l2_clip_norm=1.0).passed


def test_no_sum_is_computed_twice():
    asked = []

    def sum_units(indices):
        asked.append(tuple(indices))
        return sum_rightly(indices)

    check_mechanism(MECHANISM, sum_units, num_probe_units=3)
    assert sorted(asked) == sorted([(0,), (1,), (2,), (0, 1), (0, 1, 2)])


@pytest.mark.parametrize("bound", [1.5, 1.05, 50.0])
def test_a_sum_clipped_to_another_norm_is_caught(bound):
    with pytest.raises(SelfCheckError, match="sensitivity"):
        check_sensitivity(sum_clipped_to(bound), num_probe_units=4, l2_clip_norm=1.0)


def test_a_sum_that_is_not_finite_is_caught():
    def sum_units(indices):
        return BoundedSum(torch.full((3,), float("nan")), 1.0, len(indices), 0), LOSSES

    with pytest.raises(SelfCheckError, match="sensitivity"):
        check_sensitivity(sum_units, num_probe_units=2, l2_clip_norm=1.0)


@pytest.mark.parametrize("num_probe_units", [1, 2])
def test_few_units_are_enough(num_probe_units):
    assert len(check_mechanism(MECHANISM, sum_rightly, num_probe_units=num_probe_units)) == 4


@pytest.mark.parametrize("mechanism", [with_class(ScaledNoise, factor=2 / 3), with_class(ScaledNoise, factor=3 / 2), with_class(ScaledNoise, factor=0.0)])
def test_noise_of_another_scale_is_caught(mechanism):
    with pytest.raises(SelfCheckError, match="noise does not have the mean and standard deviation"):
        check_noise(mechanism)


def test_noise_that_is_shifted_or_repeated_is_caught():
    with pytest.raises(SelfCheckError, match="mean"):
        check_noise(with_class(ShiftedNoise))
    with pytest.raises(SelfCheckError, match="two steps is correlated"):
        check_noise(with_class(SameNoise))


@pytest.mark.parametrize("sampling_prob", [0.0005, 0.05, 0.6])
@pytest.mark.parametrize("factor", [2 / 3, 3 / 2])
def test_another_sampling_probability_is_caught(sampling_prob, factor):
    with pytest.raises(SelfCheckError, match="not drawn with the probability"):
        check_sampler(with_class(ScaledSampler, sampling_prob=sampling_prob, factor=factor))


@pytest.mark.parametrize(("kind", "message"), [(FixedSizeBatches, "does not vary"), (ShuffledEpoch, "two steps"), (SameDraw, "two steps")])
def test_batches_that_are_no_poisson_draws_are_caught(kind, message):
    with pytest.raises(SelfCheckError, match=message):
        check_sampler(with_class(kind))


def test_a_frozen_adapter_and_a_trainable_base_are_caught():
    parameters = {"q.lora_A": torch.nn.Parameter(torch.zeros(2)), "q.weight": torch.nn.Parameter(torch.zeros(2), requires_grad=False)}

    def check():
        return check_only_adapters_train(parameters, is_adapter=lambda name: ".lora_" in name)

    assert check().passed
    parameters["q.lora_A"].requires_grad_(False)
    with pytest.raises(SelfCheckError, match=r"q\.lora_A would not train"):
        check()
    parameters["q.lora_A"].requires_grad_(True)
    parameters["q.weight"].requires_grad_(True)
    with pytest.raises(SelfCheckError, match=r"q\.weight would train"):
        check()


def test_an_adapter_that_did_not_move_is_caught():
    before = {"a": torch.zeros(2), "b": torch.ones(1)}
    with pytest.raises(SelfCheckError, match="adapters_moved"):
        check_adapters_moved(before, {name: value.clone() for name, value in before.items()})
    with pytest.raises(SelfCheckError, match="did not change b"):
        check_adapters_moved(before, {**before, "a": torch.tensor([0.0, 1e-6])})
    assert check_adapters_moved(before, {"a": torch.tensor([0.0, 1e-6]), "b": torch.zeros(1)}).passed
    with pytest.raises(SelfCheckError, match="there is no adapter"):
        check_adapters_moved({}, {})


def test_what_a_check_says_does_not_depend_on_the_data():
    """It stands in the certificate, which is released."""

    def sum_others(indices):
        rows = list(indices)
        return clip_and_sum(-0.01 * GRADS[rows].flip(0), l2_clip_norm=1.0), 7 * LOSSES[rows]

    first, second = (to_rows(check_mechanism(MECHANISM, sum_units, num_probe_units=n)) for sum_units, n in ((sum_rightly, 4), (sum_others, 2)))
    assert first == second
