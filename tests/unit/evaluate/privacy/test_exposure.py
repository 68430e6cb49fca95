"""Exposure where the rank is known."""

import numpy as np
import pytest

from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.privacy.exposure import UNEXPOSED_BITS, exposure_by_rank, exposure_by_sampling, summarise_exposure


def test_rank_by_hand():
    references = np.arange(15.0)  # with the canary, 16 candidates
    assert exposure_by_rank(np.array([99.0, 14.5, 13.5, -1.0]), references).round(6).tolist() == [4.0, 4.0, 3.0, 0.0]
    assert exposure_by_rank(np.array([14.0]), references)[0] == pytest.approx(4 - np.log2(1.5))


def test_canaries_that_nobody_saw_have_the_bits_of_chance():
    rng = np.random.default_rng(0)
    assert exposure_by_rank(rng.normal(size=20_000), rng.normal(size=5000)).mean() == pytest.approx(UNEXPOSED_BITS, abs=0.06)
    assert exposure_by_sampling(rng.normal(size=20_000), rng.normal(size=2000)).mean() == pytest.approx(UNEXPOSED_BITS, abs=0.06)


def test_sampling_sees_beyond_the_rank():
    references = np.random.default_rng(1).normal(size=1000)
    exposed = np.array([6.0])  # 6 standard deviations: 2^-29.9 of all candidates
    assert exposure_by_rank(exposed, references)[0] == pytest.approx(np.log2(1001))
    assert exposure_by_sampling(exposed, references)[0] == pytest.approx(29.9, abs=4)


def test_sampling_agrees_with_the_rank_where_both_see():
    rng = np.random.default_rng(2)
    references, canaries = rng.normal(size=4000), np.linspace(-1, 2.5, 9)
    np.testing.assert_allclose(exposure_by_sampling(canaries, references), exposure_by_rank(canaries, references), atol=0.35)


def test_what_cannot_be_had_is_said():
    with pytest.raises(LeftOutError, match="0 scores to compare with; 1 or more"):
        exposure_by_rank(np.ones(3), np.array([]))
    with pytest.raises(LeftOutError, match="99 scores to compare with; 100"):
        exposure_by_sampling(np.ones(3), np.arange(99.0))
    with pytest.raises(LeftOutError, match="score alike"):
        exposure_by_sampling(np.ones(3), np.ones(100))
    with pytest.raises(LeftOutError, match="not skew normal"):
        exposure_by_sampling(np.ones(3), np.where(np.arange(400) % 2, 5.0, -5.0) + np.linspace(0, 0.1, 400))
    with pytest.raises(LeftOutError, match="not finite"):
        exposure_by_rank(np.array([np.inf]), np.ones(3))


def test_the_interval_holds_the_mean_and_stays_under_the_ceiling():
    found = summarise_exposure(np.array([9.0, 10.0, 10.0, 8.5]), ceiling_bits=10.0, num_references=1023, num_bootstrap=200, rng=np.random.default_rng(3))
    assert found.mean_bits == pytest.approx(9.375)
    assert 8.5 <= found.ci95[0] < found.mean_bits < found.ci95[1] <= 10.0
    with pytest.raises(LeftOutError, match="1 planted canaries"):
        summarise_exposure(np.ones(1), ceiling_bits=1.0, num_references=1, num_bootstrap=20, rng=np.random.default_rng(3))
