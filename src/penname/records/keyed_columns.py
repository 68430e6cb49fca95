"""The keyed draws of privacy/unit.py for many identities at once, with what depends on the key alone done once.

Every function here gives what its namesake gives; a test compares the two.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from hashlib import sha256

_BLOCK_BYTES = 64


def keyed_fractions(seed: int, purpose: str, identities: Sequence[str]) -> list[float]:
    """`keyed_fraction` of every identity.

    Guarantee: as there, each fraction depends on the seed, the purpose and its own identity alone.

    Args:
      seed, purpose: Key of the hash; public.
      identities: Unit ids or record ids. PRIVATE.
    Source: HMAC-SHA256, RFC 2104.

    >>> [0 <= fraction < 1 for fraction in keyed_fractions(1, "split", ["user-7", "user-8"])]
    [True, True]
    """
    inner, outer = _make_pads(f"{purpose}:{seed}".encode())
    digests = [sha256(outer + sha256(inner + identity.encode(errors="surrogatepass")).digest()).digest() for identity in identities]
    return [int.from_bytes(digest[:7], "big") / (1 << 56) for digest in digests]


def bound_contributions(record_ids: Sequence[str], *, max_records: int, seed: int) -> list[int]:
    """The records that one unit keeps: `bound_contributions` of privacy/unit.py. PRIVATE.

    Guarantee: one unit keeps at most `max_records` records, whatever the other units hold.
    """
    fractions = keyed_fractions(seed, "bound_contributions", record_ids)
    order = sorted(range(len(record_ids)), key=fractions.__getitem__)
    return sorted(order[:max_records])


@functools.lru_cache(maxsize=16)
def _make_pads(key: bytes) -> tuple[bytes, bytes]:
    """The block that HMAC puts before the message, and the one before the hash of that."""
    block = (sha256(key).digest() if len(key) > _BLOCK_BYTES else key).ljust(_BLOCK_BYTES, b"\0")
    return bytes(byte ^ 0x36 for byte in block), bytes(byte ^ 0x5C for byte in block)
