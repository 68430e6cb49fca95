"""Language drift: whether the texts are in the languages of the real ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from penname.evaluate.bootstrap import Interval, interval_around
from penname.evaluate.fidelity.joint_attributes import total_variation_distance
from penname.evaluate.fidelity.lengths import resample_both
from penname.evaluate.metric import Estimate, Metric, compare_with_test
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.samples import RowSet, Samples
from penname.segmentation import split_words

NAME = "language_total_variation_distance"
MIN_WORDS = 5
"""The language of a shorter text is a guess: such texts count as of no language."""


def detect_languages(texts: Sequence[str]) -> list[str]:
    """The language of each text.

    Args:
      texts: PRIVATE when real.
    Returns:
      ISO 639-1 codes, empty for a text of fewer than MIN_WORDS words.
    Raises:
      LeftOutError: the extra `language` is not installed.
    Source: naive Bayes over bytes, Lui and Baldwin (2012), https://aclanthology.org/P12-3005, in py3langid.
    """
    try:
        import py3langid
    except ImportError:
        raise LeftOutError("needs the extra language: pip install 'penname[language]'") from None
    return [py3langid.classify(text)[0] if len(split_words(text)) >= MIN_WORDS else "" for text in texts]


def _measure(candidate: RowSet, test: RowSet, samples: Samples, stream: str) -> tuple[float, Interval]:
    """Range, direction, reference: total variation of the shares of languages, 0 to 1; lower is better; the reference is heldout against test."""
    found = [samples.once(("languages", rows.name, len(rows)), lambda rows=rows: detect_languages(rows.texts)) for rows in (candidate, test)]
    places: dict[str, int] = {}
    own, real = (np.array([places.setdefault(language, len(places)) for language in languages]) for languages in found)

    def measure(own_weights: np.ndarray | None, real_weights: np.ndarray | None) -> float:
        return total_variation_distance(np.bincount(own, own_weights, len(places)), np.bincount(real, real_weights, len(places)))

    value = measure(None, None)
    resampled = [measure(a, b) for a, b in resample_both(len(own), len(real), samples, stream)]
    return value, interval_around(value, resampled, (0.0, 1.0))


def _compute(samples: Samples) -> list[Estimate]:
    return compare_with_test(samples, NAME, _measure)


LANGUAGE_DRIFT = Metric(
    NAME, "fidelity", "lower", (0.0, 1.0), 1, "total variation of detected languages; Lui and Baldwin (2012), aclanthology.org/P12-3005", _compute
)
