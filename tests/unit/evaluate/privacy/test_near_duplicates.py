"""Near duplicates: edited copies are found, strangers are not, and the distance is exact."""

import random

import numpy as np
from rapidfuzz.distance import Indel

from penname.evaluate.privacy.near_duplicates import MIN_LIKENESS, nearest_duplicates


def draw_texts(seed, num):
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(2, 9))) for _ in range(400)]
    return [" ".join(rng.choices(words, k=40)) for _ in range(num)]


def edit(text, rng, share):
    letters = list(text)
    for place in rng.sample(range(len(letters)), int(share * len(letters))):
        letters[place] = "#"
    return "".join(letters)


def test_copies_with_a_few_letters_changed_are_found_and_strangers_are_not():
    corpus, rng = draw_texts(1, 300), random.Random(5)
    edited, strangers = [edit(text, rng, 0.04) for text in corpus[:60]], draw_texts(2, 60)
    found = nearest_duplicates([*edited, *strangers], corpus)
    assert np.mean(found[:60] >= MIN_LIKENESS) >= 0.98
    assert (found[60:] < MIN_LIKENESS).all()
    np.testing.assert_allclose(found[:60], [Indel.normalized_similarity(a, b) for a, b in zip(edited, corpus[:60], strict=True)])


def test_spacing_and_case_are_no_difference():
    assert nearest_duplicates(["GOOD  case,\nfits"], ["good case, fits", "bad"]).tolist() == [1.0]


def test_short_and_empty_sets():
    assert nearest_duplicates(["ok", "no"], ["ok"]).tolist() == [1.0, 0.0]
    assert nearest_duplicates([], ["a"]).tolist() == []
    assert nearest_duplicates(["a"], []).tolist() == [0.0]
    assert nearest_duplicates(["", "x"], [""]).tolist()[1] == 0.0
