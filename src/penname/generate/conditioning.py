"""What to write about: rating and category from a DP histogram, the product from the public catalogue. Never from a real row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from penname.config import Config
from penname.errors import DataError
from penname.privacy.marginals import release_histogram
from penname.run_dir import RunDir, read_json, read_rows, write_json
from penname.run_privacy import DP_SOURCE, charge_histogram, open_book, open_keystream, plan_budget
from penname.schemas import RATINGS, Product


@dataclass(frozen=True)
class Condition:
    """What one synthetic record is asked to be."""

    record_id: str
    rating: int
    category: str
    product_title: str


def release_conditioning(config: Config, run_dir: RunDir, *, keeps_key: bool = False) -> dict[str, Any]:
    """The shares of every (rating, category) of the public domain; released once a run and then read from the artefact.

    With the arm with_dp the shares come from a noisy histogram that is charged to the ledger first. A run without that arm has nothing to
    release: its shares are exact and say so.

    Args:
      config: Section `privacy`, and the arms.
      run_dir: Holds train_records; gets the artefact.
      keeps_key: More is to be drawn under the run's key; the call after that, without it, erases the key.
    Returns:
      {"source", "cells": [{"rating", "category", "share"}]}, RELEASABLE when the source is the DP histogram.
    """
    path, train = run_dir.path("conditioning"), run_dir.path("train_records")
    if path.is_file():
        # The data under it cannot have changed: records and train are frozen once they are done.
        if not keeps_key:
            run_dir.path("noise_key").unlink(missing_ok=True)
        return read_json(path)
    categories: list[str] = read_json(run_dir.path("records_counts"))["category_domain"]
    domain = [(rating, category) for rating in RATINGS for category in categories]
    if "with_dp" in config.train.arms:
        budget = plan_budget(config, run_dir, open_keystream(config, run_dir))
        histogram = charge_histogram(run_dir, budget, open_book(config, run_dir, budget))
        shares, source = release_histogram(histogram, cells=_find_cells(train, domain), num_cells=len(domain)), DP_SOURCE
    else:
        cells = _find_cells(train, domain)
        shares, source = np.bincount(cells, minlength=len(domain)) / len(cells), "exact counts, PRIVATE"
    rows = [{"rating": r, "category": c, "share": float(share)} for (r, c), share in zip(domain, shares, strict=True)]
    released = {"source": source, "cells": rows}
    write_json(path, released)
    if not keeps_key:
        # Everything that the key was for is released. Without it nobody, not even the owner of the run folder, can subtract the noise.
        run_dir.path("noise_key").unlink(missing_ok=True)
    return released


def _find_cells(train: Path, domain: Sequence[tuple[int, str]]) -> list[int]:
    """The cell of each training record. PRIVATE."""
    index = {cell: i for i, cell in enumerate(domain)}
    return [index[int(row["rating"]), row["category"]] for row in read_rows(train)]


def read_catalogue(path: Path) -> list[Product]:
    """The public catalogue; empty where the data has none."""
    from pyarrow import parquet

    return [Product(**row) for row in parquet.read_table(path).to_pylist()]


def plan_conditions(cells: Sequence[dict[str, Any]], products: Sequence[Product], *, num_records: int, needs_product: bool, seed: int) -> list[Condition]:
    """One condition a synthetic record: the cells in proportion to their shares, products drawn evenly from the cell's category.

    Args:
      cells: rating, category, share. RELEASABLE.
      products: The public catalogue.
      num_records: How many.
      needs_product: Whether the prompt names a product.
      seed: Of the draw of products.
    Raises:
      DataError: the prompt names a product and the catalogue has none for any cell with a share.
    """
    titles: dict[str, list[str]] = {}
    for product in products:
        titles.setdefault(product.category, []).append(product.title)
    # A category without products in the public catalogue cannot be written about; dropping it uses public knowledge alone.
    usable = [cell for cell in cells if titles.get(cell["category"]) or not needs_product]
    total = sum(cell["share"] for cell in usable)
    if total <= 0:
        raise DataError("generate: the prompt names a product, but the catalogue has no product in any category of the domain")
    counts = _round_to_total([num_records * cell["share"] / total for cell in usable], num_records)
    generator = np.random.default_rng(seed)
    conditions: list[Condition] = []
    for cell, count in zip(usable, counts, strict=True):
        for _ in range(count):
            title = str(generator.choice(titles[cell["category"]])) if needs_product else ""
            conditions.append(Condition(f"synthetic-{len(conditions):06d}", cell["rating"], cell["category"], title))
    return conditions


def _round_to_total(parts: Sequence[float], total: int) -> list[int]:
    """Whole numbers next to `parts` that sum to `total`: the largest remainders are rounded up."""
    counts = [int(part) for part in parts]
    by_remainder = sorted(range(len(parts)), key=lambda i: counts[i] - parts[i])
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts
