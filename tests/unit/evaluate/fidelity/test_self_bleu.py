"""Self-BLEU against BLEU written out plainly."""

import math
from collections import Counter

import numpy as np
import pytest

from penname.evaluate.fidelity.self_bleu import self_bleus


def plain_bleu(text, others):
    logs = []
    for order in range(1, 5):
        grams = Counter(tuple(text[i : i + order]) for i in range(len(text) - order + 1))
        if not grams:
            break
        most = Counter()
        for other in others:
            most |= Counter(tuple(other[i : i + order]) for i in range(len(other) - order + 1))
        matches = sum(min(count, most[gram]) for gram, count in grams.items())
        logs.append(math.log((matches or 0.5) / grams.total()))
    nearest = min((abs(len(other) - len(text)), len(other)) for other in others)[1]
    brevity = math.exp(1 - nearest / len(text)) if nearest > len(text) else 1.0
    return brevity * math.exp(sum(logs) / len(logs))


def test_leaving_one_out_agrees_with_plain_bleu():
    rng = np.random.default_rng(1)
    texts = [[str(word) for word in rng.choice(list("abcdefg"), size=rng.integers(1, 25))] for _ in range(30)]
    expected = [plain_bleu(text, texts[:i] + texts[i + 1 :]) for i, text in enumerate(texts)]
    assert self_bleus(texts) == pytest.approx(expected)


def test_copies_score_one_strangers_little_and_empty_texts_nothing():
    assert self_bleus([list("abcdef")] * 3).tolist() == [1.0] * 3
    assert max(self_bleus([list("abcdef"), list("uvwxyz")])) < 0.2
    assert self_bleus([[], list("abc"), list("abc")]).tolist() == [0.0, 1.0, 1.0]
