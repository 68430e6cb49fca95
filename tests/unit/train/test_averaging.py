import pytest
import torch

from penname.train.averaging import IterateAverage


def make_model(value):
    model = torch.nn.Linear(2, 1, bias=False)
    torch.nn.init.constant_(model.weight, value)
    return model


@pytest.mark.parametrize(("last_frac", "expected"), [(0.0, 10.0), (0.01, 10.0), (0.2, 9.5), (0.5, 8.0), (1.0, 5.5)])
def test_the_last_share_of_the_steps_counts(last_frac, expected):
    average = IterateAverage(num_steps=10, last_frac=last_frac)
    model = make_model(0.0)
    for step in range(10):
        torch.nn.init.constant_(model.weight, step + 1.0)
        average.add(model, step=step)
    average.put_into(model)
    torch.testing.assert_close(model.weight.data, torch.full((1, 2), expected))


def test_it_keeps_values_and_not_the_weights_themselves():
    average, model = IterateAverage(num_steps=1, last_frac=1.0), make_model(3.0)
    average.add(model, step=0)
    torch.nn.init.constant_(model.weight, 7.0)
    average.put_into(model)
    assert model.weight.tolist() == [[3.0, 3.0]]


def test_frozen_weights_have_no_mean():
    average, model = IterateAverage(num_steps=1, last_frac=1.0), make_model(3.0)
    model.weight.requires_grad_(False)
    average.add(model, step=0)
    assert average.mean == {}
