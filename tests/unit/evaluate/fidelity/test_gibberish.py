"""Gibberish by letters against counts by hand, and the base model behind the other one."""

import numpy as np
import pytest

from penname.config import ModelConfig
from penname.evaluate.fidelity.gibberish import LetterModel
from penname.evaluate.model_likelihood import BaseLikelihood

TEXTS = ["the case is good and the strap is good.", "it broke after a week, and the colour is not nice at all."]


def plain_score(texts, text):
    """The mixture of the four orders, written out."""
    padded = ["\0\0\0" + known.casefold() for known in texts]
    logs = []
    shown = "\0\0\0" + text.casefold()
    for i in range(3, len(shown)):
        likelihood = 1e-4
        for order, weight in enumerate((0.05, 0.15, 0.3, 0.5), 1):
            before = shown[i - order + 1 : i]
            follows = [known[k] for known in padded for k in range(3, len(known)) if known[k - order + 1 : k] == before]
            likelihood += weight * follows.count(shown[i]) / max(1, len(follows))
        logs.append(np.log(likelihood))
    return float(np.mean(logs))


def test_scores_are_those_of_the_mixture():
    model = LetterModel(TEXTS)
    for text in ("the strap broke", "good", "is"):
        assert model.score([text])[0] == pytest.approx(plain_score(TEXTS, text))


def test_letters_by_chance_unknown_scripts_and_broken_text_are_unlikely():
    model = LetterModel(TEXTS)
    good, chance, script, surrogate, empty = model.score(["a good case", "xqzj vkwq", "手机壳坏了", "\ud800\ud800", " "])
    assert good > max(chance, script, surrogate)
    assert empty == -np.inf


def test_the_base_model_is_loaded_late_and_asked_once_a_text(tiny_model_dir, monkeypatch):
    from penname.model import likelihood

    asked = []
    real = likelihood.token_log_likelihoods

    def count(model, tokenizer, texts, **kwargs):
        asked.append([text for _, text in texts])
        return real(model, tokenizer, texts, **kwargs)

    monkeypatch.setattr(likelihood, "token_log_likelihoods", count)
    ask = BaseLikelihood(ModelConfig(name=str(tiny_model_dir), dtype="float32", device="cpu"))
    first = ask(["abc", "a longer text", "abc"])
    again = ask(["a longer text", "new one"])
    assert asked == [["abc", "a longer text"], ["new one"]]
    assert [len(found) for found in first] == [3, 13, 3]
    assert np.array_equal(first[1], again[0])
    assert all(np.all(found < 0) for found in first)
