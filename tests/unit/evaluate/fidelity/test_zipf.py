"""Zipf slope: laws of known exponent, and what does not move it."""

import numpy as np
import pytest

from penname.evaluate.fidelity.zipf import MAX_RANK, zipf_slope


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5])
def test_a_power_law_has_its_exponent(exponent):
    ranks = np.arange(1, 800) - 0.5
    assert zipf_slope(1e6 * ranks**-exponent) == pytest.approx(-exponent, rel=1e-6)


def test_order_zeros_and_the_long_tail_do_not_count():
    counts = 1e6 * (np.arange(1, MAX_RANK + 1) - 0.5) ** -1.1
    shuffled = np.random.default_rng(0).permutation(np.concatenate([counts, np.zeros(50), np.full(500, 1e-3)]))
    assert zipf_slope(shuffled) == pytest.approx(-1.1, rel=1e-6)
    assert zipf_slope(np.full(20, 3.0)) == pytest.approx(0.0, abs=1e-9)
