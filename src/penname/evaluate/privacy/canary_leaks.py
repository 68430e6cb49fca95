"""Canaries in generated text: exact and fuzzy, by part and by repetition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from penname.evaluate.bootstrap import Interval, frac_interval
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.privacy.phrase_search import best_likenesses, find_phrases, score_phrases

FUZZY_FLOOR = 75.0
"""Likenesses below it are not even looked at: at three characters of four, phone numbers begin to look alike."""
MAX_FALSE_FRAC = 0.01
"""Share of left-out parts that may count as found: what the threshold is made for."""
FALLBACK_THRESHOLD = 90.0
"""Where there are too few left-out canaries to choose one."""
ANY = "any"
"""The part that stands for all parts of a canary together: found where one of them is."""


class PlantedCanary(Protocol):
    """What is needed of a canary; a row of the manifest has it."""

    @property
    def canary_id(self) -> str: ...
    @property
    def is_in(self) -> bool: ...
    @property
    def num_repetitions(self) -> int: ...
    @property
    def parts(self) -> Mapping[str, str]:
        """Its strings by name: name, street, phone, email, order_id, whole."""
        ...


@dataclass(frozen=True, slots=True)
class LeakCount:
    """How often one part of the canaries with one repetition count was found. PRIVATE."""

    part: str
    num_repetitions: int
    """0: the canaries that were left out; what is found of them is chance."""
    num_canaries: int
    num_leaked: int
    """Canaries of which the part stands in at least one text."""
    leaked_ci95: Interval
    """Wilson, of num_leaked / num_canaries."""
    num_texts: int
    """Texts that hold the part of such a canary; of several canaries, each counts."""
    texts_per_10_000: float


@dataclass(frozen=True, slots=True)
class CanaryLeaks:
    """Everything found of the canaries in one set of texts. PRIVATE."""

    exact: tuple[LeakCount, ...]
    fuzzy: tuple[LeakCount, ...]
    fuzzy_threshold: float
    """Least likeness (0 to 100) that counts as found."""
    threshold_note: str
    """Why this threshold."""
    num_texts: int


def count_leaks(canaries: Sequence[PlantedCanary], texts: Sequence[str]) -> CanaryLeaks:
    """Counts the canaries' parts in generated texts.

    Range, direction, reference: counts from 0; lower is better; the row of the left-out canaries (repetition 0) is what chance finds.

    Args:
      canaries: Planted and left out. PRIVATE.
      texts: Generated: title and text of each record, or answers to targeted prompts. What the prompt itself holds must not be in them.
    Returns:
      CanaryLeaks: rows by part, then by repetition; the first part is `ANY`. PRIVATE.
    Raises:
      LeftOutError: no canary was planted, or no text has words.
    Source: counts of matches as in the system that penname set out from; fuzzy by rapidfuzz. Exposure says what counts cannot: Carlini et al. (2019).
    """
    if not any(canary.is_in for canary in canaries):
        raise LeftOutError("canary_leaks_num: no canary was planted; every coin fell out, or the data hold none")
    if not any(text.strip() for text in texts):
        raise LeftOutError("canary_leaks_num: the generated records hold no text")
    keys = [(part, canary) for canary in canaries for part, value in canary.parts.items() if value]
    phrases = [canary.parts[part] for part, canary in keys]
    exact = [set(places) for places in find_phrases(phrases, texts)]
    left_out = [phrase for phrase, (_, canary) in zip(phrases, keys, strict=True) if not canary.is_in]
    threshold, note = choose_threshold(best_likenesses(left_out, texts, floor=FUZZY_FLOOR))
    fuzzy = [set(own) for own in score_phrases(phrases, texts, floor=threshold)]
    return CanaryLeaks(_sum_up(keys, exact, len(texts)), _sum_up(keys, fuzzy, len(texts)), threshold, note, len(texts))


def choose_threshold(left_out_scores: np.ndarray) -> tuple[float, str]:
    """The lowest whole threshold at which at most MAX_FALSE_FRAC of the left-out parts count as found.

    Args:
      left_out_scores: (n,) best likeness of each part of the canaries that were left out. PRIVATE.
    Returns:
      The threshold, and why. 100 is the most: there only the same letters count, capitals aside.

    >>> choose_threshold(np.array([80.0] * 99 + [95.0]))[0]
    81.0
    """
    needed = round(1 / MAX_FALSE_FRAC)
    if len(left_out_scores) < needed:
        return FALLBACK_THRESHOLD, f"{FALLBACK_THRESHOLD:g} without calibration: {len(left_out_scores)} left-out parts, {needed} are needed to choose one"
    for threshold in np.arange(FUZZY_FLOOR, 101.0):
        num_false = int(np.sum(left_out_scores >= threshold))
        if num_false <= MAX_FALSE_FRAC * len(left_out_scores):
            return float(threshold), f"the lowest at which at most {MAX_FALSE_FRAC:.0%} of {len(left_out_scores)} left-out parts are found ({num_false} are)"
    return 100.0, f"at every threshold more than {MAX_FALSE_FRAC:.0%} of {len(left_out_scores)} left-out parts are found; the canaries are not unlike the data"


def _sum_up(keys: Sequence[tuple[str, PlantedCanary]], places_of: Sequence[set[int]], num_texts: int) -> tuple[LeakCount, ...]:
    """Rows by part and repetition, 0 for the canaries that were left out."""
    by_canary: dict[str, set[int]] = {}
    for (_, canary), places in zip(keys, places_of, strict=True):
        by_canary.setdefault(canary.canary_id, set()).update(places)
    whole = {canary.canary_id: canary for _, canary in keys}
    groups: dict[tuple[str, int], list[int]] = {}
    everything = [((ANY, whole[canary_id]), places) for canary_id, places in by_canary.items()] + list(zip(keys, places_of, strict=True))
    for (part, canary), places in everything:
        groups.setdefault((part, canary.num_repetitions if canary.is_in else 0), []).append(len(places))
    part_order = list(dict.fromkeys(part for part, _ in groups))
    rows: list[LeakCount] = []
    for part, num_repetitions in sorted(groups, key=lambda key: (part_order.index(key[0]), key[1])):
        counts = groups[part, num_repetitions]
        num_leaked, total = sum(count > 0 for count in counts), sum(counts)
        interval = frac_interval(num_leaked, len(counts))
        rows.append(LeakCount(part, num_repetitions, len(counts), num_leaked, interval, total, 1e4 * total / num_texts))
    return tuple(rows)
