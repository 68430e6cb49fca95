"""Records as examples: what a model writes after one is like it. The population of private evolution is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from penname.generate.conditioning import Condition
from penname.run_dir import read_rows
from penname.template import RecordTemplate

_Found = TypeVar("_Found", bound="Exemplar")


@dataclass(frozen=True)
class Exemplar:
    """A record that a model wrote, and what the private records said of it. RELEASABLE in the arm with DP."""

    rating: int
    category: str
    product_title: str
    title: str
    text: str
    votes: float = 0.0
    """Noisy in the arm with DP."""

    @property
    def cell(self) -> tuple[int, str]:
        """Rating and category."""
        return self.rating, self.category


def read_population(path: Path) -> list[Exemplar]:
    """What private evolution ended with."""
    return [Exemplar(**row) for row in read_rows(path)]


def render_exemplar(template: RecordTemplate, exemplar: Exemplar) -> str:
    """The record as it stands before another prompt: without the example that the template may begin with, which stands before it already.

    >>> template = RecordTemplate("Toys, 3: fine\\n\\n{category}, {rating}:", " {title}|{text}\\n\\n", "1")
    >>> render_exemplar(template, Exemplar(5, "Hats", "", "Warm", "Soft too."))
    'Hats, 5: Warm|Soft too.\\n\\n'
    """
    prompt = template.fill_prompt(rating=exemplar.rating, category=exemplar.category, product_title=exemplar.product_title)
    return prompt[len(_opening(template)) :] + template.fill_completion(title=exemplar.title, text=exemplar.text)


def fill_prompt_after(template: RecordTemplate, exemplar: Exemplar, condition: Condition) -> str:
    """The prompt of a condition, with an exemplar before it, after the template's own example."""
    prompt = template.fill_prompt(rating=condition.rating, category=condition.category, product_title=condition.product_title)
    opening = _opening(template)
    return opening + render_exemplar(template, exemplar) + prompt[len(opening) :]


def _opening(template: RecordTemplate) -> str:
    """Whole records that every prompt begins with; empty where there is none, or where records have no end mark."""
    fixed = template.prompt.partition("{")[0]
    return fixed[: fixed.rfind(template.end) + len(template.end)] if template.end and template.end in fixed else ""


def choose_exemplars(population: Sequence[Exemplar], conditions: Sequence[Condition], *, seed: int) -> list[Exemplar]:
    """One for each condition: of its rating and category, where there is none of its rating, and in proportion to the votes.

    Args:
      population: At least one.
      conditions: What is to be written.
      seed: Each condition's place draws its own number from it.
    """
    return [_choose(find_like(population, condition), np.random.default_rng((seed, place))) for place, condition in enumerate(conditions)]


def find_like(population: Sequence[_Found], condition: Condition) -> list[_Found]:
    """Those of the same rating and category; of the same rating; or all."""
    same_rating = [one for one in population if one.rating == condition.rating]
    return [one for one in same_rating if one.category == condition.category] or same_rating or list(population)


def _choose(exemplars: Sequence[Exemplar], generator: np.random.Generator) -> Exemplar:
    votes = np.maximum([exemplar.votes for exemplar in exemplars], 0.0)
    total = float(votes.sum())
    place = generator.choice(len(exemplars), p=votes / total if total > 0 else None)
    return exemplars[int(place)]
