"""Coverage and overlap of words and word pairs on sets that can be counted by hand."""

import numpy as np
import pytest

from penname.evaluate.fidelity.vocabulary import coverage_frac, overlap_score
from penname.evaluate.word_counts import count_ngrams


def test_words_and_pairs_are_counted_by_text():
    first, second = count_ngrams([[["a", "b", "a"], []], [["b", "c"]]], 1)
    assert first.toarray().tolist() == [[2, 1, 0], [0, 0, 0]]
    assert second.toarray().tolist() == [[0, 1, 1]]
    (pairs,) = count_ngrams([[["a", "b", "a", "b"], ["a"]]], 2)
    assert pairs.toarray().tolist() == [[2, 1], [0, 0]]
    assert count_ngrams([[[]]], 2)[0].shape == (1, 1)


@pytest.mark.parametrize(
    ("own", "real", "coverage", "overlap"),
    [("abc", "abc", 1.0, 1.0), ("abc", "def", 0.0, 0.0), ("abcd", "ab", 1.0, 0.5), ("a", "abcd", 0.25, 0.25), ("", "ab", 0.0, 0.0)],
)
def test_known_sets(own, real, coverage, overlap):
    used, there = (np.array([letter in letters for letter in "abcdef"]) for letters in (own, real))
    assert coverage_frac(used, there) == coverage
    assert overlap_score(used, there) == overlap
