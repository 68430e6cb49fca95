"""What a tuned language model says of the test reviews, and what is read from that: ratings, confusion, perplexity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from penname.schemas import RATINGS


@dataclass(frozen=True, slots=True)
class FitScores:
    """One model, tuned on one set with one seed, on m test reviews. PRIVATE."""

    rating_log_probs: np.ndarray
    """(m, 5) log probability of each rating, given that one of them follows."""
    text_log_likelihoods: np.ndarray
    """(m,) log probability of each text, summed over its tokens."""
    num_text_tokens: np.ndarray
    """(m,)"""

    @property
    def ratings(self) -> np.ndarray:
        """(m,) int, the likeliest rating of each review."""
        return self.rating_log_probs.argmax(axis=1) + RATINGS[0]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "rating_log_probs": self.rating_log_probs.tolist(),
            "text_log_likelihoods": self.text_log_likelihoods.tolist(),
            "num_text_tokens": self.num_text_tokens.tolist(),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> FitScores:
        """From JSON values; ValueError, KeyError or TypeError where they are not what `to_json` wrote."""
        rating_log_probs = np.asarray(values["rating_log_probs"], dtype=np.float64)
        others = np.asarray(values["text_log_likelihoods"], dtype=np.float64), np.asarray(values["num_text_tokens"], dtype=np.int64)
        if rating_log_probs.shape != (len(others[0]), len(RATINGS)) or len(others[0]) != len(others[1]) or not np.isfinite(rating_log_probs).all():
            raise ValueError("shapes do not fit")
        return cls(rating_log_probs, *others)


@dataclass(frozen=True, slots=True)
class DownstreamScores:
    """All models on the same test reviews. PRIVATE."""

    truth: np.ndarray
    """(m,) int, 1 to 5."""
    fits: dict[str, list[FitScores]]
    """arm -> one a seed; `base` has one."""
    num_train: int
    """Reviews that each model was tuned on."""


def mean_absolute_error(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean distance of two ratings, in stars.

    >>> mean_absolute_error(np.array([5, 1]), np.array([4, 3]))
    1.5
    """
    return float(np.mean(np.abs(truth - predicted)))


def count_confusion(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """(5, 5) int: row is the true rating, column the predicted one.

    >>> int(count_confusion(np.array([5, 5]), np.array([5, 4]))[4, 3])
    1
    """
    counts = np.zeros((len(RATINGS), len(RATINGS)), dtype=np.int64)
    np.add.at(counts, (truth - RATINGS[0], predicted - RATINGS[0]), 1)
    return counts


def perplexity(text_log_likelihoods: np.ndarray, num_text_tokens: np.ndarray) -> float:
    """e to the mean negative log-likelihood of a token, over all tokens of all texts.

    Source: Jelinek et al. (1977), doi:10.1121/1.2016299

    >>> perplexity(np.log(np.array([0.5, 0.25])), np.array([1, 2]))
    2.0
    """
    return float(np.exp(-text_log_likelihoods.sum() / max(1, int(num_text_tokens.sum()))))
