"""The planted facts of the fictional marketplace: what is true of which product, and what a text says of it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penname.errors import DataError

FACTS_FILE = "facts.json"
_METADATA_PATTERN = "meta_*.jsonl"

Keys = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FactsTold:
    """What one text says of the facts of its product."""

    num_facts: int
    """That its product has."""
    carried: frozenset[str]
    """Ids of those that it carries as they are."""
    contradicted: frozenset[str]
    """Ids of those that it tells with another value, such as squeaking in the heat where it squeaks in the cold."""


class PlantedFacts:
    """Facts by product title; titles are compared without case, markup and extra spaces."""

    def __init__(self, facts_by_title: dict[str, dict[str, Keys]]) -> None:
        """Args: facts_by_title: product title -> fact id -> words that stand in every text that carries the fact."""
        self._by_title = {_plain(title): facts for title, facts in facts_by_title.items()}
        self._values: dict[str, set[Keys]] = {}
        for facts in self._by_title.values():
            for fact_id, keys in facts.items():
                self._values.setdefault(fact_id, set()).add(keys)

    def know(self, product_title: str) -> bool:
        """Whether the product is one of the marketplace's."""
        return bool(self._by_title.get(_plain(product_title)))

    def planted(self, product_titles: Iterable[str]) -> set[tuple[str, str]]:
        """(product, fact id) of everything that is true of these products."""
        return {(title, fact_id) for title in map(_plain, product_titles) for fact_id in self._by_title.get(title, {})}

    def read(self, product_title: str, text: str) -> FactsTold:
        """What a text says of its product.

        A fact is carried when the text holds all its key words, each at the beginning of a word, whatever the case. It is contradicted when it is
        not carried, and the text holds all key words of the same fact with a value that another product has.

        Args:
          product_title: As in the catalogue.
          text: PRIVATE when real.
        """
        own, folded = self._by_title.get(_plain(product_title), {}), text.casefold()
        carried = {fact_id for fact_id, keys in own.items() if _holds(folded, keys)}
        others = {fact_id: self._values[fact_id] - {keys} for fact_id, keys in own.items() if fact_id not in carried}
        contradicted = {fact_id for fact_id, values in others.items() if any(_holds(folded, keys) for keys in values)}
        return FactsTold(len(own), frozenset(carried), frozenset(contradicted))

    def key(self, product_title: str, fact_id: str) -> tuple[str, str]:
        """The name of a planted fact, as in `planted`."""
        return _plain(product_title), fact_id


def _plain(title: str) -> str:
    return " ".join(html.unescape(title).casefold().split())


def _holds(folded: str, keys: Keys) -> bool:
    # Few texts hold the letters at all, so that is asked first. The beginning of a word: "hot" must not be found in "photo".
    return all(key in folded and re.search(rf"(?<!\w){re.escape(key)}", folded) for key in keys)


def read_planted_facts(folder: Path) -> PlantedFacts:
    """Reads what `penname sample-data` wrote beside its reviews: facts by product, and the products' titles.

    Args:
      folder: Holds facts.json and the metadata. Public: the marketplace depends on its seed only.
    Raises:
      DataError: a file is missing or damaged.
    """
    metadata = sorted(folder.glob(_METADATA_PATTERN))
    if not (folder / FACTS_FILE).is_file() or not metadata:
        raise DataError(f"evaluate.facts {folder}: holds no {FACTS_FILE} with its {_METADATA_PATTERN}; give a folder that `penname sample-data` wrote")
    try:
        products = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))["products"]
        titles = dict(_read_titles(metadata[0]))
        return PlantedFacts({titles[product]: _read_keys(facts) for product, facts in products.items() if titles.get(product)})
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"evaluate.facts {folder}: is damaged; write it again with `penname sample-data`") from None


def _read_titles(path: Path) -> Iterable[tuple[str, str]]:
    with open(path, encoding="utf-8") as handle:
        for line in handle:
            row = json.loads(line)
            yield row["parent_asin"], row["title"]


def _read_keys(facts: list[dict[str, Any]]) -> dict[str, Keys]:
    return {fact["id"]: tuple(key.casefold() for key in fact["key_words"]) for fact in facts}
