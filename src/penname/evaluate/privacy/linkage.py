"""Linkage: what synthetic records tell about a real one, over what they tell about records that the generator never saw.

The three attacks of Anonymeter, each told for text with attributes. Every figure is a difference between attacks on training records and the
same attacks on as many heldout records: what follows from the population at large (five stars from praise) is in both, and cancels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from penname.evaluate.bootstrap import paired_difference_interval
from penname.evaluate.metric import Estimate, Metric
from penname.evaluate.privacy.closer_to_train import weigh_words
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.privacy.exact_intervals import difference_interval
from penname.evaluate.samples import Row, Samples
from penname.segmentation import split_words

NUM_NEIGHBOURS = 5
"""Synthetic records that a link may go through."""
NUM_PREDICATES = 1000
"""Pairs of words that the singling-out attack guesses."""
_ROWS_AT_ONCE = 512
_SOURCE = "Giomi et al. (2023), Anonymeter; arXiv:2211.10459"


def nearest_rows(targets: Any, synthetic: Any, *, num: int) -> np.ndarray:
    """The synthetic rows nearest to each target, nearest first.

    Args:
      targets: (n, K) unit-length rows, dense or sparse. PRIVATE.
      synthetic: (m, K), m >= num.
      num: How many.
    Returns:
      (n, num) int64 places; of equally near ones, the first. -1 where the target shares nothing with any row. PRIVATE.
    """
    found = [np.zeros((0, num), dtype=np.int64)]
    for begin in range(0, targets.shape[0], _ROWS_AT_ONCE):
        cosines = targets[begin : begin + _ROWS_AT_ONCE] @ synthetic.T
        cosines = np.asarray(cosines.toarray() if hasattr(cosines, "toarray") else cosines)
        # A stable sort of the few largest: argpartition alone would choose among equals by chance of memory layout.
        edge = -np.partition(-cosines, num - 1, axis=1)[:, num - 1 : num]
        order = np.argsort(np.where(cosines >= edge, -cosines, np.inf), axis=1, kind="stable")[:, :num]
        found.append(np.where(np.take_along_axis(cosines, order, axis=1) > 0, order, -1))
    return np.concatenate(found)


def infer_attribute(targets: Any, synthetic: Any, attributes: Sequence[str]) -> list[str | None]:
    """An attacker's guess of each target's attribute: that of the synthetic record whose text is nearest.

    Args:
      targets: (n, K) unit-length rows of the texts that the attacker knows. PRIVATE.
      synthetic: (m, K), m >= 1.
      attributes: Of the synthetic records.
    Returns:
      n guesses; None where no synthetic text shares anything with the target.
    Source: Giomi et al. (2023), inference attack with one neighbour. https://arxiv.org/abs/2211.10459
    """
    places = nearest_rows(targets, synthetic, num=1)[:, 0]
    return [attributes[int(place)] if place >= 0 else None for place in places]


def find_links(title_neighbours: np.ndarray, text_neighbours: np.ndarray) -> np.ndarray:
    """Whether one synthetic record is near a target's title and near its text: it would tell that the two belong to one person.

    Args:
      title_neighbours: (n, k) places of the synthetic titles nearest to each target's title; -1 for none. PRIVATE.
      text_neighbours: (n, k) of the texts. PRIVATE.
    Returns:
      (n,) bool. PRIVATE.
    Source: Giomi et al. (2023), linkability attack. https://arxiv.org/abs/2211.10459

    >>> find_links(np.array([[3, 4], [5, -1]]), np.array([[7, 3], [-1, 6]])).tolist()
    [True, False]
    """
    is_same = title_neighbours[:, :, None] == text_neighbours[:, None, :]
    return np.any(is_same & (title_neighbours[:, :, None] >= 0), axis=(1, 2))


def single_out(synthetic: Sequence[str], corpora: Sequence[Sequence[str]], *, num_predicates: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Guesses predicates ("holds the words a and b") that are true of one synthetic record, and looks whether each is true of one real record.

    Args:
      synthetic: Texts that the attacker has.
      corpora: Sets of real texts of equal size, such as train and heldout. PRIVATE.
      num_predicates: Guesses; fewer where fewer distinct ones are found.
      rng: Seeded.
    Returns:
      For each corpus, (g,) bool: the guess isolates exactly one of its records. PRIVATE.
    Raises:
      LeftOutError: no pair of words is in one synthetic record alone.
    Source: Giomi et al. (2023), multivariate singling out; Cohen and Nissim (2020), https://arxiv.org/abs/1904.06009
    """
    words = [sorted(set(split_words(text))) for text in synthetic]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(word for own in words for word in own))}
    usable = [own for own in words if len(own) > 1]
    pairs: set[tuple[int, int]] = set()
    for place in rng.integers(len(usable), size=4 * num_predicates) if usable else ():
        first, second = rng.choice(len(usable[place]), size=2, replace=False)
        a, b = vocabulary[usable[place][first]], vocabulary[usable[place][second]]
        pairs.add((min(a, b), max(a, b)))
    guesses = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
    guesses = guesses[_count_pairs(words, vocabulary, guesses) == 1]
    if not len(guesses):
        raise LeftOutError("singling_out_excess: no pair of words stands in one synthetic record alone; the texts are all alike or empty")
    guesses = guesses[rng.permutation(len(guesses))[:num_predicates]]
    return [_count_pairs([split_words(text) for text in corpus], vocabulary, guesses) == 1 for corpus in corpora]


