"""Attention within records: what torch's own gives each record alone, forward and backward, in blocks or not."""

import pytest
import torch
from torch.nn import functional

from penname.model import row_attention
from penname.model.row_attention import RowAttention

HEADS, KEY_HEADS, SIZE, SCALING = 6, 2, 8, 0.3


def make(lengths, *, filling=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(sum(lengths) + filling, HEADS + 2 * KEY_HEADS, SIZE, generator=generator).to(dtype)


def attend(heads, lengths):
    outputs = heads.new_full((len(heads), HEADS, SIZE), 7.0)
    kept = RowAttention(HEADS, KEY_HEADS, lengths, SCALING).attend(heads, outputs)
    return outputs, kept


def attend_backward(heads, kept, away, lengths):
    grads = RowAttention(HEADS, KEY_HEADS, lengths, SCALING).backward(heads, kept, away)
    grads[:, :-KEY_HEADS] *= SCALING
    return grads


def attend_alone(heads, lengths):
    """torch's attention, record by record; (M, H, d)."""
    outputs, start = [], 0
    for length in lengths:
        query, key, value = heads[start : start + length].transpose(0, 1)[None].split([HEADS, KEY_HEADS, KEY_HEADS], dim=1)
        parts = query, key.repeat_interleave(3, 1), value.repeat_interleave(3, 1)
        outputs.append(functional.scaled_dot_product_attention(*parts, is_causal=True, scale=SCALING)[0].transpose(0, 1))
        start += length
    return torch.cat([*outputs, torch.zeros(len(heads) - start, HEADS, SIZE)])


@pytest.mark.parametrize("block", [4, 5, 256])
@pytest.mark.parametrize("lengths", [(1,), (7, 1, 12), (4, 8), (23,)])
def test_outputs_and_gradients_are_those_of_torch(monkeypatch, block, lengths):
    monkeypatch.setattr(row_attention, "_BLOCK_TOKENS", block)
    heads = make(lengths).requires_grad_()
    expected = attend_alone(heads, lengths)
    away = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2))
    (expected_grads,) = torch.autograd.grad(expected, heads, away)
    outputs, kept = attend(heads.detach(), lengths)
    torch.testing.assert_close(outputs, expected.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(attend_backward(heads.detach(), kept, away, lengths), expected_grads, rtol=1e-4, atol=1e-5)


def test_weights_are_kept_of_short_records_only(monkeypatch):
    monkeypatch.setattr(row_attention, "_BLOCK_TOKENS", 8)
    assert [weights is not None for weights in attend(make((5, 9, 8)), (5, 9, 8))[1]] == [True, False, True]


def test_the_filling_gets_zeros_and_gives_none():
    heads = make((5, 6), filling=4)
    outputs, kept = attend(heads, (5, 6))
    assert not outputs[11:].any()
    assert not attend_backward(heads, kept, torch.ones_like(outputs), (5, 6))[11:].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_record_is_the_same_bits_wherever_it_lies(dtype):
    heads = make((9, 20, 4), dtype=dtype)
    moved = torch.cat([heads[29:33], heads[:9], heads[9:29], heads[33:]])
    (there, kept), (here, moved_kept) = attend(heads, (9, 20, 4)), attend(moved, (4, 9, 20))
    assert torch.equal(there[9:29], here[13:33])
    away = torch.randn(there.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    moved_away = torch.cat([away[29:33], away[:9], away[9:29], away[33:]])
    grads, moved_grads = attend_backward(heads, kept, away, (9, 20, 4)), attend_backward(moved, moved_kept, moved_away, (4, 9, 20))
    assert torch.equal(grads[9:29], moved_grads[13:33])
