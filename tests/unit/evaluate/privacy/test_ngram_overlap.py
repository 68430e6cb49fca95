"""Verbatim runs of eight words, constructed by hand."""

import pytest

from penname.evaluate.privacy.ngram_overlap import NGRAM_OVERLAP_EXCESS, NGRAM_OVERLAP_FRAC, NGRAM_OVERLAP_FRAC_ALL_TRAIN, find_overlaps, list_ngrams
from penname.evaluate.samples import Row, RowSet, Samples

SECRET = "my old phone fell into the lake last summer"
HELD = "this held out line is known to nobody else here"


def _row(text, title="", product_title=""):
    return Row(rating=5, title=title, text=text, category="Cases", product_title=product_title)


def test_ngrams_need_eight_words():
    assert list(list_ngrams("a b c d e f g")) == []
    assert list(list_ngrams("a b c d e f g h i")) == ["a b c d e f g h", "b c d e f g h i"]


def _flags(candidate, train=(), heldout=()):
    overlap = find_overlaps({"a": [candidate]}, {"train": list(train), "heldout": list(heldout)})["a"]
    return bool(overlap["train"][0]), bool(overlap["heldout"][0])


def test_case_and_punctuation_do_not_hide_a_copy_and_seven_words_are_none():
    train = [_row(SECRET)]
    assert _flags(_row("So: MY old phone, fell into the lake - last!"), train) == (True, False)
    assert _flags(_row("old phone fell into the lake last winter"), train) == (False, False)
    assert _flags(_row("old phone fell into the lake last summer"), train) == (True, False)
    assert _flags(_row("short", title=SECRET), train) == (True, False)
    assert _flags(_row("phone fell into the lake last summer", title="my old"), train) == (False, False)
    assert _flags(_row(HELD), train, [_row(HELD)]) == (False, True)


def test_words_of_a_public_product_title_do_not_count():
    name = "Acme clear hard case for Phone 9 with ring black"
    train = [_row(f"The {name} is bad", product_title=name)]
    assert _flags(_row(f"I like {name} a lot", product_title=name), train) == (False, False)
    assert _flags(_row(f"I like {name} a lot"), [_row(f"The {name} is bad")]) == (True, False)


def _samples(synthetic, train, heldout, test):
    sets = {"train": train, "heldout": heldout, "test": test}
    sets = {name: RowSet(name, rows, None) for name, rows in sets.items()}
    arms = {arm: RowSet(arm, rows, None) for arm, rows in synthetic.items()}
    return Samples(**sets, synthetic=arms, seed=1, num_bootstrap=20, max_records=100)


def test_fractions_and_excess_by_hand():
    other = [_row(f"nothing to see in line {i} of this plain little file") for i in range(10)]
    leaky = [_row(SECRET)] * 3 + [_row(HELD)] + [_row("clean")] * 6
    samples = _samples({"leaky": leaky, "clean": [_row("clean")] * 10}, [_row(SECRET)] * 10, [_row(HELD)] * 10, other)
    real, leaking, clean = NGRAM_OVERLAP_FRAC.compute(samples)
    assert (real.value, leaking.value, clean.value) == (0.0, 0.3, 0.0)
    assert (leaking.reference, clean.reference) == (0.1, 0.0)
    assert clean.ci95[1] > 0
    real, leaking, clean = NGRAM_OVERLAP_EXCESS.compute(samples)
    assert leaking.value == pytest.approx(0.2)
    assert (real.value, clean.value, leaking.reference) == (0.0, 0.0, 0.0)
    assert leaking.ci95[0] < 0.2 < leaking.ci95[1]


def test_train_and_heldout_are_searched_in_equal_numbers():
    # Every row of train and of heldout holds the same line; ten times more train must not mean ten times more overlap.
    lines = [f"line number {i} has these eight words in it" for i in range(1000)]
    synthetic = [_row(lines[i]) for i in range(1000)]
    samples = Samples(
        train=RowSet("train", [_row(line) for line in lines], None),
        heldout=RowSet("heldout", [_row(line) for line in lines[:100]], None),
        test=RowSet("test", [_row("x")] * 20, None),
        synthetic={"a": RowSet("a", synthetic, None)},
        seed=1,
        num_bootstrap=20,
        max_records=1000,
    )
    _, arm = NGRAM_OVERLAP_FRAC.compute(samples)
    assert (arm.value, arm.reference) == (0.1, 0.1)
    real, arm = NGRAM_OVERLAP_FRAC_ALL_TRAIN.compute(samples)
    assert (real.value, arm.value, arm.reference) == (0.0, 1.0, 0.0)