def _count_pairs(words: Sequence[Sequence[str]], vocabulary: dict[str, int], pairs: np.ndarray) -> np.ndarray:
    """(g,) how many records hold both words of each pair."""
    from scipy.sparse import csc_array

    columns = [sorted({vocabulary[word] for word in own if word in vocabulary}) for own in words]
    rows = np.repeat(np.arange(len(columns)), [len(own) for own in columns])
    flat = np.array([column for own in columns for column in own], dtype=np.int64)
    holds = csc_array((np.ones(len(flat), dtype=np.int32), (rows, flat)), shape=(len(columns), max(1, len(vocabulary))))
    return np.asarray(holds[:, pairs[:, 0]].multiply(holds[:, pairs[:, 1]]).sum(axis=0)).ravel()


def _category_hits(targets: list[list[Row]], own: list[Row]) -> list[np.ndarray]:
    """Right guesses of the category of train and of heldout rows from their texts."""
    *target_rows, synthetic = weigh_words(*([row.text for row in rows] for rows in (*targets, own)))
    attributes = [row.category for row in own]
    return [
        np.array([guess == row.category for guess, row in zip(infer_attribute(vectors, synthetic, attributes), rows, strict=True)])
        for vectors, rows in zip(target_rows, targets, strict=True)
    ]


def _link_hits(targets: list[list[Row]], own: list[Row]) -> list[np.ndarray]:
    """Links between title and text of train and of heldout rows."""
    num, sets = min(NUM_NEIGHBOURS, len(own)), [*targets, own]
    *target_titles, titles = weigh_words(*([row.title for row in rows] for rows in sets))
    *target_texts, texts = weigh_words(*([row.text for row in rows] for rows in sets))
    return [
        find_links(nearest_rows(title, titles, num=num), nearest_rows(text, texts, num=num)) for title, text in zip(target_titles, target_texts, strict=True)
    ]


def _draw(samples: Samples) -> tuple[list[list[Row]], dict[str, list[Row]]]:
    """Train and heldout rows in equal number; synthetic rows by arm, and test rows as `real`, all of one number."""
    num = min(len(samples.train), len(samples.heldout), samples.max_records)
    targets = [samples.take(rows, num).rows for rows in (samples.train, samples.heldout)]
    return targets, {arm: samples.take(rows, samples.num_compared).rows for arm, rows in {"real": samples.test, **samples.synthetic}.items()}


def _compute_unpaired(attack: Callable[[list[list[Row]], list[Row]], list[np.ndarray]], samples: Samples) -> list[Estimate]:
    """The reference is the excess of test rows in the synthetic rows' place: zero but for chance."""
    targets, sets = _draw(samples)
    found: dict[str, tuple[float, tuple[float, float], int]] = {}
    for arm, own in sets.items():
        on_train, on_heldout = attack(targets, own)
        interval = difference_interval(int(on_train.sum()), len(on_train), int(on_heldout.sum()), len(on_heldout))
        found[arm] = (float(on_train.mean()) - float(on_heldout.mean()), interval, len(on_train))
    return [Estimate(arm, value, interval, found["real"][0], num) for arm, (value, interval, num) in found.items()]


def _compute_singling_out(samples: Samples) -> list[Estimate]:
    """The same predicates are tried on train and on heldout."""
    targets, sets = _draw(samples)
    corpora = [[row.text for row in rows] for rows in targets]
    found: dict[str, tuple[float, tuple[float, float], int]] = {}
    for arm, own in sets.items():
        rng = samples.generator(f"singling_out_excess/{arm}")
        on_train, on_heldout = single_out([row.text for row in own], corpora, num_predicates=NUM_PREDICATES, rng=rng)
        found[arm] = (float(on_train.mean() - on_heldout.mean()), paired_difference_interval(on_train, on_heldout), len(own))
    return [Estimate(arm, value, interval, found["real"][0], num) for arm, (value, interval, num) in found.items()]


ATTRIBUTE_INFERENCE = Metric("attribute_inference_excess_category", "privacy", "lower", (-1.0, 1.0), 1, _SOURCE, partial(_compute_unpaired, _category_hits))
LINKABILITY = Metric("linkability_excess", "privacy", "lower", (-1.0, 1.0), 1, _SOURCE, partial(_compute_unpaired, _link_hits))
SINGLING_OUT = Metric("singling_out_excess", "privacy", "lower", (-1.0, 1.0), 1, _SOURCE, _compute_singling_out)
