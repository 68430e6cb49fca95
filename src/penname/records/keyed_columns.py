"""The keyed draws of privacy/unit.py for many identities at once, with what depends on the key alone done once.

Every function here gives what its namesake gives one by one; a test compares the two.
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


def bound_contributions(record_ids: Sequence[Sequence[str]], *, max_records: int, seed: int) -> list[int]:
    """`bound_contributions` of every unit.

    Guarantee: each unit keeps at most `max_records` records, whatever the others hold.

    Args:
      record_ids: Ids of the records of each unit, distinct within it. PRIVATE.
      max_records: Bound >= 1.
      seed: Key of the hash that draws.
    Returns:
      Positions in all the ids, unit after unit, in their old order. PRIVATE.

    >>> bound_contributions([["a"], ["b", "c"]], max_records=2, seed=1)
    [0, 1, 2]
    """
    import numpy as np

    fractions = keyed_fractions(seed, "bound_contributions", [name for names in record_ids for name in names])
    sizes = np.array([len(names) for names in record_ids], dtype=np.int64)
    order = np.lexsort((np.array(fractions), np.repeat(np.arange(len(sizes)), sizes)))
    places_in_unit = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(order[places_in_unit < max_records]).tolist()


@functools.lru_cache(maxsize=16)
def _make_pads(key: bytes) -> tuple[bytes, bytes]:
    """The block that HMAC puts before the message, and the one before the hash of that."""
    block = (sha256(key).digest() if len(key) > _BLOCK_BYTES else key).ljust(_BLOCK_BYTES, b"\0")
    return bytes(byte ^ 0x36 for byte in block), bytes(byte ^ 0x5C for byte in block)
