"""The mean over a unit's rows, with gradients of our choice: a layer without inputs of its own, whose rows' losses name their gradients."""

import pytest
import torch

from penname.privacy import gradients
from penname.privacy.errors import PrivacyError
from penname.privacy.gradients import LoraEngine, RowPass, SummedEngine, count_rows_of_units

GRADS = torch.arange(12.0).reshape(4, 3)


def make_passes(layer, grads, row_units, *, rows_a_pass):
    """Row b of two tokens: its loss is grads[b] . W x, and x is 1 on its first token and 0 on the second."""

    def make(start):
        part = grads[start : start + rows_a_pass]

        def compute_losses():
            inputs = torch.tensor([[1.0], [0.0]]).repeat(len(part), 1)[None]
            return (layer(inputs)[0, ::2] * part).sum(1)

        return RowPass(compute_losses, [2] * len(part), row_units[start : start + rows_a_pass])

    return [make(start) for start in range(0, len(grads), rows_a_pass)]


def unit_gradients(grads, row_units, num_units, *, rows_a_pass=10):
    layer = torch.nn.Linear(1, grads.shape[1], bias=False)
    return LoraEngine(layer).unit_gradients(make_passes(layer, grads, row_units, rows_a_pass=rows_a_pass), num_units)[0]


@pytest.mark.parametrize("rows_a_pass", [1, 3, 10])
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
def test_a_units_gradient_is_the_mean_over_its_rows(row_units, num_units, expected, rows_a_pass):
    torch.testing.assert_close(unit_gradients(GRADS, row_units, num_units, rows_a_pass=rows_a_pass), expected)
    layer = torch.nn.Linear(1, 3, bias=False)
    summed, _ = SummedEngine(layer).summed_gradient(make_passes(layer, GRADS, row_units, rows_a_pass=rows_a_pass), num_units)
    torch.testing.assert_close(summed, expected.sum(0))


def test_no_rows_give_no_gradient():
    layer = torch.nn.Linear(1, 3, bias=False)
    grads, losses = LoraEngine(layer).unit_gradients([], 2)
    assert grads.tolist() == [[0.0] * 3] * 2
    assert losses.shape == (0,)


def test_a_batch_that_failed_keeps_no_memory_from_the_next():
    layer = torch.nn.Linear(1, 3, bias=False)
    engine, passes = LoraEngine(layer), make_passes(layer, GRADS, [0, 1, 2, 3], rows_a_pass=10)
    first = engine.unit_gradients(passes, 4)[0]
    assert first.data_ptr() == engine.unit_gradients(passes, 4)[0].data_ptr()

    def fail():
        raise torch.OutOfMemoryError("no memory")

    with pytest.raises(torch.OutOfMemoryError):
        engine.unit_gradients([RowPass(fail, [2], [0])], 1)
    # The old memory is held here alone; nothing of what was in it is in the next.
    first.fill_(7.0)
    again = engine.unit_gradients(passes, 4)[0]
    assert again.data_ptr() != first.data_ptr()
    torch.testing.assert_close(again, GRADS)


@pytest.mark.parametrize("rows_a_pass", [1, 3, 10])
def test_nothing_that_the_memory_held_before_is_in_a_gradient(rows_a_pass):
    layer = torch.nn.Linear(1, 3, bias=False)
    engine = LoraEngine(layer)
    # The first row of a unit is written and not added, and a unit without rows is set to zero.
    engine.unit_gradients(make_passes(layer, GRADS, [0, 1, 2, 3], rows_a_pass=10), 4)[0].fill_(torch.nan)
    again = engine.unit_gradients(make_passes(layer, GRADS, [0, 2, 2, 0], rows_a_pass=rows_a_pass), 4)[0]
    torch.testing.assert_close(again, torch.stack([GRADS[[0, 3]].mean(0), torch.zeros(3), GRADS[[1, 2]].mean(0), torch.zeros(3)]))


def test_a_row_that_is_not_finite_stays_with_its_unit():
    grads = GRADS.clone()
    grads[1, 0] = float("inf")
    means = unit_gradients(grads, [0, 0, 1, 1], 2)
    assert not torch.isfinite(means[0]).all()
    torch.testing.assert_close(means[1], GRADS[2:].mean(0))


@pytest.mark.parametrize(("row_units", "num_units"), [([2], 2), ([-1], 2), ([0, 0], 1)])
def test_a_row_of_nobody_is_refused(row_units, num_units):
    with pytest.raises(PrivacyError, match="gradients"):
        count_rows_of_units([RowPass(lambda: torch.zeros(1), [2], row_units)], num_units)


class _Chain(torch.nn.Module):
    """Layers of one size one after the other, others between them; what `order` says decides how far apart their gradients lie."""

    def __init__(self, order):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(4, 3 if wide else 4, bias=False) for wide in order)
        for layer in self.layers:
            layer.weight.data = torch.randn(layer.weight.shape, generator=generator)

    def forward(self, inputs):
        for layer in self.layers:
            outputs = torch.tanh(layer(inputs))
            inputs = inputs + torch.nn.functional.pad(outputs, (0, inputs.shape[-1] - outputs.shape[-1]))
        return inputs


@pytest.mark.parametrize("max_pending_bytes", [0, 600, 2**20])
@pytest.mark.parametrize("order", [(0, 0, 0), (0, 1, 0, 1, 0), (0, 1, 0, 0, 1)], ids=str)
def test_layers_multiplied_together_get_what_each_would_get_alone(monkeypatch, order, max_pending_bytes):
    monkeypatch.setattr(gradients, "_MAX_PENDING_BYTES", max_pending_bytes)
    model, lengths, units = _Chain(order), (3, 1, 5), [1, 0, 1]
    inputs = torch.randn(1, sum(lengths) + 2, 4, generator=torch.Generator().manual_seed(2))

    def losses():
        return torch.stack([part.square().sum() for part in model(inputs)[0, : sum(lengths)].split(lengths)])

    rows = [torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)]) for loss in losses()]
    expected = torch.stack([rows[1], (rows[0] + rows[2]) / 2])
    torch.testing.assert_close(LoraEngine(model).unit_gradients([RowPass(losses, lengths, units)], 2)[0], expected)
