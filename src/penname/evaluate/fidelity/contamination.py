"""Does the base model already know the real text? Its likelihood against that of the same text in another order."""

from __future__ import annotations

from functools import partial

import numpy as np

from penname.evaluate.bootstrap import Interval, interval_around
from penname.evaluate.metric import Estimate, Metric, describe_each
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.samples import RowSet, Samples
from penname.segmentation import split_sentences

MAX_TEXTS = 200
MIN_TEXTS = 5
_SOURCE = "likelihood against the same text reordered, after the exchangeability test of Oren et al. (2023), arXiv:2310.17623"


def reorder(text: str, unit: str, rng: np.random.Generator) -> str | None:
    """The same sentences, or the same words, in another order; None where there is no other.

    Args:
      text: PRIVATE when real.
      unit: `sentence` or `word`.
      rng: Draws the order, never the one that stands there.

    >>> reorder("It broke. I cried.", "sentence", np.random.default_rng(0))
    'I cried. It broke.'
    """
    parts = [part.strip() for part in split_sentences(text)] if unit == "sentence" else text.split()
    if len(set(parts)) < 2:
        return None
    shuffled = parts
    while shuffled == parts:
        shuffled = [parts[i] for i in rng.permutation(len(parts))]
    return " ".join(shuffled)


def _measure(unit: str, rows: RowSet, samples: Samples, stream: str) -> tuple[float, Interval]:
    """Range, direction, reference: bits a token by which a text is likelier than its control; not judged.

    A text that the model knows by heart is far likelier in its own order. Synthetic texts cannot have been in its pre-training, so they show what
    grammar and sense alone are worth: `real` well above them is a sign of contamination, no proof.
    """
    if samples.likelihood is None:
        raise LeftOutError("there is no base model to ask; set model.name")
    rng = samples.generator(stream)
    pairs = [(text, control) for text in samples.take(rows, MAX_TEXTS).texts if (control := reorder(text, unit, rng)) is not None]
    if len(pairs) < MIN_TEXTS:
        raise LeftOutError(f"a set has fewer than {MIN_TEXTS} texts of two different {unit}s; give more or longer texts")
    found, controls = (samples.likelihood([pair[side] for pair in pairs]) for side in (0, 1))
    gains = np.array([a.mean() - b.mean() for a, b in zip(found, controls, strict=True) if len(a) and len(b)], dtype=np.float64) / np.log(2)
    if not len(gains):
        raise LeftOutError("no text has two tokens; give longer texts")
    value = float(gains.mean())
    resampled = [float(gains[rng.integers(len(gains), size=len(gains))].mean()) for _ in range(samples.num_bootstrap)]
    return value, interval_around(value, resampled, (float("-inf"), float("inf")))


def _compute(name: str, unit: str, samples: Samples) -> list[Estimate]:
    return describe_each(samples, name, partial(_measure, unit))


def _declare(unit: str) -> Metric:
    name = f"contamination_{unit}_order_bits"
    return Metric(name, "fidelity", "none", (float("-inf"), float("inf")), 1, _SOURCE, partial(_compute, name, unit), is_default=False)


CONTAMINATION_SENTENCES, CONTAMINATION_WORDS = _declare("sentence"), _declare("word")
