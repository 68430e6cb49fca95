"""The catalogue: public products, and the public domain of categories that follows from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from penname.errors import DataError
from penname.ingest.clean_columns import clean_ids, clean_titles, read_strings
from penname.ingest.cleaning import clean_title
from penname.ingest.raw_batch import MISSING, Chunk
from penname.ingest.rejects import Reject, place_rejects


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All products, to look up many at once. Public."""

    rows: dict[str, int]
    """product_id -> its row in `table`."""
    table: Any
    """Polars frame: product_id, title, category; title or category are empty where the catalogue has none, so that a join can say what is missing."""

    def __len__(self) -> int:
        return len(self.rows)

    def look_up(self, product_ids: Any) -> tuple[Any, Any]:
        """Titles and categories of these products, as Polars Series; null where the catalogue has no such product."""
        import polars as pl

        rows = pl.Series(list(map(self.rows.get, product_ids.to_list())), dtype=pl.UInt32)
        return self.table["title"].gather(rows), self.table["category"].gather(rows)

    def complete(self) -> Any:
        """The products that have a title and a category, as a frame."""
        import polars as pl

        return self.table.filter((pl.col("title") != "") & (pl.col("category") != ""))


class CatalogueReader:
    """Takes products chunk by chunk and keeps the first of each id."""

    def __init__(self, *, read_category: Callable[[Any], str | None]) -> None:
        """read_category: Turns the raw category into text; None where its type is wrong."""
        self._read_category = read_category
        self._rows: dict[str, int] = {}
        self._tables: list[Any] = []
        self._clean_categories: dict[str, str] = {}

    def add(self, chunk: Chunk) -> tuple[list[tuple[Reject, int]], int]:
        """Adds some products.

        Args:
          chunk: With product_id, title and category; public.
        Returns:
          What Tally.add takes: rows that cannot be read, products without an id, products named twice (the first counts).
        """
        import polars as pl

        raw = chunk.parse()
        values, dropped = self._read_values(raw.lines, raw.columns)
        kept: list[int] = []
        for i, product_id in enumerate(clean_ids(values["product_id"])):
            if i in dropped:
                continue
            if not product_id or product_id in self._rows:
                dropped[i] = Reject(raw.lines[i], "duplicate_product" if product_id else "no_product_id")
            else:
                self._rows[product_id] = len(self._rows)
                kept.append(i)
        columns = {
            "product_id": clean_ids(values["product_id"]),
            "title": clean_titles(values["title"]),
            "category": pl.Series([self._clean_category(category) for category in values["category"]], dtype=pl.String),
        }
        self._tables.append(pl.DataFrame(columns)[kept])
        return place_rejects(len(raw.lines), raw.rejects, list(dropped.items()))

    def finish(self) -> Catalogue:
        """All that was added."""
        import polars as pl

        empty = pl.DataFrame(schema=dict.fromkeys(("product_id", "title", "category"), pl.String))
        return Catalogue(self._rows, pl.concat([empty, *self._tables], rechunk=True))

    def _read_values(self, lines: list[int], columns: dict[str, list[Any]]) -> tuple[dict[str, list[str]], dict[int, Reject]]:
        """The values as text, and the rows that cannot be read so."""
        dropped: dict[int, Reject] = {}
        values: dict[str, list[str]] = {}
        for i, value in enumerate(columns["product_id"]):
            if value is MISSING:
                dropped[i] = Reject(lines[i], "missing_field", "product_id")
        for field, column in columns.items():
            if field == "category":
                texts = [self._read_category(None if value is MISSING else value) for value in column]
            else:
                texts = read_strings(column, numbers=True)
            for i, text in enumerate(texts):
                if text is None:
                    dropped.setdefault(i, Reject(lines[i], "wrong_type", field))
            values[field] = [text or "" for text in texts]
        return values, dropped

    def _clean_category(self, category: str) -> str:
        # Few categories, many products.
        if category not in self._clean_categories:
            self._clean_categories[category] = clean_title(category)
        return self._clean_categories[category]


def build_domain(configured: list[str] | None, products: Catalogue | None) -> dict[str, str]:
    """The public domain of `category`.

    Args:
      configured: data.categories; None: the categories of the complete products, sorted.
      products: The catalogue.
    Returns:
      Cleaned category -> the category as it is written from here on, in the order of the domain.
    Raises:
      DataError: neither names a category.

    >>> build_domain(["Cases &amp; Covers"], None)
    {'Cases & Covers': 'Cases &amp; Covers'}
    """
    if configured is not None:
        return {clean_title(category): category for category in configured}
    domain = sorted(products.complete()["category"].unique()) if products is not None else []
    if not domain:
        raise DataError("data.catalogue: no product has both a title and a category; check the file and its mapping")
    return {category: category for category in domain}


def public_products(products: Catalogue, domain: dict[str, str]) -> Any:
    """The products that may condition generation, as a frame: complete, with a category of the domain, spelled as the domain spells it."""
    import polars as pl

    complete = products.complete().filter(pl.col("category").is_in(list(domain)))
    return complete.with_columns(pl.col("category").replace_strict(domain, return_dtype=pl.String))
