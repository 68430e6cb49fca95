"""The stage: reads reviews.parquet, writes train, heldout and test as prompt + completion."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from penname.config import Config
from penname.errors import DataError, UsageError
from penname.privacy.unit import UNIT_DEFINITIONS, bound_contributions, group_by_unit
from penname.progress import say
from penname.records.split import SPLITS, Split, split_by_unit
from penname.run_dir import RunDir, read_json, write_json, write_rows
from penname.schemas import Record, Review
from penname.template import RecordTemplate

_BATCH_ROWS = 10_000


def run_records(config: Config, run_dir: RunDir) -> None:
    """Splits units, bounds contributions, fills the template.

    Args:
      config: Section `records`, and `privacy.unit`.
      run_dir: Holds the artefact reviews; gets train_records, heldout_records, test_records and records_counts.
    Raises:
      UsageError: the unit is the user and the data has no user ids.
      DataError: a split is empty, or the template names a product where there is none.
    """
    reviews = list(_read_reviews(run_dir.path("reviews")))
    unit = choose_unit(config.privacy.unit, has_user_ids=any(review.user_id is not None for review in reviews))
    ingest_counts = read_json(run_dir.path("ingest_counts"))
    template = RecordTemplate.from_config(config.records, has_products=ingest_counts["num_products"] > 0)
    if template.needs_product_title and not ingest_counts["num_products"]:
        raise UsageError("records.prompt_template: names {product_title}, but this data has no products; write a template without it")
    record_ids = _name_records(reviews)
    unit_ids = [review.user_id or "" for review in reviews] if unit == "user" else record_ids
    rows: dict[Split, list[Record]] = {split: [] for split in SPLITS}
    num_units: Counter[str] = Counter()
    num_over_bound = 0
    for positions in group_by_unit(unit_ids):
        split = split_by_unit(unit_ids[positions[0]], config.records)
        if split is None:
            continue
        num_units[split] += 1
        chosen = bound_contributions([record_ids[i] for i in positions], max_records=config.records.max_records_per_user, seed=config.records.seed)
        num_over_bound += len(positions) - len(chosen)
        rows[split].extend(make_record(reviews[positions[i]], record_ids[positions[i]], unit_ids[positions[i]], template) for i in chosen)
    for split in SPLITS:
        if not rows[split] and not (split == "heldout" and config.records.heldout_frac == 0):
            raise DataError(f"records: the split {split} is empty: {len(reviews)} reviews are too few for these shares; take more data or other shares")
        write_rows(run_dir.path(f"{split}_records"), (asdict(row) for row in rows[split]))
    _write_counts(config, run_dir, unit, rows, num_units, num_over_bound)


def choose_unit(wanted: str, *, has_user_ids: bool) -> str:
    """`user` or `record`.

    Raises:
      UsageError: the user is wanted and there are no user ids; none is ever made up.
    """
    if wanted == "user" and not has_user_ids:
        raise UsageError("privacy.unit: is user, but this data has no user ids; map data.columns.user_id, or set privacy.unit=record")
    if wanted == "auto":
        return "user" if has_user_ids else "record"
    return wanted


def make_record(review: Review, record_id: str, unit_id: str, template: RecordTemplate) -> Record:
    """Fills the template with one review. PRIVATE."""
    prompt = template.fill_prompt(rating=review.rating, category=review.category, product_title=review.product_title)
    return Record(
        record_id=record_id,
        unit_id=unit_id,
        prompt=prompt,
        completion=template.fill_completion(title=review.title, text=review.text),
        rating=review.rating,
        category=review.category,
        product_title=review.product_title,
        title=review.title,
        text=review.text,
    )


def _read_reviews(path: Path) -> Iterator[Review]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_BATCH_ROWS):
            for row in batch.to_pylist():
                yield Review(**row)


def _name_records(reviews: list[Review]) -> list[str]:
    """Ids from content, not from line numbers: removing one row must not rename the others, or the splits of all would move."""
    seen: Counter[str] = Counter()
    names: list[str] = []
    for review in reviews:
        content = "\0".join((review.user_id or "", str(review.rating), review.product_id, review.category, review.title, review.text))
        name = hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest()[:24]
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return names


def _write_counts(config: Config, run_dir: RunDir, unit: str, rows: dict[Split, list[Record]], num_units: Counter[str], num_over_bound: int) -> None:
    has_ids = unit == "user"
    asked = config.privacy.unit
    if has_ids:
        note = "Split by user: all reviews of one user are in the same split."
    elif asked == "record":
        note = "Split by record, as asked: reviews of one person may be in several splits, and the guarantee covers single reviews."
    else:
        note = "Split by record, because there is no user id: reviews of one person may be in several splits, and the guarantee covers single reviews."
    counts: dict[str, Any] = {
        "privacy_unit": unit,
        "unit_definition": UNIT_DEFINITIONS[unit],
        "unit_note": note,
        "num_units": {split: num_units[split] for split in SPLITS},
        "num_records": {split: len(rows[split]) for split in SPLITS},
        "max_records_per_unit": config.records.max_records_per_user if unit == "user" else 1,
        "num_over_bound": num_over_bound,
        "template_version": config.records.template_version,
        "category_domain": read_json(run_dir.path("ingest_counts"))["categories"],
    }
    write_json(run_dir.path("records_counts"), counts)
    sizes = ", ".join(f"{len(rows[split]):,} {split}" for split in SPLITS)
    say(f"records: {sizes}; the protected unit is the {unit}" + (f"; {num_over_bound:,} over the bound left out" if num_over_bound else ""))
