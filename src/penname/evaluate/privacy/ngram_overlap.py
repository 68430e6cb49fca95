"""Verbatim runs of 8 and of 13 words of train in synthetic records, against the same with heldout."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np

from penname.evaluate.bootstrap import frac_interval, paired_difference_interval
from penname.evaluate.metric import Estimate, Metric
from penname.evaluate.samples import Row, Samples
from penname.segmentation import split_words

NGRAM_WORDS = 8
LONG_NGRAM_WORDS = 13
"""The length at which GPT-3's authors called an overlap contamination: hardly any two writers share so many words by chance."""
_SOURCE = "verbatim n-grams as in Lee et al. (2022), arXiv:2107.06499, and Carlini et al. (2023), arXiv:2202.07646"


def list_ngrams(text: str, num_words: int = NGRAM_WORDS) -> Iterator[str]:
    """Every run of so many casefolded words of a text, punctuation left out; none where the text is shorter.

    >>> list(list_ngrams("One two three, four five six seven EIGHT."))
    ['one two three four five six seven eight']
    """
    words = split_words(text)
    for start in range(len(words) - num_words + 1):
        yield " ".join(words[start : start + num_words])


def _list_row_ngrams(row: Row, num_words: int) -> Iterator[str]:
    """Of title and of text: a run does not cross from one into the other."""
    yield from list_ngrams(row.title, num_words)
    yield from list_ngrams(row.text, num_words)


def find_overlaps(candidates: dict[str, list[Row]], corpora: dict[str, list[Row]], *, num_words: int = NGRAM_WORDS) -> dict[str, dict[str, np.ndarray]]:
    """Finds the candidate records that share a run of `num_words` words with a row of a corpus.

    Runs that stand in a public prompt field (product title, category) of any row do not count: the prompt gave them away.
    Memory grows with the candidates, not with the corpora.

    Args:
      candidates: Rows by name of the set.
      corpora: Real rows by name. Two figures compare only when their corpora have as many rows. PRIVATE.
      num_words: Length of a run.
    Returns:
      dict[str, dict[str, (n,) bool]]: by name of the set, by name of the corpus. PRIVATE.
    """
    owners: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for name, rows in candidates.items():
        for i, row in enumerate(rows):
            for ngram in _list_row_ngrams(row, num_words):
                owners[ngram].add((name, i))
    everything = [row for rows in (*candidates.values(), *corpora.values()) for row in rows]
    for field in {field for row in everything for field in (row.product_title, row.category)}:
        for ngram in list_ngrams(field, num_words):
            owners.pop(ngram, None)
    found = {corpus: _find_owners(owners, rows, num_words) for corpus, rows in corpora.items()}
    return {
        name: {corpus: np.array([(name, i) in hits for i in range(len(rows))], dtype=bool) for corpus, hits in found.items()}
        for name, rows in candidates.items()
    }


def _find_owners(owners: dict[str, set[tuple[str, int]]], corpus: Iterable[Row], num_words: int) -> set[tuple[str, int]]:
    found: set[tuple[str, int]] = set()
    for row in corpus:
        for ngram in _list_row_ngrams(row, num_words):
            found |= owners.get(ngram, set())
    return found


def _overlaps(samples: Samples, num_words: int = NGRAM_WORDS) -> dict[str, dict[str, np.ndarray]]:
    """Of every arm, and of test as `real`, with train and heldout in equal numbers and with all of train."""

    def find() -> dict[str, dict[str, np.ndarray]]:
        num = min(len(samples.train), len(samples.heldout))
        sets = {"real": samples.test, **samples.synthetic}
        candidates = {name: samples.take(rows, min(len(rows), samples.max_records)).rows for name, rows in sets.items()}
        corpora = {"train": samples.take(samples.train, num).rows, "heldout": samples.take(samples.heldout, num).rows}
        return find_overlaps(candidates, {**corpora, "all_train": samples.train.rows}, num_words=num_words)

    return samples.once(("ngram_overlaps", num_words), find)


def _estimate_frac(arm: str, hits: np.ndarray, reference: float) -> Estimate:
    num_hits = int(hits.sum())
    return Estimate(arm, num_hits / len(hits), frac_interval(num_hits, len(hits)), reference, len(hits))


def _compute_frac(num_words: int, samples: Samples) -> list[Estimate]:
    """The reference is the share that overlaps with heldout: what two writers share who never met."""
    return [_estimate_frac(arm, hits["train"], float(hits["heldout"].mean())) for arm, hits in _overlaps(samples, num_words).items()]


def _compute_frac_all_train(samples: Samples) -> list[Estimate]:
    """The reference is the share of unseen real rows that overlap with all of train."""
    overlaps = _overlaps(samples)
    reference = float(overlaps["real"]["all_train"].mean())
    return [_estimate_frac(arm, hits["all_train"], reference) for arm, hits in overlaps.items()]


def _compute_excess(samples: Samples) -> list[Estimate]:
    """The reference is the excess of real test rows, zero but for chance."""
    overlaps = _overlaps(samples)
    excess = {arm: float(hits["train"].mean() - hits["heldout"].mean()) for arm, hits in overlaps.items()}
    return [
        Estimate(arm, excess[arm], paired_difference_interval(hits["train"], hits["heldout"]), excess["real"], len(hits["train"]))
        for arm, hits in overlaps.items()
    ]


NGRAM_OVERLAP_FRAC = Metric("ngram_overlap_frac", "privacy", "lower", (0.0, 1.0), 1, _SOURCE, partial(_compute_frac, NGRAM_WORDS))
NGRAM_OVERLAP_FRAC_LONG = Metric(
    "ngram_overlap_frac_13_words",
    "privacy",
    "lower",
    (0.0, 1.0),
    1,
    "13-grams as in Brown et al. (2020), arXiv:2005.14165",
    partial(_compute_frac, LONG_NGRAM_WORDS),
)
NGRAM_OVERLAP_FRAC_ALL_TRAIN = Metric("ngram_overlap_frac_all_train", "privacy", "lower", (0.0, 1.0), 1, _SOURCE, _compute_frac_all_train)
NGRAM_OVERLAP_EXCESS = Metric("ngram_overlap_excess", "privacy", "lower", (-1.0, 1.0), 1, _SOURCE, _compute_excess)
