"""The stage: reads the reviews part by part, writes train, heldout and test as prompt + completion."""

from __future__ import annotations

import os
import re
import string
from contextlib import ExitStack
from dataclasses import fields
from functools import partial
from typing import IO, Any

from penname.config import Config, RecordsConfig
from penname.distributed.ahead import map_ahead
from penname.errors import UsageError
from penname.privacy.unit import define_unit
from penname.progress import say
from penname.records.split import RECORD_ID, SPLITS, UNIT, Split, Splits, Totals, check_splits, split_reviews
from penname.records.units import Units, read_units
from penname.run_dir import RunDir, read_json, write_atomic, write_json
from penname.schemas import Record
from penname.template import RecordTemplate


def run_records(config: Config, run_dir: RunDir) -> None:
    """Splits units, bounds contributions, fills the template; memory holds some ten thousands of reviews.

    Args:
      config: Section `records`; of `privacy` only whether the unit was asked for, ingest has chosen it.
      run_dir: Holds the artefacts reviews and ingest_counts; gets train_records, heldout_records, test_records and records_counts.
    Raises:
      UsageError: the template names a product where there is none.
      DataError: one unit owns all reviews, a split is empty, or a review names no unit.
    """
    ingest_counts = read_json(run_dir.path("ingest_counts"))
    template = RecordTemplate.from_config(config.records, has_products=ingest_counts["num_products"] > 0)
    if template.needs_product_title and not ingest_counts["num_products"]:
        raise UsageError("records.prompt_template: names {product_title}, but this data has no products; write a template without it")
    # ingest chose the unit, from the config and the mapping: asked a second time, a file without its ids could choose another.
    privacy_unit = ingest_counts["privacy_unit"]
    totals = Totals()
    with ExitStack() as stack:
        handles: dict[Split, IO[bytes]] = {split: stack.enter_context(write_atomic(run_dir.path(f"{split}_records"), "wb")) for split in SPLITS}
        work = partial(_make_all_records, privacy_unit=privacy_unit, config=config.records, template=template)
        for units, splits, records in map_ahead(work, read_units(run_dir.path("reviews"), privacy_unit=privacy_unit, config=config.records)):
            totals.add(splits, num_reviews=units.reviews.height, num_left_out=units.num_left_out)
            for split, frame in records.items():
                write_lines(frame, handles[split])
        check_splits(totals, privacy_unit=privacy_unit, config=config.records)
    _write_counts(config, run_dir, ingest_counts, totals)


def _make_all_records(units: Units, *, privacy_unit: str, config: RecordsConfig, template: RecordTemplate) -> tuple[Units, Splits, dict[Split, Any]]:
    """Some units, who of them is where, and their records by split. PRIVATE."""
    splits = split_reviews(units.reviews, privacy_unit=privacy_unit, config=config)
    return units, splits, {split: make_records(parts, template) for split, parts in splits.parts.items()}


def make_records(parts: Any, template: RecordTemplate) -> Any:
    """Fills the template with reviews.

    Args:
      parts: Polars frame of reviews with UNIT and RECORD_ID. PRIVATE.
      template: Of the run.
    Returns:
      Polars frame with the fields of `Record`. PRIVATE.
    """
    import polars as pl

    filled = parts.with_columns(
        fill_columns(template.prompt, parts).alias("prompt"),
        fill_columns(template.completion, parts.with_columns(_mend_texts(parts["text"], template))).alias("completion"),
        unit_id=pl.col(UNIT),
        record_id=pl.col(RECORD_ID),
    )
    return filled.select(field.name for field in fields(Record))


def fill_columns(template: str, rows: Any) -> Any:
    """`template.format` of every row.

    Args:
      template: With names of columns in braces, checked by the config.
      rows: Polars frame. PRIVATE.
    Returns:
      Polars Series. PRIVATE.
    """
    import polars as pl

    parts: list[Any] = []
    for literal, field, _, _ in string.Formatter().parse(template):
        parts.append(pl.lit(literal))
        if field is not None:
            parts.append(pl.col(field).cast(pl.String))
    return rows.select(pl.concat_str(parts)).to_series()


def _mend_texts(texts: Any, template: RecordTemplate) -> Any:
    """`template.mend_text` of every text."""
    while template.end and texts.str.contains(template.end, literal=True).any():
        texts = texts.str.replace_all(template.end, template.end[:-1], literal=True)
    return texts


def write_lines(records: Any, handle: IO[bytes]) -> None:
    """Writes a frame as JSON lines, past the interpreter.

    Args:
      records: Polars frame. PRIVATE.
      handle: A file on disk, to which nobody else writes.
    Raises:
      OSError: as Python raises it, with its number: Polars tells it in words only.
    """
    try:
        records.write_ndjson(handle)
    except OSError as error:
        told = re.search(r"\(os error (\d+)\)", str(error))
        if error.errno is not None or told is None:
            raise
        raise OSError(int(told[1]), os.strerror(int(told[1]))) from None


def _write_counts(config: Config, run_dir: RunDir, ingest_counts: dict[str, Any], totals: Totals) -> None:
    unit, unit_column = ingest_counts["privacy_unit"], ingest_counts["unit_column"]
    num_records = {split: totals.num_records[split] for split in SPLITS}
    counts: dict[str, Any] = {
        "privacy_unit": unit,
        "unit_column": unit_column,
        "unit_definition": define_unit(unit, unit_column),
        "unit_note": _explain_unit(unit, unit_column, was_asked=config.privacy.unit == unit),
        "num_units": {split: totals.num_units[split] for split in SPLITS},
        "num_records": num_records,
        "max_records_per_unit": 1 if unit == "record" else config.records.max_records_per_user,
        "num_over_bound": totals.num_over_bound,
        "template_version": config.records.template_version,
        "category_domain": ingest_counts["categories"],
    }
    write_json(run_dir.path("records_counts"), counts)
    sizes = ", ".join(f"{num:,} {split}" for split, num in num_records.items())
    who = f"value of the column {unit_column}" if unit == "column" else unit
    over = f"; {totals.num_over_bound:,} over the bound left out" if totals.num_over_bound else ""
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
