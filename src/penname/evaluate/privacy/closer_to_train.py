"""Is a synthetic record closer to a training record than to any heldout one? Half of the time, by chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from penname.evaluate.bootstrap import Interval, frac_interval
from penname.evaluate.metric import Estimate, Metric
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.samples import Samples
from penname.segmentation import split_words

NAME = "closer_to_train_frac"
_ROWS_AT_ONCE = 512
_TIE = 1e-9
_MAX_DOCUMENT_FRAC, _MIN_DOCUMENTS = 0.2, 100


def weigh_words(*corpora: Sequence[str]) -> list[Any]:
    """Texts as unit-length vectors of their words and word pairs, rare ones weighing more (TF-IDF, weights from all corpora together;
    words that stand in more than a fifth of many texts are left out).

    Args:
      corpora: Lists of texts. PRIVATE when real.
    Returns:
      One sparse (n, K) float32 matrix a corpus; a text without words is all zero. PRIVATE.
    Raises:
      LeftOutError: no text has a word.
    Source: Sparck Jones (1972), doi:10.1108/eb026526
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    num = sum(len(corpus) for corpus in corpora)
    # Words that stand in a fifth of all texts weigh next to nothing and cost most of the time; in a small set any word may.
    max_df = min(1.0, max(_MAX_DOCUMENT_FRAC, _MIN_DOCUMENTS / max(1, num)))
    vectorizer = TfidfVectorizer(max_df=max_df, analyzer=_list_words_and_pairs, sublinear_tf=True, dtype=np.float32)  # pyright: ignore[reportArgumentType]
    try:
        everything = vectorizer.fit_transform([text for corpus in corpora for text in corpus])
    except ValueError:  # sklearn's word for an empty vocabulary
        raise LeftOutError("no text has a word, so nothing can be compared; languages without spaces have none by our rule") from None
    bounds = np.concatenate([[0], np.cumsum([len(corpus) for corpus in corpora])])
    return [everything[bounds[i] : bounds[i + 1]] for i in range(len(corpora))]


def _list_words_and_pairs(text: str) -> list[str]:
    words = split_words(text)
    return [*words, *(f"{first} {second}" for first, second in pairwise(words))]


def find_nearest(candidates: Any, corpus: Any) -> tuple[np.ndarray, np.ndarray]:
    """The row of the corpus nearest to each candidate.

    Args:
      candidates: (n, K) unit-length rows, dense or sparse.
      corpus: (m, K) likewise, m >= 1. PRIVATE.
    Returns:
      (n,) float64 cosine to it, and (n,) its place. PRIVATE.
    """
    cosines, places = [np.zeros(0)], [np.zeros(0, dtype=np.int64)]
    for begin in range(0, candidates.shape[0], _ROWS_AT_ONCE):
        block = candidates[begin : begin + _ROWS_AT_ONCE] @ corpus.T
        block = np.asarray(block.toarray() if hasattr(block, "toarray") else block)
        places.append(block.argmax(axis=1))
        cosines.append(np.take_along_axis(block, places[-1][:, None], axis=1)[:, 0].astype(np.float64))
    return np.concatenate(cosines), np.concatenate(places)


@dataclass(frozen=True, slots=True)
class CloserToTrain:
    """How many candidates have their nearest real record in train. PRIVATE."""

    frac: float
    ci95: Interval
    num_effective: float
    """Candidates that would tell as much if no two had the same nearest record."""


def measure_closer_to_train(candidates: Any, train: Any, heldout: Any, *, rng: np.random.Generator) -> CloserToTrain:
    """Share of the candidates that are closer to a training record than to any heldout record.

    Range, direction, reference: 0 to 1; lower is better; 0.5 is perfect, for train and heldout are then alike to the generator.

    Args:
      candidates: (n, K) unit-length rows, dense or sparse, n >= 1.
      train: (m, K). PRIVATE.
      heldout: (m, K): as many, or the larger set wins by its size. PRIVATE.
      rng: Seeded; tosses for candidates as close to one as to the other.
    Returns:
      CloserToTrain: Wilson's interval. A few real records are the nearest of many candidates, and on which side they fell is one coin for
      all of those, so the interval is that of n^2 / sum(k^2) candidates, k being how many share a nearest record. PRIVATE.
    Raises:
      ValueError: train and heldout are not of one size.
    Source: distance to closest record against a holdout, Platzer and Reutterer (2021), doi:10.3389/fdata.2021.679939; effective number, Kish (1965)
    """
    if train.shape[0] != heldout.shape[0]:
        raise ValueError(f"{train.shape[0]} training rows against {heldout.shape[0]} heldout rows; take equal numbers")
    (to_train, train_places), (to_heldout, heldout_places) = find_nearest(candidates, train), find_nearest(candidates, heldout)
    difference = to_train - to_heldout
    is_train = np.where(np.abs(difference) <= _TIE, rng.random(len(difference)) < 0.5, difference > 0)
    owners = np.where(is_train, train_places, train.shape[0] + heldout_places)
    # What shares no word with any real record has no nearest one: its toss is its own.
    owners = np.where(np.maximum(to_train, to_heldout) > 0, owners, 2 * train.shape[0] + np.arange(len(owners)))
    sharing = np.unique(owners, return_counts=True)[1]
    num_effective, frac = len(owners) ** 2 / float(np.sum(sharing**2)), float(is_train.mean())
    num = max(1, round(num_effective))
    low, high = frac_interval(round(frac * num), num)
    return CloserToTrain(frac, (min(frac, low), max(frac, high)), num_effective)


def _compute(samples: Samples) -> list[Estimate]:
    """The reference is the share among test rows: 0.5 but for chance."""
    num = min(len(samples.train), len(samples.heldout), samples.max_records)
    train, heldout = (samples.take(rows, num).texts for rows in (samples.train, samples.heldout))
    sets = {"real": samples.test, **samples.synthetic}
    own = {arm: samples.take(rows, min(len(rows), samples.max_records)).texts for arm, rows in sets.items()}
    train_rows, heldout_rows, *candidates = weigh_words(train, heldout, *own.values())
    found = {
        arm: measure_closer_to_train(rows, train_rows, heldout_rows, rng=samples.generator(f"{NAME}/{arm}")) for arm, rows in zip(own, candidates, strict=True)
    }
    return [Estimate(arm, result.frac, result.ci95, found["real"].frac, len(own[arm])) for arm, result in found.items()]


CLOSER_TO_TRAIN = Metric(
    NAME,
    "privacy",
    "lower",
    (0.0, 1.0),
    1,
    "Platzer and Reutterer (2021), doi:10.3389/fdata.2021.679939, on TF-IDF vectors of words and word pairs",
    _compute,
)
