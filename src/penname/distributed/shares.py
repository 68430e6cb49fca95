"""How pieces of work are shared out."""

from __future__ import annotations

import heapq
from collections.abc import Sequence


def share_out(sizes: Sequence[int], num_shares: int) -> list[list[int]]:
    """Shares pieces out, the largest first, each to the share that has least so far: no share is larger than 4/3 of the best possible.

    Args:
      sizes: Of the pieces, >= 0, any unit.
      num_shares: At least 1.
    Returns:
      For each share the places of its pieces, ascending; every piece is in one share, and a share may be empty.
    Source: Graham (1969), "Bounds on multiprocessing timing anomalies".

    >>> share_out([5, 1, 4, 3], 2)
    [[0, 1], [2, 3]]
    >>> share_out([], 2)
    [[], []]
    """
    shares: list[list[int]] = [[] for _ in range(num_shares)]
    loads = [(0, share) for share in range(num_shares)]
    for place in sorted(range(len(sizes)), key=lambda place: -sizes[place]):
        load, share = loads[0]
        shares[share].append(place)
        heapq.heapreplace(loads, (load + sizes[place], share))
    return [sorted(share) for share in shares]


def cut_evenly(num_pieces: int, num_parts: int, *, at_least: int = 1) -> list[range]:
    """Places 0 .. num_pieces - 1 in at most `num_parts` runs of equal length, none shorter than `at_least` but the last.

    >>> cut_evenly(10, 4)
    [range(0, 3), range(3, 6), range(6, 9), range(9, 10)]
    >>> cut_evenly(10, 4, at_least=8)
    [range(0, 8), range(8, 10)]
    """
    length = max(at_least, -(-num_pieces // max(1, num_parts)), 1)
    return [range(start, min(start + length, num_pieces)) for start in range(0, num_pieces, length)]
