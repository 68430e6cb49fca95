"""The vote: each unit's records choose the candidates that are most like them.

What a unit says is a vector, as its gradient would be: one number a candidate. It is clipped, summed and given noise by the mechanism that trains with
gradients, and accounted for as that is. Source: Xie et al. (2024), Aug-PE, https://arxiv.org/abs/2403.01749
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from penname.generate.exemplars import Exemplar
from penname.privacy.clipping import BoundedSum
from penname.privacy.mechanism import DpSgd, NonPrivateSum

Embedded = tuple[tuple[int, str], NDArray[np.float32]]
"""Rating and category of a record, and its embedding (D,) of unit length. PRIVATE."""

_UNITS_AT_ONCE = 64


class Ballot:
    """The candidates of a round."""

    def __init__(self, candidates: Sequence[Exemplar], embed: Callable[[str], NDArray[np.float32]]) -> None:
        """Args: candidates: RELEASABLE in the arm with DP. embed: one text to (D,), unit length."""
        self.num_candidates = len(candidates)
        places: dict[tuple[int, str], list[int]] = {}
        for place, candidate in enumerate(candidates):
            places.setdefault(candidate.cell, []).append(place)
        self._places = places
        self._embeddings: Mapping[tuple[int, str], NDArray[np.float32]] = {
            cell: np.stack([embed(describe(candidates[place].title, candidates[place].text)) for place in own]) for cell, own in places.items()
        }

    def vote(self, records: Sequence[Embedded]) -> tuple[NDArray[np.float32], list[float]]:
        """What one unit says, (K,), and how like each of its records its choice is, a cosine; PRIVATE.

        A record's choice depends on nothing but itself and the candidates of its rating and category. Where there are none, it has no say.
        """
        said, nearest = np.zeros(self.num_candidates, dtype=np.float32), list[float]()
        for cell, embedding in records:
            if cell not in self._places:
                continue
            # One product a record: of several at once, the rounding of one might depend on the others.
            likeness = self._embeddings[cell] @ embedding
            best = int(likeness.argmax())
            said[self._places[cell][best]] += 1.0 / len(records)
            nearest.append(float(likeness[best]))
        return said, nearest


def describe(title: str, text: str) -> str:
    """What of a record is embedded."""
    return f"{title}\n{text}"


def sum_votes(mechanism: DpSgd | NonPrivateSum, ballot: Ballot, units: Iterable[Sequence[Embedded]]) -> tuple[BoundedSum, list[float]]:
    """The clipped sum over units of what each says, (K,), and how like its choice each record is. PRIVATE."""
    total, nearest, rest = mechanism.empty_sum(ballot.num_candidates), list[float](), iter(units)
    while some := list(itertools.islice(rest, _UNITS_AT_ONCE)):
        said = [ballot.vote(records) for records in some]
        votes = torch.from_numpy(np.stack([vector for vector, _ in said]))
        bounded = mechanism.sum_units(votes) if isinstance(mechanism, DpSgd) else mechanism.bound_nothing(votes.sum(0), num_units=len(votes))
        total = total.add_disjoint(bounded)
        nearest += [value for _, values in said for value in values]
    return total, nearest
