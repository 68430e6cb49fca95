"""The privacy unit: who is protected, and the choices made about one unit that no other unit may influence."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any

from penname.privacy.errors import PrivacyError

NEIGHBORING_RELATION = "ADD_OR_REMOVE_ONE"
# Of SHA-256, as HMAC pads its key.
_BLOCK_BYTES = 64

_UNIT_DEFINITIONS = {
    "user": "one user: everything that one user id wrote",
    "record": "one record: a single review; a person who wrote several is protected for each of them alone",
    "column": "one value of the column {unit_column}: every record that carries it",
}
"""Kind of unit -> what it is; define_unit fills in the column."""


def define_unit(privacy_unit: str, unit_column: str | None) -> str:
    """Who is protected, in words: the definition that the certificate carries.

    Args:
      privacy_unit: user, record or column.
      unit_column: Name of the column for `column`, None for the others. RELEASABLE: a name, not a value.
    Raises:
      PrivacyError: privacy_unit is unknown, or unit_column is missing, empty or not called for.

    >>> define_unit("column", "household_id")
    'one value of the column household_id: every record that carries it'
    """
    # A list: what comes out of a file may be of any type, and a dict takes no list for a key.
    if privacy_unit not in list(_UNIT_DEFINITIONS):
        raise PrivacyError(f"privacy_unit: {privacy_unit!r} is not one of {', '.join(_UNIT_DEFINITIONS)}")
    if privacy_unit != "column":
        if unit_column is not None:
            raise PrivacyError(f"unit_column: is {unit_column!r}, but privacy_unit {privacy_unit} has no column")
        return _UNIT_DEFINITIONS[privacy_unit]
    if not isinstance(unit_column, str) or not unit_column.strip() or not unit_column.isprintable():
        raise PrivacyError(f"unit_column: privacy_unit column needs the name of a column, {unit_column!r} is none")
    return _UNIT_DEFINITIONS["column"].format(unit_column=unit_column)


def keyed_fraction(seed: int, purpose: str, identity: str) -> float:
    """A fraction in [0, 1) that depends on the seed, the purpose and this identity alone.

    Guarantee: the fraction of one identity does not change when another unit is added or removed, so that splits, subsets and
    contribution bounds made from it map neighbouring data sets to neighbouring data sets.

    Args:
      seed: Key of the hash; public.
      purpose: Separates one choice from another.
      identity: A unit id or a record id. PRIVATE.
    Source: HMAC-SHA256, RFC 2104.

    >>> 0 <= keyed_fraction(1, "split", "user-7") < 1
    True
    """
    return keyed_fractions(seed, purpose, [identity])[0]


def keyed_fractions(seed: int, purpose: str, identities: Sequence[str]) -> list[float]:
    """`keyed_fraction` of every identity, with its guarantee; what depends on the key alone is done once. PRIVATE."""
    return _hash_fractions(seed, purpose, identities).tolist()


def _hash_fractions(seed: int, purpose: str, identities: Sequence[str]) -> Any:
    """`keyed_fractions` as an array of float64. PRIVATE."""
    import numpy as np

    inner, outer = _make_pads(f"{purpose}:{seed}".encode())
    digests = [sha256(outer + sha256(inner + identity.encode(errors="surrogatepass")).digest()).digest() for identity in identities]
    # The first 56 bits of each.
    return (np.frombuffer(b"".join(digests), dtype=">u8")[::4] >> 8) / 2**56


@functools.lru_cache(maxsize=16)
def _make_pads(key: bytes) -> tuple[bytes, bytes]:
    """The block that HMAC puts before the message, and the one before the hash of that."""
    block = (sha256(key).digest() if len(key) > _BLOCK_BYTES else key).ljust(_BLOCK_BYTES, b"\0")
    return bytes(byte ^ 0x36 for byte in block), bytes(byte ^ 0x5C for byte in block)


def bound_contributions(record_ids: Sequence[Sequence[str]], *, max_records: int, seed: int) -> list[int]:
    """Chooses at most `max_records` records of every unit, at random and not by content.

    Guarantee: each unit keeps at most `max_records` records, and which ones depends on its own alone, whatever the other units hold.

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

    fractions = _hash_fractions(seed, "bound_contributions", list(itertools.chain.from_iterable(record_ids)))
    sizes = np.array([len(names) for names in record_ids], dtype=np.int64)
    order = np.lexsort((fractions, np.repeat(np.arange(len(sizes)), sizes)))
    places_in_unit = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(order[places_in_unit < max_records]).tolist()


def group_by_unit(unit_ids: Iterable[str]) -> list[list[int]]:
    """Positions of each unit's records, units in order of first appearance. PRIVATE.

    >>> group_by_unit(["a", "b", "a"])
    [[0, 2], [1]]
    """
    groups: dict[str, list[int]] = {}
    for position, unit_id in enumerate(unit_ids):
        groups.setdefault(unit_id, []).append(position)
    return list(groups.values())
