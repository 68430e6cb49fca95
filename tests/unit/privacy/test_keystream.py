import stat

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from penname.privacy.errors import PrivacyError
from penname.privacy.keystream import KEY_BYTES, Keystream


def test_a_draw_is_a_function_of_key_purpose_and_index():
    stream = Keystream.from_seed(1)
    base = stream.draw_uniforms("a", 0, 100)
    np.testing.assert_array_equal(base, Keystream.from_seed(1).draw_uniforms("a", 0, 100))
    for other in (stream.draw_uniforms("a", 1, 100), stream.draw_uniforms("b", 0, 100), Keystream.from_seed(2).draw_uniforms("a", 0, 100)):
        assert not np.any(base == other)


def test_a_longer_draw_begins_with_the_shorter():
    stream = Keystream.from_seed(1)
    np.testing.assert_array_equal(stream.draw_uniforms("a", 3, 1000)[:17], stream.draw_uniforms("a", 3, 17))


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9])
def test_any_count(count):
    assert Keystream.from_seed(1).draw_uniforms("a", 0, count).shape == (count,)


def test_uniforms_are_multiples_of_two_to_the_minus_53_below_one():
    draws = Keystream.from_seed(4).draw_uniforms("a", 0, 100_000)
    assert draws.min() >= 0
    assert draws.max() < 1
    scaled = draws * 2.0**53
    np.testing.assert_array_equal(scaled, np.floor(scaled))
    # The last bit is used: half of the multiples are odd.
    assert abs((scaled.astype(np.uint64) & np.uint64(1)).mean() - 0.5) < 0.01
    assert abs(draws.mean() - 0.5) < 5 / (12 * 100_000) ** 0.5


def test_the_cipher_is_chacha20():
    # RFC 8439, appendix A.1, test vector 1: key, counter and nonce all zero.
    block = Cipher(algorithms.ChaCha20(bytes(32), bytes(16)), mode=None).encryptor().update(bytes(16))
    assert block.hex() == "76b8e0ada0f13d90405d6ae55386bd28"


def test_the_key_file_is_made_once_and_is_the_owners(tmp_path):
    path = tmp_path / "2_train" / "noise.key"
    first = Keystream.from_key_file(path)
    assert first.source == "operating_system"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_bytes()) == KEY_BYTES
    assert Keystream.from_key_file(path).commitment == first.commitment
    assert Keystream.from_key_file(tmp_path / "other.key").commitment != first.commitment
    assert sorted(p.name for p in path.parent.iterdir()) == ["noise.key"]


def test_a_damaged_key_file_is_refused(tmp_path):
    path = tmp_path / "noise.key"
    path.write_bytes(b"short")
    with pytest.raises(PrivacyError, match="5 bytes, not 32"):
        Keystream.from_key_file(path)


def test_commitments_say_nothing_without_the_key():
    stream = Keystream.from_seed(1)
    assert stream.source == "seed"
    assert stream.commit("x") == stream.commit("x")
    assert len({stream.commit("x"), stream.commit("y"), Keystream.from_seed(2).commit("x"), stream.commitment}) == 4
