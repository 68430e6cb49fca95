import numpy as np
import pytest

from penname.privacy.accounting import compute_epsilon_in_two_parts
from penname.privacy.errors import PrivacyError
from penname.privacy.keystream import Keystream
from penname.privacy.marginals import plan_marginals, release_histogram, release_unit_count
from penname.privacy.mechanism import GaussianRelease
from tests.conftest import charged

KEY = Keystream.from_seed(41)


def test_both_marginals_keep_their_share_together():
    count, histogram = plan_marginals(target_epsilon=0.8, delta=1e-5, max_records_per_unit=4, keystream=KEY)
    spent = compute_epsilon_in_two_parts([count.event], [histogram.event], delta=1e-5)
    assert 0.78 < spent <= 0.8
    assert (count.l2_sensitivity, histogram.l2_sensitivity) == (1.0, 4.0)
    assert count.name != histogram.name


def test_the_count_is_near_and_never_below_one():
    release = charged(GaussianRelease("count_units", 3.0, 1.0, KEY))
    noisy = release_unit_count(release, num_units=1000)
    assert isinstance(noisy, int)
    assert 0 < abs(noisy - 1000) < 30
    counts = {release_unit_count(charged(GaussianRelease("count_units", 3.0, 1.0, Keystream.from_seed(seed))), num_units=0) for seed in range(20)}
    assert min(counts) == 1
    assert max(counts) > 1


def test_every_cell_gets_noise_seen_or_not():
    release = charged(GaussianRelease("histogram", 1.0, 1.0, KEY))
    shares = np.stack(
        [release_histogram(charged(GaussianRelease("histogram", 1.0, 1.0, Keystream.from_seed(s))), cells=[0] * 50, num_cells=4) for s in range(40)]
    )
    np.testing.assert_allclose(shares.sum(1), 1.0)
    assert shares.min() >= 0
    assert all((shares[:, cell] > 0).any() for cell in range(4)), "an empty cell is sometimes given a share"
    assert all(len(set(shares[:, cell])) > 10 for cell in range(4))
    assert release_histogram(release, cells=[0] * 500_000 + [2] * 500_000, num_cells=3) == pytest.approx([0.5, 0, 0.5], abs=1e-4)


def test_noise_that_drowns_everything_gives_equal_shares(monkeypatch):
    monkeypatch.setattr(GaussianRelease, "release", lambda self, value: value - 1e9)
    assert release_histogram(charged(GaussianRelease("h", 1.0, 1.0, KEY)), cells=[1, 1], num_cells=4).tolist() == [0.25] * 4


def test_no_records_are_still_a_histogram():
    assert release_histogram(charged(GaussianRelease("h", 1.0, 1.0, KEY)), cells=[], num_cells=3).sum() == pytest.approx(1.0)


@pytest.mark.parametrize("cell", [-1, 3])
def test_a_record_outside_the_domain_is_refused(cell):
    with pytest.raises(PrivacyError, match="outside the public domain"):
        release_histogram(charged(GaussianRelease("h", 1.0, 1.0, KEY)), cells=[0, cell], num_cells=3)
