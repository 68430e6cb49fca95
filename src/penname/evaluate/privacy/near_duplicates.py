"""Synthetic records that are nearly a training record: MinHash finds candidates, the exact distance decides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from penname.evaluate.bootstrap import frac_interval
from penname.evaluate.metric import Estimate, Metric
from penname.evaluate.samples import Samples

NAME = "near_duplicate_frac"
MIN_LIKENESS = 0.8
"""Near duplicate: at least so much of both texts stays when one is turned into the other, letter by letter."""
_SHINGLE = 5
_NUM_PERM, _NUM_BANDS = 128, 32
"""Two texts that share 80 % of their runs of five characters meet in a band with certainty but for 1e-7, at 50 % with 87 %."""
_SEED = 20_210
_LSH_THRESHOLD = 0.5


def nearest_duplicates(candidates: Sequence[str], corpus: Sequence[str]) -> np.ndarray:
    """Likeness of each candidate to its nearest text of the corpus, among those that MinHash takes for near.

    Range, direction, reference: 0 to 1; lower is better; 0 also where nothing came near. Pairs whose differences are
    spread so that few runs of five characters are left whole may not meet. Texts of fewer than five characters match only their equals.

    Args:
      candidates: n texts.
      corpus: m texts. PRIVATE.
    Returns:
      (n,) float64: 1 minus insertions and deletions over the length of both, white space made alike and case ignored. PRIVATE.
    Source: MinHash, Broder (1997), doi:10.1109/SEQUEN.1997.666900, by rensa (R-MinHash); exact: rapidfuzz, normalised indel similarity; as a
      test of memorisation, Lee et al. (2022), https://arxiv.org/abs/2107.06499
    """
    from rapidfuzz.distance import Indel
    from rensa import RMinHash, RMinHashLSH  # pyright: ignore[reportAttributeAccessIssue]  compiled, without annotations

    own, others = ([" ".join(text.casefold().split()) for text in texts] for texts in (candidates, corpus))
    best = np.zeros(len(own))
    if not own or not others:
        return best
    index = RMinHashLSH(threshold=_LSH_THRESHOLD, num_perm=_NUM_PERM, num_bands=_NUM_BANDS)
    index.insert_matrix(RMinHash.digest_matrix_from_token_sets(_shingle(others), num_perm=_NUM_PERM, seed=_SEED))
    queries = RMinHash.from_token_sets(_shingle(own), num_perm=_NUM_PERM, seed=_SEED)
    for i, places in enumerate(index.query_all(queries)):
        for place in places:
            # Each comparison needs to beat the best so far only, which lets rapidfuzz stop early.
            best[i] = max(best[i], Indel.normalized_similarity(own[i], others[place], score_cutoff=best[i]))
    return best


def _shingle(texts: Sequence[str]) -> list[list[str]]:
    """Runs of five characters; a shorter text is one run."""
    return [sorted({text[i : i + _SHINGLE] for i in range(max(1, len(text) - _SHINGLE + 1))}) for text in texts]


def _compute(samples: Samples) -> list[Estimate]:
    """The reference is the same synthetic texts against as many heldout texts; the arm `real` is test in their place."""
    num_corpus = min(len(samples.train), len(samples.heldout), samples.max_records)
    train, heldout = (samples.take(rows, num_corpus).texts for rows in (samples.train, samples.heldout))
    estimates = []
    for arm, rows in {"real": samples.test, **samples.synthetic}.items():
        own = samples.take(rows, min(len(rows), samples.max_records))
        num_hits = int(np.sum(nearest_duplicates(own.texts, train) >= MIN_LIKENESS))
        reference = float(np.mean(nearest_duplicates(own.texts, heldout) >= MIN_LIKENESS))
        estimates.append(Estimate(arm, num_hits / len(own), frac_interval(num_hits, len(own)), reference, len(own)))
    return estimates


NEAR_DUPLICATES = Metric(NAME, "privacy", "lower", (0.0, 1.0), 1, "near duplicates of training records as in Lee et al. (2022), arXiv:2107.06499", _compute)
