"""Embeddings are computed once a text, kept in files without pickles, and a bad file is no reason to fail."""

import numpy as np

from penname.config import EvaluateConfig
from penname.evaluate.embedding_cache import CachedEmbed
from penname.evaluate.embedding_map import MAX_POINTS, place_texts
from penname.evaluate.evaluate import build_samples
from penname.evaluate.samples import Row


class CountingEmbed:
    def __init__(self):
        self.asked = []

    def __call__(self, texts):
        self.asked.append(list(texts))
        return np.array([[len(text), text.count("a"), 1.0] for text in texts], dtype=np.float32).reshape(-1, 3)


def test_each_text_once_and_again_from_the_files(tmp_path):
    first = CountingEmbed()
    embed = CachedEmbed(first, tmp_path / "kept", model="m")
    vectors = embed(["a", "bb", "a", "\ud800"])
    assert first.asked == [["a", "bb", "\ud800"]]
    assert vectors.tolist() == [[1, 1, 1], [2, 0, 1], [1, 1, 1], [1, 0, 1]]
    second = CountingEmbed()
    again = CachedEmbed(second, tmp_path / "kept", model="m")
    assert np.array_equal(again(["bb", "new", "a"]), [[2, 0, 1], [3, 0, 1], [1, 1, 1]])
    assert second.asked == [["new"]]
    assert CachedEmbed(second, tmp_path / "kept", model="m")(["new", "bb"]).tolist() == [[3, 0, 1], [2, 0, 1]]
    assert len(second.asked) == 1


def test_another_model_and_damaged_files_are_not_read(tmp_path):
    CachedEmbed(CountingEmbed(), tmp_path, model="m")(["a"])
    other = CountingEmbed()
    CachedEmbed(other, tmp_path, model="n")(["a"])
    assert other.asked == [["a"]]
    (path,) = tmp_path.glob(f"{CachedEmbed(other, tmp_path, model='m')._prefix}-*.npz")
    for content in (b"", b"PK\x03\x04 cut", path.read_bytes()[:-30]):
        path.write_bytes(content)
        new = CountingEmbed()
        assert CachedEmbed(new, tmp_path, model="m")(["a"]).tolist() == [[1, 1, 1]]
        assert new.asked == [["a"]]


def test_no_texts(tmp_path):
    assert CachedEmbed(CountingEmbed(), tmp_path, model="m")([]).shape == (0, 3)


def make_map(num, seed=1):
    def embed(texts):
        rng = np.random.default_rng(len(texts))
        vectors = rng.normal(size=(len(texts), 6)) + (5 if "far" in texts[0] else 0)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    rows = {kind: [Row(5.0, "", f"{kind} {i}", "") for i in range(num)] for kind in ("near", "far")}
    config = EvaluateConfig(seed=seed, num_bootstrap=20)
    return place_texts(build_samples(train=rows["near"], heldout=rows["near"], test=rows["near"], synthetic={"a": rows["far"]}, config=config, embed=embed))


def test_the_map_keeps_apart_what_is_apart_and_is_the_same_again():
    places = make_map(40)
    assert {arm: np.array(points).shape for arm, points in places.items()} == {"real": (40, 2), "a": (40, 2)}
    everything = np.concatenate(list(places.values()))
    assert (everything.min(), everything.max()) == (0.0, 1.0)
    # A line between the two middles parts the sets.
    middles = [np.mean(points, axis=0) for points in places.values()]
    along = (everything - np.mean(middles, axis=0)) @ (middles[1] - middles[0])
    assert np.mean((along > 0) == (np.arange(80) >= 40)) > 0.95
    assert make_map(40) == places
    assert make_map(9) == {}
    assert MAX_POINTS < 200
