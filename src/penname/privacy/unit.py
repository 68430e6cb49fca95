"""The privacy unit: who is protected, and the choices made about one unit that no other unit may influence."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence

NEIGHBORING_RELATION = "ADD_OR_REMOVE_ONE"

UNIT_DEFINITIONS = {
    "user": "one user: everything that one user id wrote",
    "record": "one record: a single review; a person who wrote several is protected for each of them alone",
}


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
    digest = hmac.digest(f"{purpose}:{seed}".encode(), identity.encode(errors="surrogatepass"), hashlib.sha256)
    return int.from_bytes(digest[:7], "big") / (1 << 56)


def bound_contributions(record_ids: Sequence[str], *, max_records: int, seed: int) -> list[int]:
    """Chooses at most `max_records` of one unit's records, at random and not by content.

    Guarantee: one unit keeps at most `max_records` records, whatever the other units hold.

    Args:
      record_ids: Ids of one unit's records, distinct. PRIVATE.
      max_records: Bound >= 1.
      seed: Key of the hash that draws.
    Returns:
      Positions into `record_ids`, in their old order. PRIVATE.
    """
    order = sorted(range(len(record_ids)), key=lambda i: keyed_fraction(seed, "bound_contributions", record_ids[i]))
    return sorted(order[:max_records])


def group_by_unit(unit_ids: Iterable[str]) -> list[list[int]]:
    """Positions of each unit's records, units in order of first appearance. PRIVATE.

    >>> group_by_unit(["a", "b", "a"])
    [[0, 2], [1]]
    """
    groups: dict[str, list[int]] = {}
    for position, unit_id in enumerate(unit_ids):
        groups.setdefault(unit_id, []).append(position)
    return list(groups.values())
