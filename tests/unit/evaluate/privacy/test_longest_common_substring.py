"""Longest common substrings against the plain quadratic search."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from penname.evaluate.privacy.longest_common_substring import LONGEST_COMMON_SUBSTRING, longest_common_substrings, search_corpora
from penname.evaluate.samples import Row, RowSet, Samples


def plain(candidate, corpus):
    candidate, corpus = " ".join(candidate.casefold().split()), [" ".join(text.casefold().split()) for text in corpus]
    best = 0
    for i in range(len(candidate)):
        while i + best < len(candidate) and any(candidate[i : i + best + 1] in text for text in corpus):
            best += 1
    return best


TEXTS = st.lists(st.text(alphabet="abA ß\n😀", max_size=14), max_size=5)


@settings(max_examples=60, deadline=None)
@given(TEXTS, TEXTS)
def test_against_the_plain_search(candidates, corpus):
    assert longest_common_substrings(candidates, corpus).tolist() == [plain(text, corpus) for text in candidates]


@settings(max_examples=40, deadline=None)
@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3))
def test_several_corpora_at_once_are_each_as_alone(candidates, corpora):
    found = search_corpora(candidates, corpora)
    assert found.tolist() == [[plain(text, corpus) for text in candidates] for corpus in corpora]


def test_long_texts():
    rng = random.Random(0)
    corpus = ["".join(rng.choices("abcdefgh ", k=3000)) for _ in range(3)]
    candidates = [corpus[1][500:1731], "x" * 50 + corpus[2][-333:].strip(), corpus[0][-40:] + corpus[1][:40]]
    assert longest_common_substrings(candidates, corpus).tolist() == [plain(text, corpus) for text in candidates]


def test_a_stretch_does_not_cross_from_one_text_into_the_next():
    assert longest_common_substrings(["abcd"], ["ab", "cd"]).tolist() == [2]
    assert longest_common_substrings(["ab", "cd"], ["abcd"]).tolist() == [2, 2]


def test_candidates_do_not_count_for_each_other():
    assert longest_common_substrings(["hello world", "hello world"], ["low"]).tolist() == [2, 2]


def test_the_metric_tells_a_copyist_from_a_writer():
    train, heldout = [[f"{word} in the sentence number {i} of nobody" for i in range(20)] for word in ("alpha", "omega")]
    sets = {name: RowSet(name, [Row(5, "", text, "C") for text in texts], None) for name, texts in (("train", train), ("heldout", heldout))}
    arms = {name: RowSet(name, [Row(5, "", text, "C") for text in texts], None) for name, texts in (("copy", train), ("write", ["brief"] * 20))}
    samples = Samples(**sets, test=sets["heldout"], synthetic=arms, seed=1, num_bootstrap=20, max_records=50)
    _, copying, writing = LONGEST_COMMON_SUBSTRING.compute(samples)
    assert copying.value == sum(map(len, train)) / 20
    assert copying.reference < copying.value
    assert writing.value < 5
