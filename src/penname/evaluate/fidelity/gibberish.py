"""Texts made of letters that are no language: less likely, letter by letter or token by token, than all but 1 % of real texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from penname.evaluate.bootstrap import Interval, frac_interval
from penname.evaluate.metric import Estimate, Metric, describe_each
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.samples import RowSet, Samples

LETTERS, TOKENS = "gibberish_letters_frac", "gibberish_tokens_frac"
REAL_FRAC = 0.01
"""Share of heldout that counts as gibberish by construction: the threshold is this quantile."""
MAX_TEXTS = 300
"""So many texts of each set are shown to the base model."""
_ORDER = 4
_MIXTURE = (0.05, 0.15, 0.3, 0.5)
"""Weights of the frequencies of a letter by itself, after one, two and three letters; what is left unseen counts once among 10,000."""
_UNSEEN = 1e-4

Scorer = Callable[[list[str]], np.ndarray]


class LetterModel:
    """Mean log-likelihood of letters after the three before them, learned from texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Args: texts: At least one letter. PRIVATE."""
        letters, counts = np.unique(_codepoints(texts), return_counts=True)
        # The rare ones share one number, so that four fit into 64 bits and unknown scripts are merely rare.
        kept = letters[np.argsort(-counts, kind="stable")][:400]
        self._letters = np.sort(kept)
        self._width = len(kept) + 2
        whole = [self._encode(text) for text in texts]
        self._runs = [np.unique(np.concatenate([self._number(own, order) for own in whole]), return_counts=True) for order in range(1, _ORDER + 1)]
        self._total = int(sum(len(own) - (_ORDER - 1) for own in whole))

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """(n,) nats a letter, each the mean over a text; minus infinity for a text without letters.

        >>> model = LetterModel(["the case is good and the strap is good"] * 3)
        >>> good, bad = model.score(["the strap is good", "xq zvtt kj"])
        >>> bool(good > bad)
        True
        """
        return np.array([float(np.mean(self._score_letters(self._encode(text)))) if text.strip() else -np.inf for text in texts])

    def _encode(self, text: str) -> np.ndarray:
        """Numbers of letters: 0 before the text, 1 for rare ones."""
        points = _codepoints([text])
        places = np.minimum(np.searchsorted(self._letters, points), len(self._letters) - 1)
        known = np.where(self._letters[places] == points, places + 2, 1)
        return np.concatenate([np.zeros(_ORDER - 1, dtype=np.int64), known])

    def _number(self, letters: np.ndarray, order: int) -> np.ndarray:
        """One number for each letter of the text together with the order - 1 before it."""
        start = _ORDER - order
        parts = [letters[start + k : len(letters) - (order - 1 - k)] for k in range(order)]
        return sum((part * self._width ** (order - 1 - k) for k, part in enumerate(parts)), np.zeros(len(parts[0]), dtype=np.int64))

    def _count(self, numbers: np.ndarray, order: int) -> np.ndarray:
        runs, counts = self._runs[order - 1]
        places = np.minimum(np.searchsorted(runs, numbers), len(runs) - 1)
        return np.where(runs[places] == numbers, counts[places], 0)

    def _score_letters(self, letters: np.ndarray) -> np.ndarray:
        likelihood = np.full(len(letters) - (_ORDER - 1), _UNSEEN)
        for order, weight in enumerate(_MIXTURE, 1):
            numbers = self._number(letters, order)
            # What stands before: the same run without its last letter, counted wherever any letter follows it.
            before = self._count_before(numbers // self._width, order)
            likelihood += weight * self._count(numbers, order) / np.maximum(before, 1)
        return np.log(likelihood)

    def _count_before(self, contexts: np.ndarray, order: int) -> np.ndarray:
        runs, counts = self._runs[order - 1]
        starts = np.searchsorted(runs, contexts * self._width)
        ends = np.searchsorted(runs, (contexts + 1) * self._width)
        sums = np.concatenate([[0], np.cumsum(counts)])
        return sums[ends] - sums[starts]


def _codepoints(texts: Sequence[str]) -> np.ndarray:
    """Letters of casefolded texts, one after the other."""
    # A lone surrogate stands in data now and then; as a number it is a letter like any other.
    return np.frombuffer("".join(texts).casefold().encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.int64)


def _score_by_letters(samples: Samples) -> Scorer:
    train = [text for text in samples.take(samples.train, samples.max_records).texts if text.strip()]
    if not train:
        raise LeftOutError("no text of train has a letter; give texts")
    return samples.once("letter model", lambda: LetterModel(train)).score


def _score_by_tokens(samples: Samples) -> Scorer:
    likelihood = samples.likelihood
    if likelihood is None:
        raise LeftOutError("there is no base model to ask; set model.name")
    return lambda texts: np.array([float(found.mean()) if len(found) else -np.inf for found in likelihood(texts)])


def _compute(name: str, make_scorer: Callable[[Samples], Scorer], max_texts: int, samples: Samples) -> list[Estimate]:
    """Range, direction, reference: 0 to 1; lower is better; the reference is the share in test, REAL_FRAC but for chance."""
    scorer = make_scorer(samples)
    heldout = samples.take(samples.heldout, max(2, min(max_texts, samples.num_compared)))
    threshold = float(np.quantile(scorer(heldout.texts), REAL_FRAC))

    def measure(rows: RowSet, samples: Samples, stream: str) -> tuple[float, Interval]:
        texts = samples.take(rows, max_texts).texts
        num_hits = int(np.sum(scorer(texts) < threshold))
        return num_hits / len(texts), frac_interval(num_hits, len(texts))

    return describe_each(samples, name, measure)


GIBBERISH_LETTERS = Metric(
    LETTERS, "fidelity", "lower", (0.0, 1.0), 1, "four-letter model of train, threshold at 1 % of heldout (rule of penname)",
    lambda samples: _compute(LETTERS, _score_by_letters, samples.max_records, samples),
)  # fmt: skip
GIBBERISH_TOKENS = Metric(
    TOKENS, "fidelity", "lower", (0.0, 1.0), 1, "mean token log-likelihood under the base model, threshold at 1 % of heldout (rule of penname)",
    lambda samples: _compute(TOKENS, _score_by_tokens, MAX_TEXTS, samples), is_default=False,
)  # fmt: skip
