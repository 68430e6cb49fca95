"""Adding or removing one unit moves the clipped sum by at most the bound, whatever its gradient is."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from penname.privacy.clipping import clip_and_sum, empty_sum
from penname.privacy.gradients import LoraEngine, RowPass

STRANGE = st.sampled_from([0.0, -0.0, math.inf, -math.inf, math.nan, 1e-45, 1e-38, 1e-20, 1e-5, 1.0, 1e5, 1e20, 1e38, 3.4e38, -3.4e38])
NUMBERS = st.one_of(STRANGE, st.floats(width=32, allow_nan=True, allow_infinity=True), st.floats(-3, 3, width=32))
BOUNDS = st.sampled_from([1e-6, 1e-2, 0.5, 1.0, 5.0, 1e6])


FEW, MANY = st.integers(1, 6), st.integers(1, 10)


@st.composite
def unit_grads(draw, num_units=FEW):
    count, num_params = draw(num_units), draw(st.integers(1, 8))
    rows = draw(st.lists(st.lists(NUMBERS, min_size=num_params, max_size=num_params), min_size=count, max_size=count))
    return torch.tensor(rows, dtype=torch.float32)


def average_rows(row_grads, owners, num_units):
    """The engine's own mean over a unit's rows: a layer whose row b has the loss row_grads[b] . W, and so that gradient."""
    layer = torch.nn.Linear(1, row_grads.shape[1], bias=False)
    row_pass = RowPass(lambda: (layer(torch.ones(1, len(row_grads), 1))[0] * row_grads).sum(1), [1] * len(row_grads), owners)
    return LoraEngine(layer).unit_gradients([row_pass] if owners else [], num_units)[0]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(grads=unit_grads(), bound=BOUNDS)
def test_one_unit_alone_is_never_longer_than_the_bound(grads, bound):
    for row in range(len(grads)):
        value = clip_and_sum(grads[row : row + 1], l2_clip_norm=bound).value
        assert float(value.double().norm()) <= bound


@settings(max_examples=200, deadline=None, derandomize=True)
@given(grads=unit_grads(), bound=BOUNDS, data=st.data())
def test_removing_a_unit_moves_the_sum_by_at_most_the_bound(grads, bound, data):
    left_out = data.draw(st.integers(0, len(grads) - 1))
    whole = clip_and_sum(grads, l2_clip_norm=bound).value
    rest = clip_and_sum(torch.cat([grads[:left_out], grads[left_out + 1 :]]), l2_clip_norm=bound).value
    assert torch.isfinite(whole).all()
    assert float((whole - rest).norm()) <= bound


@settings(max_examples=100, deadline=None, derandomize=True)
@given(row_grads=unit_grads(MANY), bound=BOUNDS, data=st.data())
def test_a_unit_with_several_records_moves_the_sum_by_at_most_the_bound(row_grads, bound, data):
    num_units = data.draw(st.integers(1, 4))
    owners = data.draw(st.lists(st.integers(0, num_units - 1), min_size=len(row_grads), max_size=len(row_grads)))
    gone = data.draw(st.sampled_from(owners))
    kept = [i for i, owner in enumerate(owners) if owner != gone]
    whole = clip_and_sum(average_rows(row_grads, owners, num_units), l2_clip_norm=bound).value
    rest = clip_and_sum(average_rows(row_grads[kept], [owners[i] for i in kept], num_units), l2_clip_norm=bound).value
    assert float((whole - rest).norm()) <= bound


@settings(max_examples=100, deadline=None, derandomize=True)
@given(grads=unit_grads(), bound=BOUNDS, data=st.data())
def test_physical_batches_cut_anywhere_give_the_same_sum(grads, bound, data):
    cuts = sorted(data.draw(st.sets(st.integers(0, len(grads)))))
    total = empty_sum(grads.shape[1], l2_clip_norm=bound)
    for start, end in zip([0, *cuts], [*cuts, len(grads)], strict=True):
        total = total.add_disjoint(clip_and_sum(grads[start:end], l2_clip_norm=bound))
    whole = clip_and_sum(grads, l2_clip_norm=bound)
    assert (total.num_units, total.num_clipped, total.l2_sensitivity) == (whole.num_units, whole.num_clipped, bound)
    assert torch.equal(total.value, whole.value)


@pytest.mark.parametrize("num_units", [1, 64, 1000])
def test_many_units_that_point_the_same_way(num_units):
    grads = torch.full((num_units, 300), 7.0)
    total = clip_and_sum(grads, l2_clip_norm=1.0)
    assert total.num_clipped == num_units
    assert float(total.value.norm()) == pytest.approx(num_units, rel=1e-4)
    assert float((total.value - clip_and_sum(grads[1:], l2_clip_norm=1.0).value).norm()) <= 1.0
