"""Echoes in synthetic text, where it is known who was heard."""

import numpy as np
import pytest

from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.privacy.roc import attack_auroc
from penname.evaluate.privacy.text_membership import BigramModel, ngram_echo_scores, similarity_echo_scores


def draw_texts(seed, num, num_words=30):
    rng = np.random.default_rng(seed)
    vocabulary = np.array([f"w{i}" for i in range(150)])
    return [" ".join(vocabulary[np.minimum(rng.zipf(1.3, num_words), 150) - 1]) for _ in range(num)]


def test_bigrams_by_hand():
    model = BigramModel(["a b a b", "a c"])  # 3 words and the unknown one: 4 types
    first_a, a_to_b, b_to_a = np.log((2 + 1) / (2 + 4)), np.log((2 + 1) / (3 + 4)), np.log((1 + 1) / (1 + 4))  # the last b has no follower
    np.testing.assert_allclose(model.score(["A b a"]), [(first_a + a_to_b + b_to_a) / 3])
    np.testing.assert_allclose(model.score(["x"]), [np.log(1 / (2 + 4))])
    np.testing.assert_allclose(model.score(["", "x", "a"]), [np.log(1 / 6), np.log(1 / 6), first_a])


def test_probabilities_sum_to_one():
    model = BigramModel(["a b a b", "a c"])
    for before in ("a", "b", "c", "unheard"):
        after_before = [2 * model.score([f"{before} {word}"])[0] - model.score([before])[0] for word in ("a", "b", "c", "unknown")]
        assert np.exp(after_before).sum() == pytest.approx(1.0)


def test_the_echo_of_members_is_heard_and_without_one_it_is_chance():
    members, others, control = draw_texts(1, 120), draw_texts(2, 120), draw_texts(3, 400)
    echoing = [" ".join(text.split()[5:25]) for text in members] + draw_texts(4, 300)
    candidates = members + others
    heard, silent = (ngram_echo_scores(candidates, synthetic, control) for synthetic in (echoing, draw_texts(5, 420)))
    assert attack_auroc(heard[:120], heard[120:]).ci95[0] > 0.65
    low, high = attack_auroc(silent[:120], silent[120:]).ci95
    assert low < 0.5 < high


def test_similarity_by_hand_and_with_control():
    candidates, synthetic = np.eye(3), np.array([[1.0, 0, 0], [0.6, 0.8, 0]])
    np.testing.assert_allclose(similarity_echo_scores(candidates, synthetic, num_neighbours=1), [1.0, 0.8, 0.0])
    np.testing.assert_allclose(similarity_echo_scores(candidates, synthetic), [0.8, 0.4, 0.0])
    np.testing.assert_allclose(similarity_echo_scores(candidates, synthetic, np.eye(3), num_neighbours=1), [0.0, -0.2, -1.0])


def test_texts_without_words_or_none_at_all():
    with pytest.raises(LeftOutError, match="it has no words"):
        ngram_echo_scores(["a"], ["!!!", ""], ["a b"])
    with pytest.raises(LeftOutError, match="no text to compare with"):
        similarity_echo_scores(np.eye(2), np.zeros((0, 2)))
