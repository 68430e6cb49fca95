"""The planted facts of the fictional marketplace: told as they are, told wrong, or left out. No pre-training can know them."""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np

from penname.evaluate.bootstrap import Interval, resample, share_interval_around
from penname.evaluate.metric import Estimate, Metric, describe_each
from penname.evaluate.planted_facts import PlantedFacts
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.samples import RowSet, Samples

_RANGE = (0.0, 1.0)
_SOURCE = "planted facts of the sample data; a fact is told when its key words are (definition of penname)"
_PLACES = {"correct": 0, "contradicted": 1, "omitted": 2}


def count_facts(rows: RowSet, facts: PlantedFacts) -> np.ndarray:
    """How each record treats the facts of its product.

    Range, direction, reference: over all records, the three shares of facts sum to 1. More told and fewer contradicted is better; the reference is
    test. Real reviews leave out most facts of a product too.

    Args:
      rows: With product titles. PRIVATE when real.
      facts: Public.
    Returns:
      (n, 3): facts told, contradicted, omitted; all zero where the product is not known. PRIVATE when rows are.
    """
    found = [facts.read(row.product_title, row.text) for row in rows.rows]
    return np.array([(len(f.carried), len(f.contradicted), f.num_facts - len(f.carried) - len(f.contradicted)) for f in found], dtype=np.float64)


def _facts_of(samples: Samples) -> PlantedFacts:
    if samples.facts is None:
        raise LeftOutError("only the fictional marketplace has planted facts; if these are its reviews, set evaluate.facts to its folder")
    return samples.facts


def _measure_share(place: int, rows: RowSet, samples: Samples, stream: str) -> tuple[float, Interval]:
    facts = _facts_of(samples)
    counts = samples.once(("facts", rows.name, len(rows)), lambda: count_facts(rows, facts))
    if not counts.sum():
        raise LeftOutError("no row names a product of the marketplace; give rows with product_title")

    def share(weights: np.ndarray) -> float:
        totals = weights @ counts
        return float(totals[place] / totals.sum()) if totals.sum() else 0.0

    value = share(np.ones(len(counts)))
    drawn = resample(samples.generator(stream), len(rows), samples.num_bootstrap)
    return value, share_interval_around(value, [share(weights) for weights in drawn], num_records=len(rows))


def _measure_known(rows: RowSet, samples: Samples, stream: str) -> tuple[float, Interval]:
    """Of all facts about the products that the set speaks of, the share that at least one record tells."""
    facts = _facts_of(samples)
    planted = {name: place for place, name in enumerate(sorted(facts.planted(row.product_title for row in rows.rows)))}
    if not planted:
        raise LeftOutError("no row names a product of the marketplace; give rows with product_title")
    told = np.zeros((len(rows), len(planted)), dtype=bool)
    asked = np.zeros((len(rows), len(planted)), dtype=bool)
    for i, row in enumerate(rows.rows):
        asked[i, [planted[name] for name in facts.planted([row.product_title])]] = True
        told[i, [planted[facts.key(row.product_title, fact_id)] for fact_id in facts.read(row.product_title, row.text).carried]] = True

    def share(is_drawn: np.ndarray) -> float:
        num_asked = int(asked[is_drawn].any(axis=0).sum())
        return int(told[is_drawn].any(axis=0).sum()) / num_asked if num_asked else 0.0

    value = share(np.ones(len(rows), dtype=bool))
    drawn = resample(samples.generator(stream), len(rows), samples.num_bootstrap)
    return value, share_interval_around(value, [share(weights > 0) for weights in drawn], num_records=len(rows))


def _compute_share(name: str, place: int, samples: Samples) -> list[Estimate]:
    return describe_each(samples, name, partial(_measure_share, place), with_base=True)


def _compute_known(name: str, samples: Samples) -> list[Estimate]:
    return describe_each(samples, name, _measure_known, with_base=True)


def _declare(kind: str, direction: Literal["higher", "lower"]) -> Metric:
    name = f"facts_{kind}_frac"
    return Metric(name, "fidelity", direction, _RANGE, 1, _SOURCE, partial(_compute_share, name, _PLACES[kind]))


FACTS_CORRECT = _declare("correct", "higher")
FACTS_CONTRADICTED = _declare("contradicted", "lower")
FACTS_OMITTED = _declare("omitted", "lower")
FACTS_KNOWN = Metric("facts_known_frac", "fidelity", "higher", _RANGE, 1, _SOURCE, partial(_compute_known, "facts_known_frac"))
