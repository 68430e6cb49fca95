import numpy as np
import pytest

from penname.privacy.errors import PrivacyError
from penname.privacy.keystream import Keystream
from penname.privacy.noise import draw_gaussian

KEY = Keystream.from_seed(21)


@pytest.mark.parametrize("stddev", [0, -1, float("nan"), float("inf")])
def test_a_stddev_that_is_none_is_refused(stddev):
    with pytest.raises(PrivacyError, match="standard deviation"):
        draw_gaussian(KEY, purpose="p", index=0, size=3, stddev=stddev)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 10, 11])
def test_any_size(size):
    assert draw_gaussian(KEY, purpose="p", index=0, size=size, stddev=1.0).shape == (size,)


def test_the_scale_is_linear_and_the_draw_repeatable():
    one = draw_gaussian(KEY, purpose="p", index=0, size=50, stddev=1.0)
    np.testing.assert_allclose(draw_gaussian(KEY, purpose="p", index=0, size=50, stddev=3.5), 3.5 * one, rtol=1e-15)


def test_the_extremes_of_the_keystream_give_finite_noise(monkeypatch):
    for extreme in (0.0, 1 - 2.0**-53):
        monkeypatch.setattr(Keystream, "draw_uniforms", lambda self, purpose, index, count, value=extreme: np.full(count, value))
        assert np.all(np.isfinite(draw_gaussian(KEY, purpose="p", index=0, size=4, stddev=1.0)))
