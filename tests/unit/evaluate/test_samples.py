"""What metrics get: equal sizes, seeds, and embeddings computed once."""

import numpy as np

from penname.evaluate.samples import Row, RowSet, Samples, sample_at_most, seeded_generator


def _rows(num, word="w"):
    return [Row(rating=5, title="t", text=f"{word} {i}", category="c") for i in range(num)]


class _CountingEmbed:
    def __init__(self):
        self.calls = []

    def __call__(self, texts):
        self.calls.append(len(texts))
        return np.ones((len(texts), 2)) / np.sqrt(2)


def _samples(embed, **kwargs):
    sets = {name: RowSet(name, _rows(num, name), embed) for name, num in (("train", 50), ("heldout", 12), ("test", 30))}
    synthetic = {"a": RowSet("synthetic/a", _rows(25, "a"), embed)}
    return Samples(**sets, synthetic=synthetic, **{"seed": 1, "num_bootstrap": 20, "max_records": 1000, **kwargs})


def test_compared_sets_are_as_small_as_the_smallest_or_the_limit():
    assert _samples(None).num_compared == 12
    assert _samples(None, max_records=7).num_compared == 7


def test_the_same_rows_are_taken_whoever_asks_and_embedded_once():
    embed = _CountingEmbed()
    samples = _samples(embed)
    first, second = samples.take(samples.test, 12), samples.take(samples.test, 12)
    assert first is second
    assert len({row.text for row in first.rows}) == 12
    for _ in range(3):
        assert samples.take(samples.test, 12).embeddings.shape == (12, 2)
    assert embed.calls == [12]
    assert samples.take(samples.test, 30) is samples.test


def test_another_seed_takes_other_rows_and_the_same_seed_the_same():
    def texts(seed):
        samples = _samples(None, seed=seed)
        return samples.take(samples.train, 20).texts

    assert texts(1) == texts(1)
    assert texts(1) != texts(2)


def test_generators_depend_on_seed_and_stream():
    draws = {(seed, stream): seeded_generator(seed, stream).integers(2**40) for seed in (1, 2) for stream in ("x", "y")}
    assert len(set(draws.values())) == 4
    assert seeded_generator(1, "x").integers(2**40) == draws[1, "x"]


def test_sampling_in_one_pass_is_uniform_and_bounded():
    assert sample_at_most(_rows(5), 10, seeded_generator(1, "s")) == _rows(5)
    rows, counts = _rows(10), np.zeros(10)
    for seed in range(2000):
        kept = sample_at_most(iter(rows), 3, seeded_generator(seed, "s"))
        assert len(kept) == len({row.text for row in kept}) == 3
        for row in kept:
            counts[int(row.text.split()[1])] += 1
    assert np.all(np.abs(counts / 2000 - 0.3) < 0.045)
