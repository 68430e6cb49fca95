import pytest
import torch

from penname.privacy.gradients import average_rows_of_units

GRADS = torch.arange(12.0).reshape(4, 3)


@pytest.mark.parametrize(
    ("row_units", "num_units", "expected"),
    [
        ([0, 1, 2, 3], 4, GRADS),
        ([3, 2, 1, 0], 4, GRADS.flip(0)),
        ([0, 0, 0, 0], 1, GRADS.mean(0, keepdim=True)),
        ([1, 0, 1, 0], 2, torch.stack([GRADS[[1, 3]].mean(0), GRADS[[0, 2]].mean(0)])),
        ([0, 0, 2, 2], 4, torch.stack([GRADS[:2].mean(0), torch.zeros(3), GRADS[2:].mean(0), torch.zeros(3)])),
    ],
)
def test_a_units_gradient_is_the_mean_over_its_rows(row_units, num_units, expected):
    torch.testing.assert_close(average_rows_of_units(GRADS, row_units, num_units), expected)


def test_no_rows_give_no_gradient():
    assert average_rows_of_units(torch.zeros(0, 3), [], 2).tolist() == [[0.0] * 3] * 2


def test_a_row_that_is_not_finite_stays_with_its_unit():
    grads = GRADS.clone()
    grads[1, 0] = float("inf")
    means = average_rows_of_units(grads, [0, 0, 1, 1], 2)
    assert not torch.isfinite(means[0]).all()
    torch.testing.assert_close(means[1], GRADS[2:].mean(0))
