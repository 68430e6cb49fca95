"""One secret key a run, and the uniform random numbers that sampling and noise are made of.

Every draw is a pure function of (key, purpose, index). A step that is computed again after a crash therefore draws the same units and
the same noise, so resuming releases nothing new; and no two steps or purposes share a number.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray

from penname.privacy.errors import PrivacyError

KEY_BYTES = 32
_CHUNK = 1 << 20


class Keystream:
    """ChaCha20 keystreams under one key."""

    def __init__(self, key: bytes, *, source: str) -> None:
        if len(key) != KEY_BYTES:
            raise PrivacyError(f"the key of sampling and noise has {len(key)} bytes, not {KEY_BYTES}: the key file is damaged")
        self._key = key
        self.source = source
        """`operating_system`, or `seed`: then the run is not RELEASABLE."""

    @classmethod
    def from_seed(cls, seed: int) -> Keystream:
        """A repeatable key, for tests: whoever knows the seed can subtract the noise."""
        return cls(hashlib.sha256(f"penname noise seed {seed}".encode()).digest(), source="seed")

    @classmethod
    def from_key_file(cls, path: Path) -> Keystream:
        """The key in `path`; drawn from the operating system and stored there (readable by the owner alone) when there is none.

        Raises:
          PrivacyError: the file holds something else.
        """
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f"{path.name}.tmp")
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                if os.write(handle, os.urandom(KEY_BYTES)) != KEY_BYTES:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
                os.fsync(handle)
            finally:
                os.close(handle)
            os.replace(temporary, path)
        return cls(path.read_bytes(), source="operating_system")

    @property
    def commitment(self) -> str:
        """SHA-256 over the key: says which key an event was drawn under without saying the key."""
        return hashlib.sha256(b"penname key commitment" + self._key).hexdigest()

    def commit(self, value: str) -> str:
        """A fingerprint of `value` that can be compared by whoever has the key and says nothing to others.

        Source: HMAC-SHA256, RFC 2104.
        """
        return hmac.digest(self._key, b"penname commitment\0" + value.encode(), hashlib.sha256).hex()

    def draw_uniforms(self, purpose: str, index: int, count: int) -> NDArray[np.float64]:
        """`count` numbers, uniform on the multiples of 2^-53 in [0, 1).

        Args:
          purpose: What they are for; distinct purposes are independent.
          index: Step or release number; distinct indices are independent.
          count: How many, >= 0.
        Source: ChaCha20, RFC 8439, under a subkey HMAC-SHA256(key, purpose, index).
        """
        return np.concatenate([np.empty(0), *self.iterate_uniforms(purpose, index, count)])

    def iterate_uniforms(self, purpose: str, index: int, count: int) -> Iterator[NDArray[np.float64]]:
        """The numbers of `draw_uniforms`, in their order, a million at a time: memory does not grow with `count`."""
        subkey = hmac.digest(self._key, f"{purpose}/{index}".encode(), hashlib.sha256)
        cipher = Cipher(algorithms.ChaCha20(subkey, bytes(16)), mode=None).encryptor()
        for start in range(0, count, _CHUNK):
            words = np.frombuffer(cipher.update(bytes(8 * min(_CHUNK, count - start))), dtype="<u8")
            yield (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
