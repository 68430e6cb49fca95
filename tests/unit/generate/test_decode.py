"""Decoding: the nucleus drawn exactly, and a text that does not depend on its batch mates."""

import numpy as np
import pytest
import torch

from penname.generate import decode as module
from penname.generate.decode import Sampling, decode_batch, draw_next
from tests.conftest import make_tiny_llama


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


def test_a_flat_distribution_is_sorted_whole(monkeypatch):
    row = np.random.default_rng(0).normal(size=600).astype(np.float32) * 0.01
    uniforms = (np.arange(200) + 0.5) / 200
    few = draw_many(row, uniforms, temperature=1.0, top_p=0.99)
    monkeypatch.setattr(module, "_TOP_CANDIDATES", 600)
    assert few == draw_many(row, uniforms, temperature=1.0, top_p=0.99)
    assert len(set(few)) == 200


# --- a batch of texts -------------------------------------------------------------------------------------------------

EOS = 2


@pytest.fixture(scope="module")
def model():
    model = make_tiny_llama(seed=4, tied=False)
    with torch.no_grad():
        model.lm_head.weight *= 25
    return model


def decode(model, prompts, uniforms, *, limit=30, suppressed=(0, 1)):
    return decode_batch(
        model, prompts, uniforms[:, :limit], Sampling(1.0, 0.95, limit), eos_id=EOS, pad_id=EOS, suppressed_ids=suppressed
    )  # fmt: skip


@pytest.fixture(scope="module")
def prompts():
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(3, 259, (length,), generator=generator).tolist() for length in (4, 9, 1, 22, 9, 15, 2, 6)]


@pytest.fixture(scope="module")
def uniforms():
    return torch.rand(8, 30, generator=torch.Generator().manual_seed(8), dtype=torch.float64)


def reference(model, prompt, row, *, limit=30, suppressed=(0, 1)):
    """One text, one token at a time, without cache, padding or batch."""
    ids, text = list(prompt), []
    for step in range(limit):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[:, -1].float()
        logits[:, suppressed] = -torch.inf
        token = int(draw_next(logits, row[step : step + 1], Sampling(1.0, 0.95, limit))[0])
        if token == EOS:
            return text, "stop"
        text.append(token)
        ids.append(token)
    return text, "length"


@pytest.fixture(scope="module")
def ending_model(model):
    """Ends a text after about eight tokens."""
    ending = make_tiny_llama(seed=4, tied=False)
    ending.load_state_dict(model.state_dict())
    hook_logit = 3.0
    head = ending.lm_head

    def raise_eos(_module, _inputs, output):
        output[..., EOS] = output.logsumexp(-1) - hook_logit + 1.0
        return output

    head.register_forward_hook(raise_eos)
    return ending


@pytest.mark.parametrize("which", ["model", "ending_model"])
def test_every_text_is_the_one_that_it_would_be_alone(which, request, prompts, uniforms):
    model = request.getfixturevalue(which)
    together = decode(model, prompts, uniforms)
    expected = [reference(model, prompt, row) for prompt, row in zip(prompts, uniforms, strict=True)]
    assert [(text.token_ids, text.finish_reason) for text in together] == expected
    reasons = {reason for _, reason in expected}
    assert reasons == ({"length"} if which == "model" else reasons)
    if which == "ending_model":
        assert "stop" in reasons
        assert len({len(text) for text, _ in expected}) > 2


def test_order_of_the_batch_changes_nothing(ending_model, prompts, uniforms):
    forward = decode(ending_model, prompts, uniforms)
    backward = decode(ending_model, prompts[::-1], uniforms.flip(0))
    assert backward[::-1] == forward


def test_finished_texts_leave_the_batch(ending_model, prompts, uniforms):
    sizes = []
    hook = ending_model.model.register_forward_pre_hook(lambda _m, _a, kwargs: sizes.append(len(kwargs["input_ids"])), with_kwargs=True)
    decode(ending_model, prompts, uniforms)
    hook.remove()
    assert sizes[0] == len(prompts)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < len(prompts)


def test_the_limit(model, prompts, uniforms):
    texts = decode(model, prompts, uniforms, limit=5)
    assert all(len(text.token_ids) == 5 and text.finish_reason == "length" for text in texts)


def test_suppressed_tokens_are_never_drawn(model, prompts, uniforms):
    free = {token for text in decode(model, prompts, uniforms, suppressed=()) for token in text.token_ids}
    banned = sorted(free)[: len(free) // 2]
    drawn = {token for text in decode(model, prompts, uniforms, suppressed=banned) for token in text.token_ids}
    assert not drawn & set(banned)


def test_an_end_mark_ends_a_text_and_stays_in_it(model, prompts, uniforms):
    free = decode(model, prompts, uniforms)
    mark = free[0].token_ids[7]
    ended = decode_batch(model, prompts, uniforms, Sampling(1.0, 0.95, 30), eos_id=EOS, pad_id=EOS, suppressed_ids=(0, 1), is_ended=lambda ids: ids[-1] == mark)
    for whole, cut in zip(free, ended, strict=True):
        length = whole.token_ids.index(mark) + 1 if mark in whole.token_ids else len(whole.token_ids)
        assert cut.token_ids == whole.token_ids[:length]
        assert cut.finish_reason == ("stop" if mark in whole.token_ids else "length")
    assert ended[0].finish_reason == "stop"
