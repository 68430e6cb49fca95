"""The metrics of `penname evaluate` on a few made-up rows, for what they will take on those of a run."""

from __future__ import annotations

import contextlib
import io
import random
import time
from dataclasses import dataclass

import numpy as np

from penname.config import Config
from penname.evaluate.evaluate import build_samples, compute_metrics
from penname.evaluate.registry import select_metrics
from penname.evaluate.samples import Row
from penname.model.embedding import load_embedder
from penname.schemas import RATINGS

_NUM_ROWS = (24, 48)
_NUM_EMBEDDED = 32
_EMBEDDING_SIZE = 384
_TOKENS_A_WORD = 1.3
_WORDS = ("the", "a", "it", "is", "not", "was", "for", "good", "bad", "small", "large", "works", "fits", "came", "broke", "soft", "loud", "box", "gift")


@dataclass(frozen=True)
class EvaluationSpeed:
    """Seconds of the parts of an evaluation, by measurement."""

    begin_secs: float
    """Of libraries and the embedding model, once."""
    text_secs: float
    """To embed a text."""
    row_secs: float
    """Of everything else, for each row of a set."""

    def stage_secs(self, *, num_rows: int, num_sets: int) -> float:
        """Seconds of the stage with so many rows in each set that is compared."""
        return self.begin_secs + num_rows * (num_sets * self.text_secs + self.row_secs)


def measure_evaluation(config: Config, *, text_tokens: float) -> EvaluationSpeed:
    """Computes the metrics of the run twice, the first time with what is only done once.

    Args:
      config: Section `evaluate` and the arms.
      text_tokens: Of a text, on average.
    Raises:
      ModelError: the embedding model is not there.
    """
    began = time.monotonic()
    embedder = load_embedder(config.evaluate.embedding_model)
    load_secs = time.monotonic() - began
    chance = random.Random(0)
    began = time.monotonic()
    embedder.embed([_make_row(chance, text_tokens).text for _ in range(_NUM_EMBEDDED)])
    text_secs = (time.monotonic() - began) / _NUM_EMBEDDED
    rest = [_time_metrics(config, [[_make_row(chance, text_tokens) for _ in range(count)] for _ in range(3 + len(config.train.arms))]) for count in _NUM_ROWS]
    row_secs = rest[1] / _NUM_ROWS[1]
    return EvaluationSpeed(load_secs + max(0.0, rest[0] - _NUM_ROWS[0] * row_secs), text_secs, row_secs)


def _time_metrics(config: Config, sets: list[list[Row]]) -> float:
    """Seconds of all metrics but for the embedding, for which vectors by chance stand."""
    directions = np.random.default_rng(0)
    began = time.monotonic()
    train, heldout, test, *others = sets
    synthetic: dict[str, list[Row]] = dict(zip(config.train.arms, others, strict=True))
    samples = build_samples(
        train=train, heldout=heldout, test=test, synthetic=synthetic, config=config.evaluate, embed=lambda texts: _draw_unit_vectors(directions, len(texts))
    )
    # What the metrics say of themselves would be taken for a run's.
    with contextlib.redirect_stderr(io.StringIO()):
        compute_metrics(samples, select_metrics(config.evaluate.metrics))
    return time.monotonic() - began


def _draw_unit_vectors(generator: np.random.Generator, count: int) -> np.ndarray:
    vectors = generator.standard_normal((count, _EMBEDDING_SIZE))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _make_row(chance: random.Random, text_tokens: float) -> Row:
    words = chance.choices(_WORDS, k=max(3, round(text_tokens / _TOKENS_A_WORD)))
    text = ". ".join(" ".join(words[i : i + 9]).capitalize() for i in range(0, len(words), 9)) + "."
    return Row(rating=float(chance.choice(RATINGS)), title="Made up", text=text, category="A", product_title="", finish_reason="stop")
