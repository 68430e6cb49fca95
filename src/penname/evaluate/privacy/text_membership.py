"""Membership from the synthetic text alone: does it echo a record? Higher scores always mean more likely a member."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from penname.evaluate.privacy.errors import LeftOutError
from penname.segmentation import split_words

NUM_NEIGHBOURS = 25
"""Synthetic texts whose likeness is averaged, as in the paper."""
_ROWS_AT_ONCE = 1024


class BigramModel:
    """Word bigrams of a corpus, with one added to every count so that no word is impossible."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Counts.

        Args:
          texts: The corpus, such as all synthetic texts.
        Raises:
          LeftOutError: it has no word.
        """
        words = [split_words(text) for text in texts]
        # 0 stands before the first word, 1 for a word that the corpus lacks.
        self._ids = {word: i for i, word in enumerate(dict.fromkeys(word for own in words for word in own), 2)}
        if not self._ids:
            raise LeftOutError("membership from the synthetic text: it has no words; languages without spaces have none by our rule")
        self._num_types = len(self._ids) + 1
        before, after, _ = self._pair_up(words)
        self._pairs, self._pair_counts = np.unique(self._join(before, after), return_counts=True)
        self._before_counts = np.bincount(before, minlength=self._num_types + 1)

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Mean log-likelihood a word.

        Args:
          texts: n candidates. PRIVATE when real.
        Returns:
          (n,) float64; minus infinity never occurs; of a text without words, that of one unknown word. PRIVATE.
        """
        words = [split_words(text) or [""] for text in texts]
        before, after, lengths = self._pair_up(words)
        keys = self._join(before, after)
        places = np.minimum(np.searchsorted(self._pairs, keys), len(self._pairs) - 1)
        counts = np.where(self._pairs[places] == keys, self._pair_counts[places], 0)
        logs = np.log((counts + 1) / (self._before_counts[before] + self._num_types))
        return np.add.reduceat(logs, np.concatenate([[0], np.cumsum(lengths)[:-1]])) / lengths

    def _pair_up(self, words: list[list[str]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(T,) the word before, (T,) the word, and how many each text has."""
        after = np.array([self._ids.get(word, 1) for own in words for word in own], dtype=np.int64)
        lengths = np.array([len(own) for own in words], dtype=np.int64)
        before = np.roll(after, 1)
        starts = np.cumsum(lengths) - lengths
        before[starts[lengths > 0]] = 0
        return before, after, lengths

    def _join(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        return before * (self._num_types + 1) + after


def ngram_echo_scores(candidates: Sequence[str], synthetic: Sequence[str], control: Sequence[str]) -> np.ndarray:
    """How much likelier a bigram model of the synthetic text finds each candidate than one of control text does.

    Range, direction, reference: any number; the attack's AUROC is the figure. A candidate of common words is likely under both; the
    control takes that away.

    Args:
      candidates: n records, members and non-members. PRIVATE.
      synthetic: What the attacker has.
      control: Texts of the same kind that no candidate had a part in, such as heldout rows, about as many. PRIVATE.
    Returns:
      (n,) float64. PRIVATE.
    Raises:
      LeftOutError: a corpus has no words.
    Source: Meeus et al. (2025), The Canary's Echo, n-gram signal, n = 2, Laplace smoothing. https://arxiv.org/abs/2502.14921
    """
    return BigramModel(synthetic).score(candidates) - BigramModel(control).score(candidates)


def similarity_echo_scores(
    candidates: np.ndarray, synthetic: np.ndarray, control: np.ndarray | None = None, *, num_neighbours: int = NUM_NEIGHBOURS
) -> np.ndarray:
    """Mean cosine of each candidate to the synthetic texts nearest to it, less the same of control texts.

    Range, direction, reference: -2 to 2; the attack's AUROC is the figure.

    Args:
      candidates: (n, D) unit-length embeddings of members and non-members. PRIVATE.
      synthetic: (m, D) of what the attacker has.
      control: (k, D) of texts of the same kind that no candidate had a part in; None: nothing is taken away. PRIVATE.
      num_neighbours: Nearest texts that are averaged; all where there are fewer.
    Returns:
      (n,) float64. PRIVATE.
    Raises:
      LeftOutError: there is no text to compare with.
    Source: Meeus et al. (2025), similarity signal. https://arxiv.org/abs/2502.14921
    """
    scores = _mean_of_nearest(candidates, synthetic, num_neighbours)
    return scores if control is None else scores - _mean_of_nearest(candidates, control, num_neighbours)


def _mean_of_nearest(candidates: np.ndarray, corpus: np.ndarray, num_neighbours: int) -> np.ndarray:
    """(n,) mean of the largest cosines."""
    if len(corpus) == 0:
        raise LeftOutError("membership from the synthetic text: there is no text to compare with")
    num = min(num_neighbours, len(corpus))
    means = []
    for begin in range(0, len(candidates), _ROWS_AT_ONCE):
        cosines = candidates[begin : begin + _ROWS_AT_ONCE] @ corpus.T
        means.append(np.partition(cosines, len(corpus) - num, axis=1)[:, len(corpus) - num :].mean(axis=1))
    return np.concatenate(means) if means else np.zeros(0)
