from fractions import Fraction

import pytest
import torch

from penname.privacy.clipping import BoundedSum, clip_and_sum, empty_sum
from penname.privacy.errors import PrivacyError


def test_the_example_of_the_docstring():
    total = clip_and_sum(torch.tensor([[3.0, 4.0]]), l2_clip_norm=1.0)
    torch.testing.assert_close(total.value, torch.tensor([0.6, 0.8]).double(), rtol=2e-5, atol=0)
    assert (total.l2_sensitivity, total.num_units, total.num_clipped) == (1.0, 1, 1)


def test_it_is_a_sum_and_short_gradients_stay_as_they_are():
    grads = torch.tensor([[0.1, 0.0], [0.0, 0.2], [3.0, 0.0]])
    total = clip_and_sum(grads, l2_clip_norm=1.0)
    torch.testing.assert_close(total.value, torch.tensor([1.1, 0.2]).double(), rtol=2e-5, atol=0)
    assert (total.num_units, total.num_clipped) == (3, 1)


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
def test_a_unit_that_is_not_finite_contributes_zero(bad):
    total = clip_and_sum(torch.tensor([[bad, 1.0], [0.5, 0.0], [2.0, bad]]), l2_clip_norm=1.0)
    assert total.value.tolist() == [0.5, 0.0]
    assert (total.num_units, total.num_clipped) == (3, 0)


def test_the_longest_gradient_that_float32_can_hold_is_clipped_and_not_lost():
    """Its norm is no float32, and the scale that shortens it no normal float32; neither is computed in that precision."""
    total = clip_and_sum(torch.full((1, 100), 3.0e38), l2_clip_norm=1.6e-5)
    assert 1.6e-5 * (1 - 2e-5) <= float(total.value.norm()) <= 1.6e-5


def test_the_sum_is_not_rounded_to_float32():
    grads = torch.tensor([[1.0], [2.0**-30], [-1.0]])
    assert clip_and_sum(grads, l2_clip_norm=2.0).value.tolist() == [2.0**-30]


def test_what_a_unit_adds_does_not_depend_on_the_others():
    grads = torch.randn(9, 1000, generator=torch.Generator().manual_seed(3))
    alone = [clip_and_sum(grads[i : i + 1], l2_clip_norm=0.3).value for i in range(9)]
    for rows in ([0, 1, 2], [8, 2, 5, 1], range(9)):
        total = torch.zeros(1000, dtype=torch.float64)
        for i in rows:
            total += alone[i]
        assert torch.equal(clip_and_sum(grads[list(rows)], l2_clip_norm=0.3).value, total)


@pytest.mark.parametrize("bound", [1e-6, 0.1, 1.0, 1.999, 3e5])
def test_a_sum_is_exact_in_any_order_and_however_it_is_cut(bound):
    """Rationals know no rounding; 400 units of which most are clipped, some much shorter than the bound."""
    generator = torch.Generator().manual_seed(2)
    grads = torch.randn(400, 3, generator=generator) * bound * 10.0 ** torch.randint(-6, 3, (400, 1), generator=generator)
    total = clip_and_sum(grads, l2_clip_norm=bound)
    alone = [clip_and_sum(grads[i : i + 1], l2_clip_norm=bound).value.tolist() for i in range(400)]
    assert [Fraction(x) for x in total.value.tolist()] == [sum(Fraction(row[column]) for row in alone) for column in range(3)]
    order = torch.randperm(400, generator=generator)
    parts = [clip_and_sum(grads[part], l2_clip_norm=bound) for part in order.split([1, 150, 0, 249])]
    assert torch.equal(parts[3].add_disjoint(parts[1]).add_disjoint(parts[0].add_disjoint(parts[2])).value, total.value)


def test_more_units_than_the_rounding_of_a_sum_covers_are_refused():
    many = BoundedSum(torch.zeros(1, dtype=torch.float64), 1.0, 199_999, 0)
    assert many.add_disjoint(clip_and_sum(torch.ones(1, 1), l2_clip_norm=1.0)).num_units == 200_000
    with pytest.raises(PrivacyError, match=r"200,001 units in one sum"):
        many.add_disjoint(clip_and_sum(torch.ones(2, 1), l2_clip_norm=1.0))


@pytest.mark.parametrize("bound", [0.0, -1.0, float("nan"), float("inf")])
def test_a_bound_that_is_none_is_refused(bound):
    with pytest.raises(PrivacyError, match="l2_clip_norm"):
        clip_and_sum(torch.ones(1, 2), l2_clip_norm=bound)


@pytest.mark.parametrize("grads", [torch.ones(2, 3, dtype=torch.bfloat16), torch.ones(2, 3, dtype=torch.float64), torch.ones(3), torch.ones(2, 3, 4)])
def test_gradients_that_cannot_be_bounded_are_refused(grads):
    with pytest.raises(PrivacyError, match="unit_grads"):
        clip_and_sum(grads, l2_clip_norm=1.0)


def test_sums_over_disjoint_units_join_and_other_bounds_do_not():
    grads = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
    parts = clip_and_sum(grads[:3], l2_clip_norm=0.5).add_disjoint(clip_and_sum(grads[3:], l2_clip_norm=0.5))
    whole = clip_and_sum(grads, l2_clip_norm=0.5)
    assert torch.equal(parts.value, whole.value)
    assert (parts.num_units, parts.num_clipped, parts.l2_sensitivity) == (whole.num_units, whole.num_clipped, 0.5)
    with pytest.raises(PrivacyError, match=r"0\.5 and 0\.6"):
        parts.add_disjoint(empty_sum(5, l2_clip_norm=0.6))


def test_no_units_sum_to_zero():
    total = empty_sum(4, l2_clip_norm=2.0)
    assert total.value.tolist() == [0.0] * 4
    assert (total.num_units, total.num_clipped, total.l2_sensitivity) == (0, 0, 2.0)
