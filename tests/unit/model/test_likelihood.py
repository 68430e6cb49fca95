"""The likelihood of every token, against the plain model, and the same whatever else is asked about."""

import numpy as np
import pytest
import torch

from penname.model import packing
from penname.model.likelihood import TokenLikelihoods, token_log_likelihoods
from tests.conftest import make_tiny_llama

TEXTS = [("a prompt:", " and what follows"), ("", "nothing before it"), ("b:", " x"), ("a prompt:", " " + "long " * 40)]


def ask(texts, tokenizer, **kwargs):
    return token_log_likelihoods(make_tiny_llama(), tokenizer, texts, **{"max_tokens": 120, **kwargs})


def slow(prompt, completion, tokenizer, max_tokens=120):
    """From the full logits of the model by itself."""
    given = tokenizer(prompt)["input_ids"]
    ids = [*given, *tokenizer(completion)["input_ids"], tokenizer.eos_token_id][:max_tokens]
    with torch.no_grad():
        logs = torch.log_softmax(make_tiny_llama()(input_ids=torch.tensor([ids])).logits[0].float(), dim=1)
    first = max(1, len(given))
    return logs[torch.arange(first - 1, len(ids) - 1), torch.tensor(ids[first:])].numpy()


@pytest.mark.parametrize("packs", [True, False], ids=["packed", "alone"])
def test_likelihoods_are_those_of_the_plain_model(byte_tokenizer, monkeypatch, packs):
    if not packs:
        monkeypatch.setattr(packing, "enable_packing", lambda model, max_tokens: False)
    counted = []
    found = ask(TEXTS, byte_tokenizer, on_progress=counted.append)
    expected = [slow(*text, byte_tokenizer) for text in TEXTS]
    assert found.num_tokens.tolist() == [len(own) for own in expected]
    np.testing.assert_allclose(found.log_likelihoods, np.concatenate(expected), atol=2e-5)
    assert sum(counted) == len(TEXTS)


def test_a_record_has_the_same_bits_beside_others(byte_tokenizer):
    together = ask(TEXTS, byte_tokenizer)
    for place, text in enumerate(TEXTS):
        np.testing.assert_array_equal(ask([text], byte_tokenizer).log_likelihoods, together.take([place]).log_likelihoods)


def test_a_record_without_room_for_its_completion_has_no_tokens(byte_tokenizer):
    found = ask([("p" * 130, "x"), ("p", "x")], byte_tokenizer)
    assert found.num_tokens.tolist() == [0, 2]
    assert len(ask([], byte_tokenizer).num_tokens) == 0


def test_taking_some_records():
    tokens = TokenLikelihoods(np.arange(6, dtype=np.float32), np.array([2, 0, 3, 1]))
    taken = tokens.take([3, 0, 1])
    assert taken.log_likelihoods.tolist() == [5.0, 0.0, 1.0]
    assert taken.num_tokens.tolist() == [1, 2, 0]
    assert tokens.starts.tolist() == [0, 2, 2, 5]
    with pytest.raises(ValueError, match="sum to 2, there are 3"):
        TokenLikelihoods(np.zeros(3), np.array([2]))
