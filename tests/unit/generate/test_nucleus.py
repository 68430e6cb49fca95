"""The nucleus drawn exactly, and a draw that does not depend on the rows beside it."""

import numpy as np
import pytest
import torch

from penname.generate import nucleus as module
from penname.generate.nucleus import Sampling, draw_next


def nucleus(logits, *, temperature, top_p):
    """Token ids in order of probability and their probabilities, by the definition: the smallest set that reaches top_p."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    probs = np.exp(scaled - scaled.max())
    probs /= probs.sum()
    order = np.argsort(-probs, kind="stable")
    size = int(np.searchsorted(np.cumsum(probs[order]), top_p)) + 1
    chosen = order[:size]
    return chosen, probs[chosen] / probs[chosen].sum()


def draw_many(row, uniforms, **sampling):
    uniforms = torch.as_tensor(uniforms, dtype=torch.float64)
    return draw_next(torch.tensor(row).float().repeat(len(uniforms), 1), uniforms, Sampling(max_new_tokens=1, **sampling)).tolist()


@pytest.mark.parametrize("num_tokens", [3, 40, 2000])
@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 0.9), (0.7, 0.5), (3.0, 0.99), (1.0, 1.0), (0.9, 1e-6)])
def test_draws_invert_the_distribution_function_of_the_nucleus(num_tokens, temperature, top_p):
    row = np.random.default_rng(num_tokens).normal(size=num_tokens).astype(np.float32) * 2
    chosen, probs = nucleus(row, temperature=temperature, top_p=top_p)
    edges = np.cumsum(probs)
    middles = edges - probs / 2
    # The middle of every token's own piece: float32 rounding cannot carry it into the next one unless the piece itself is that thin.
    thick = probs > 1e-5
    drawn = np.array(draw_many(row, middles[thick], temperature=temperature, top_p=top_p))
    assert (drawn == chosen[thick]).all()
    everything = draw_many(row, np.random.default_rng(1).random(3000), temperature=temperature, top_p=top_p)
    # A token whose cumulated probability meets top_p within rounding may stand on either side.
    assert len(set(everything) - set(chosen.tolist())) <= int(top_p == 1.0)


def test_the_law_of_the_draws():
    row = np.log(np.array([0.5, 0.25, 0.15, 0.1], dtype=np.float32))
    drawn = np.bincount(draw_many(row, (np.arange(10_000) + 0.5) / 10_000, temperature=1.0, top_p=0.9), minlength=4) / 10_000
    np.testing.assert_allclose(drawn, [0.5 / 0.9, 0.25 / 0.9, 0.15 / 0.9, 0], atol=2e-4)


@pytest.mark.parametrize(
    ("top_p", "min_p", "expected"), [(1.0, 0.3, [5, 2.5, 1.5, 0]), (1.0, 0.31, [5, 2.5, 0, 0]), (0.6, 0.1, [5, 2.5, 0, 0]), (1.0, 1.0, [5, 0, 0, 0])]
)
def test_the_law_of_the_draws_with_min_p(top_p, min_p, expected):
    row = np.log(np.array([0.5, 0.25, 0.1501, 0.0999], dtype=np.float32))
    drawn = np.bincount(draw_many(row, (np.arange(10_000) + 0.5) / 10_000, temperature=1.0, top_p=top_p, min_p=min_p), minlength=4) / 10_000
    np.testing.assert_allclose(drawn, np.array(expected) / sum(expected), atol=3e-4)


def test_min_p_looks_no_further_than_it_must_and_no_less():
    # 200 tokens within a tenth of the likeliest, thousands below: more than the first candidates, and none of the tail.
    row = np.concatenate([np.full(200, 0.0), np.full(5000, -3.0)]).astype(np.float32)
    drawn = draw_many(row, np.random.default_rng(2).random(4000), temperature=1.0, top_p=1.0, min_p=0.1)
    assert set(drawn) <= set(range(200))
    assert len(set(drawn)) == 200


@pytest.mark.parametrize("num_tokens", [5, 1000])
def test_the_edges_of_the_uniform_numbers(num_tokens):
    row = np.random.default_rng(0).normal(size=num_tokens).astype(np.float32)
    chosen, _ = nucleus(row, temperature=1.0, top_p=0.8)
    first, last = draw_many(row, [0.0, 1 - 2.0**-53], temperature=1.0, top_p=0.8)
    assert first == chosen[0]
    assert last in chosen
    assert last == chosen[-1]


def test_ties_are_drawn_alike_and_a_suppressed_token_never():
    row = np.array([0.0, -np.inf, 0.0, 0.0], dtype=np.float32)
    drawn = draw_many(row, (np.arange(300) + 0.5) / 300, temperature=1.0, top_p=1.0)
    assert np.bincount(drawn, minlength=4).tolist() == [100, 0, 100, 100]
    assert 1 not in draw_many(row, [0.0, 1 - 2.0**-53], temperature=1.0, top_p=1.0)


def test_one_token_alone_has_everything():
    row = np.array([-200.0, 200.0, -200.0], dtype=np.float32)
    assert set(draw_many(row, [0.0, 0.5, 1 - 2.0**-53], temperature=0.01, top_p=0.95)) == {1}


def test_a_flat_distribution_needs_more_candidates_and_gets_them(monkeypatch):
    row = np.random.default_rng(0).normal(size=6000).astype(np.float32) * 0.01
    uniforms = (np.arange(200) + 0.5) / 200
    few = draw_many(row, uniforms, temperature=1.0, top_p=0.99)
    monkeypatch.setattr(module, "_CANDIDATES", (6000,))
    assert few == draw_many(row, uniforms, temperature=1.0, top_p=0.99)
    assert len(set(few)) == 200


def test_the_largest_are_found_through_their_groups():
    weights = torch.rand(8, 49152, generator=torch.Generator().manual_seed(1))
    top, places = module._find_top(weights, 64)
    expected = weights.topk(64, dim=1)
    assert torch.equal(top, expected.values)
    assert torch.equal(weights.gather(1, places), top)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_draw_does_not_depend_on_the_rows_beside_it(dtype):
    generator = torch.Generator().manual_seed(2)
    # Some rows are flat and need every candidate, the others a few.
    logits = (torch.randn(21, 4096, generator=generator) * torch.linspace(0.01, 6, 21)[:, None]).to(dtype)
    uniforms = torch.rand(21, generator=generator, dtype=torch.float64)
    sampling = Sampling(1.0, 0.95, 1)
    together = draw_next(logits, uniforms, sampling).tolist()
    assert [int(draw_next(logits[i : i + 1], uniforms[i : i + 1], sampling)) for i in range(21)] == together
    assert draw_next(logits.flip(0), uniforms.flip(0), sampling).tolist()[::-1] == together
