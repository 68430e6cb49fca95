"""Exact copies of a review by the same user, found in 24 to 48 bytes of memory a review."""

from __future__ import annotations

import hashlib

from penname.schemas import Review

_DIGEST_BYTES = 16
_EMPTY = bytes(_DIGEST_BYTES)


class DuplicateFilter:
    """Remembers reviews by a 16-byte hash and finds exact copies by the same user.

    Copies are never looked for across users. Dropping one user's review because another wrote the same would let the presence of
    one user change the data of another, and bounds on the sensitivity count on the opposite. Where the unit is the record, dropping copies
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
        # Every field of the content: were one left out, dropping a row could bring back one that differs in it, which changes two records.
        key = (review.user_id or "", str(review.rating), review.category, review.product_id, review.product_title, review.title, review.text)
        # The lengths keep ("a", "bc") and ("ab", "c") apart.
        lengths = ",".join(str(len(part)) for part in key)
        digest = hashlib.blake2b("".join((lengths, ":", *key)).encode(), digest_size=_DIGEST_BYTES).digest()
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
