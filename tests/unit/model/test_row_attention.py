"""Attention within records: what torch's own gives each record alone, forward and backward, in blocks or not."""

import pytest
import torch
from torch.nn import functional

from penname.model import row_attention
from penname.model.row_attention import attend_rows, attend_rows_backward

HEADS, KEY_HEADS, SIZE, SCALING = 6, 2, 8, 0.3


def make(lengths, *, filling=3):
    generator = torch.Generator().manual_seed(1)
    num_tokens = sum(lengths) + filling
    return [torch.randn(heads, num_tokens, SIZE, generator=generator) for heads in (HEADS, KEY_HEADS, KEY_HEADS)]


def attend_alone(query, key, value, lengths):
    """torch's attention, record by record; (M, H, d)."""
    outputs, start = torch.zeros(query.shape[1], HEADS, SIZE), 0
    for length in lengths:
        row = slice(start, start + length)
        parts = query[None, :, row], key[None, :, row].repeat_interleave(3, 1), value[None, :, row].repeat_interleave(3, 1)
        outputs = outputs.clone()
        outputs[row] = functional.scaled_dot_product_attention(*parts, is_causal=True, scale=SCALING)[0].transpose(0, 1)
        start += length
    return outputs


@pytest.mark.parametrize("block", [4, 5, 256])
@pytest.mark.parametrize("lengths", [(1,), (7, 1, 12), (4, 8), (23,)])
def test_outputs_and_gradients_are_those_of_torch(monkeypatch, block, lengths):
    monkeypatch.setattr(row_attention, "_BLOCK_TOKENS", block)
    parts = [part.requires_grad_() for part in make(lengths)]
    expected = attend_alone(*parts, lengths)
    away = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2))
    expected_grads = torch.autograd.grad(expected, parts, away)
    parts = [part.detach() for part in parts]
    outputs = attend_rows(*parts, lengths, SCALING)
    torch.testing.assert_close(outputs, expected.detach(), rtol=1e-4, atol=1e-5)
    for grads, expected_grad in zip(attend_rows_backward(*parts, outputs, away, lengths, SCALING), expected_grads, strict=True):
        torch.testing.assert_close(grads, expected_grad, rtol=1e-4, atol=1e-5)


def test_the_filling_gets_zeros_and_gives_none():
    parts = make((5, 6), filling=4)
    outputs = attend_rows(*parts, (5, 6), SCALING)
    assert not outputs[11:].any()
    grads = attend_rows_backward(*parts, outputs, torch.ones_like(outputs), (5, 6), SCALING)
    assert not any(grad[:, 11:].any() for grad in grads)


def test_a_record_is_the_same_bits_wherever_it_lies():
    query, key, value = make((9, 20, 4))
    moved = [torch.cat([part[:, 29:33], part[:, :9], part[:, 9:29], part[:, 33:]], dim=1).contiguous() for part in (query, key, value)]
    there, here = attend_rows(query, key, value, (9, 20, 4), SCALING), attend_rows(*moved, (4, 9, 20), SCALING)
    assert torch.equal(there[9:29], here[13:33])
    away = torch.randn(there.shape, generator=torch.Generator().manual_seed(2))
    moved_away = torch.cat([away[29:33], away[:9], away[9:29], away[33:]])
    grads = attend_rows_backward(query, key, value, there, away, (9, 20, 4), SCALING)
    moved_grads = attend_rows_backward(*moved, here, moved_away, (4, 9, 20), SCALING)
    for grad, moved_grad in zip(grads, moved_grads, strict=True):
        assert torch.equal(grad[:, 9:29], moved_grad[:, 13:33])
