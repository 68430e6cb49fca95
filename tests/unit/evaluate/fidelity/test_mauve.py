"""MAUVE against values recorded from mauve-text 0.4.0 (GPL, so it is not a dependency), and on clusters that k-means cannot miss."""

import numpy as np
import pytest

from penname.evaluate.fidelity.mauve import assign_bins, mauve_score

RECORDED = [
    ([4, 3, 2, 1], [1, 2, 3, 4], 0.6538536633533254),
    ([5, 0, 1], [1, 1, 4], 0.20678792779115734),
    ([1, 0], [0, 1], 0.0040720962619612555),
    ([10, 5, 5, 1, 0, 0], [8, 6, 4, 0, 2, 1], 0.7756083132654417),
    ([1] * 8, [8] + [1] * 7, 0.6807507975757567),
]


@pytest.mark.parametrize(("first", "second", "expected"), RECORDED)
def test_agrees_with_the_reference_implementation(first, second, expected):
    assert mauve_score(np.array(first), np.array(second)) == pytest.approx(expected, abs=1e-9)


def test_equal_histograms_score_one():
    assert mauve_score(np.array([2, 2, 7]), np.array([4, 4, 14])) == pytest.approx(1.0)


def test_well_separated_clusters_become_bins_and_score_as_their_histograms():
    rng = np.random.default_rng(0)
    centres = 20 * np.eye(4)
    counts = (np.array([4, 3, 2, 1]) * 10, np.array([1, 2, 3, 4]) * 10)
    first, second = (np.concatenate([centre + 0.1 * rng.normal(size=(num, 4)) for centre, num in zip(centres, own, strict=True)]) for own in counts)
    own, real = assign_bins(first, second, num_bins=4, seed=1)
    assert sorted(np.bincount(own, minlength=4)) == sorted(counts[0])
    assert mauve_score(np.bincount(own, minlength=4), np.bincount(real, minlength=4)) == pytest.approx(RECORDED[0][2], abs=1e-9)


def test_fewer_different_texts_than_bins():
    own, real = assign_bins(np.ones((30, 3)), np.ones((30, 3)), num_bins=3, seed=1)
    assert mauve_score(np.bincount(own, minlength=3), np.bincount(real, minlength=3)) == pytest.approx(1.0)
