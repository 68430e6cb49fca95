"""Phrases in texts, against the plain search."""

import random

import pytest
from rapidfuzz.fuzz import partial_ratio

from penname.evaluate.privacy.phrase_search import best_likenesses, find_phrases, score_phrases

WORDS = ["case", "Ann", "Lee", "555", "red", "o'clock", "555-12", "Lee's", "a.b@x.org", "(no)"]


def random_texts(seed, num, length):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, length))) for _ in range(num)]


def test_exact_search_agrees_with_in_on_padded_texts():
    phrases, texts = random_texts(1, 40, 3), random_texts(2, 200, 12)
    expected = [[i for i, text in enumerate(texts) if f" {phrase} " in f" {text} "] for phrase in phrases]
    found = find_phrases(phrases, texts)
    for own, least in zip(found, expected, strict=True):
        assert set(own) >= set(least)
        assert own == sorted(set(own))
    assert any(expected)


def test_a_phrase_ends_where_a_word_does():
    assert find_phrases(["Ann", "555-1", "+1 (555)"], ["Annabel 555-12", "for Ann, 555-1!", "+1 (555) 3"]) == [[1], [1], [2]]
    assert find_phrases(["...", ""], ["... and"]) == [[], []]
    assert find_phrases(["ann lee"], ["Ann Lee"]) == [[]]


@pytest.mark.parametrize("floor", [75.0, 90.0])
def test_the_filter_of_the_fuzzy_search_loses_nothing(floor):
    rng = random.Random(3)
    letters = "abcde 012"
    phrases = ["".join(rng.choices(letters, k=rng.randint(8, 30))) for _ in range(30)]
    texts = []
    for _ in range(150):
        noisy = list(rng.choice(phrases))
        for _ in range(rng.randint(0, 4)):
            noisy[rng.randrange(len(noisy))] = rng.choice(letters)
        texts.append("".join([*rng.choices(letters, k=20), *noisy, *rng.choices(letters, k=20)]))
    found = score_phrases(phrases, texts, floor=floor)
    for phrase, own in zip(phrases, found, strict=True):
        expected = {i: score for i, text in enumerate(texts) if (score := partial_ratio(phrase, text)) >= floor}
        shared = {i for i in expected if any(phrase[k : k + 3] in texts[i] for k in range(len(phrase) - 2))}
        assert {i: expected[i] for i in shared} == pytest.approx(own)
    assert sum(map(len, found)) > 60
    assert best_likenesses(phrases, texts, floor=floor).tolist() == [max(own.values(), default=0.0) for own in found]


@pytest.mark.parametrize("floor", [0.0, 60.0, 85.0])
def test_the_best_of_many_texts_is_the_best_of_all_scores(floor):
    phrases, texts = random_texts(4, 60, 4), random_texts(5, 700, 9)
    expected = [max(own.values(), default=0.0) for own in score_phrases(phrases, texts, floor=floor)]
    assert best_likenesses(phrases, texts, floor=floor).tolist() == expected
    assert 100.0 in expected
    assert len(set(expected)) > 3
    assert best_likenesses(["Alex Johnson"], [], floor=floor).tolist() == [0.0]


@pytest.mark.parametrize("floor", [70.0, 78.0, 90.0])
def test_the_filter_of_long_phrases_loses_nothing(floor):
    rng = random.Random(7)
    letters = "abcdefgh 01234567"
    phrases = ["".join(rng.choices(letters, k=rng.randint(65, 160))) for _ in range(12)]
    texts = []
    for number in range(240):
        noisy = list(rng.choice(phrases))
        for _ in range(rng.randint(0, len(noisy) // 3)):
            place = rng.randrange(len(noisy))
            noisy[place : place + rng.randint(0, 1)] = rng.choices(letters, k=rng.randint(0, 1))
        # In the middle, and cut off at either end of the text.
        begin, end = [(0, None), (rng.randint(0, 50), None), (0, -rng.randint(1, 50))][number % 3]
        around = [rng.choices(letters, k=160) for _ in range(2)]
        texts.append("".join([*(around[0] * (number % 3 != 1)), *noisy[begin:end], *(around[1] * (number % 3 != 2))]))
    expected = [
        {i: score for i, text in enumerate(texts) if len(text) >= len(phrase) and (score := partial_ratio(phrase, text)) >= floor} for phrase in phrases
    ]
    assert score_phrases(phrases, texts, floor=floor) == [pytest.approx(own) for own in expected]
    for kind in range(3):
        assert sum(i % 3 == kind for own in expected for i in own) > 5
    assert sum(map(len, expected)) < 400


def test_case_is_ignored_and_a_shorter_text_is_not_the_phrase():
    assert score_phrases(["Alex Johnson"], ["ALEX JOHNSON!", "Alex", "xx alex jonson yy"], floor=80.0)[0].keys() == {0, 2}
    assert score_phrases(["ab"], ["ab"], floor=80.0) == [{}]
    assert score_phrases(["Alex Johnson"], [], floor=80.0) == [{}]
