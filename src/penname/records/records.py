"""The stage: reads reviews.parquet, writes train, heldout and test as prompt + completion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from penname.config import Config
from penname.errors import UsageError
from penname.privacy.unit import define_unit
from penname.progress import say
from penname.records.split import Part, Splits, check_splits, split_reviews
from penname.run_dir import RunDir, read_json, write_json, write_rows
from penname.schemas import Record, Review
from penname.template import RecordTemplate

_BATCH_ROWS = 10_000


def run_records(config: Config, run_dir: RunDir) -> None:
    """Splits units, bounds contributions, fills the template.

    Args:
      config: Section `records`; of `privacy` only whether the unit was asked for, ingest has chosen it.
      run_dir: Holds the artefacts reviews and ingest_counts; gets train_records, heldout_records, test_records and records_counts.
    Raises:
      UsageError: the template names a product where there is none.
      DataError: one unit owns all reviews, a split is empty, or a review names no unit.
    """
    reviews = list(_read_reviews(run_dir.path("reviews")))
    ingest_counts = read_json(run_dir.path("ingest_counts"))
    template = RecordTemplate.from_config(config.records, has_products=ingest_counts["num_products"] > 0)
    if template.needs_product_title and not ingest_counts["num_products"]:
        raise UsageError("records.prompt_template: names {product_title}, but this data has no products; write a template without it")
    # ingest chose the unit, from the config and the mapping: asked a second time, a file without its ids could choose another.
    privacy_unit = ingest_counts["privacy_unit"]
    splits = split_reviews(reviews, privacy_unit=privacy_unit, config=config.records)
    check_splits(splits, num_reviews=len(reviews), privacy_unit=privacy_unit, config=config.records)
    for split, parts in splits.parts.items():
        write_rows(run_dir.path(f"{split}_records"), (asdict(make_record(part, template)) for part in parts))
    _write_counts(config, run_dir, ingest_counts, splits)


def make_record(part: Part, template: RecordTemplate) -> Record:
    """Fills the template with one review. PRIVATE."""
    review = part.review
    prompt = template.fill_prompt(rating=review.rating, category=review.category, product_title=review.product_title)
    return Record(
        record_id=part.record_id,
        unit_id=part.unit_id,
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


def _write_counts(config: Config, run_dir: RunDir, ingest_counts: dict[str, Any], splits: Splits) -> None:
    unit, unit_column = ingest_counts["privacy_unit"], ingest_counts["unit_column"]
    num_records = {split: len(parts) for split, parts in splits.parts.items()}
    counts: dict[str, Any] = {
        "privacy_unit": unit,
        "unit_column": unit_column,
        "unit_definition": define_unit(unit, unit_column),
        "unit_note": _explain_unit(unit, unit_column, was_asked=config.privacy.unit == unit),
        "num_units": splits.num_units,
        "num_records": num_records,
        "max_records_per_unit": 1 if unit == "record" else config.records.max_records_per_user,
        "num_over_bound": splits.num_over_bound,
        "template_version": config.records.template_version,
        "category_domain": ingest_counts["categories"],
    }
    write_json(run_dir.path("records_counts"), counts)
    sizes = ", ".join(f"{num:,} {split}" for split, num in num_records.items())
    who = f"value of the column {unit_column}" if unit == "column" else unit
    over = f"; {splits.num_over_bound:,} over the bound left out" if splits.num_over_bound else ""
    say(f"records: {sizes}; the protected unit is the {who}{over}")


def _explain_unit(unit: str, unit_column: str | None, *, was_asked: bool) -> str:
    """What the split is by, for the report."""
    if unit == "user":
        return "Split by user: all reviews of one user are in the same split."
    if unit == "column":
        return (
            f"Split by the column {unit_column}, as asked: all reviews with one value of it are in the same split. "
            "A person whose reviews carry several values may be in several splits, and is protected for each value alone."
        )
    why = "as asked" if was_asked else "because there is no user id"
    return f"Split by record, {why}: reviews of one person may be in several splits, and the guarantee covers single reviews."
