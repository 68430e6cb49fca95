"""Exact copies of a review within one privacy unit, found in 24 to 48 bytes of memory a review."""

from __future__ import annotations

import hashlib

from penname.schemas import Review

_DIGEST_BYTES = 16
_EMPTY = bytes(_DIGEST_BYTES)


class DuplicateFilter:
    """Remembers reviews by a 16-byte hash and finds exact copies: equal in every field, user id and value of the unit's column included.

    Copies are never looked for across units. Dropping one unit's review because another has the same would let the presence of
    one unit change the data of another, and bounds on the sensitivity count on the opposite. Where the unit is the record, dropping copies
    of the whole record is 1-stable, for adding a record changes the set of distinct records by at most one.

    The hashes stand in one flat open-addressing table, for a Python set of them takes more than twice the memory.
    """

    def __init__(self, *, num_slots: int = 1 << 16) -> None:
        """num_slots: A power of two; the table doubles when two thirds are taken."""
        self._num_slots = num_slots
        self._slots = bytearray(num_slots * _DIGEST_BYTES)
        self._num_taken = 0

    def is_duplicate(self, review: Review) -> bool:
        """Whether an equal review came before; remembers this one."""
        digest = hashlib.blake2b(review.content().encode(), digest_size=_DIGEST_BYTES).digest()
        return not self._add(digest)

    def _add(self, digest: bytes) -> bool:
        """Puts a hash into the first free slot from its own on; False where it is there already."""
        slots, mask = self._slots, self._num_slots - 1
        slot = int.from_bytes(digest[:8], "little") & mask
        while True:
            start = slot * _DIGEST_BYTES
            found = bytes(slots[start : start + _DIGEST_BYTES])
            if found == digest:
                return False
            if found == _EMPTY:
                break
            slot = (slot + 1) & mask
        slots[start : start + _DIGEST_BYTES] = digest
        self._num_taken += 1
        if 3 * self._num_taken > 2 * self._num_slots:
            self._grow()
        return True

    def _grow(self) -> None:
        old = self._slots
        self._num_slots *= 2
        self._slots = bytearray(self._num_slots * _DIGEST_BYTES)
        self._num_taken = 0
        for start in range(0, len(old), _DIGEST_BYTES):
            digest = bytes(old[start : start + _DIGEST_BYTES])
            if digest != _EMPTY:
                self._add(digest)
