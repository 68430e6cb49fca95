"""The stage: reads the reviews part by part, writes train, heldout and test as prompt + completion."""

from __future__ import annotations

from contextlib import ExitStack
from typing import IO, Any

from penname.config import Config
from penname.errors import UsageError
from penname.privacy.unit import define_unit
from penname.progress import say
from penname.records.part_records import RecordRules
from penname.records.part_workers import write_parts
from penname.records.split import SPLITS, Split, SplitRules, Totals, check_splits
from penname.records.units import find_parts
from penname.run_dir import RunDir, read_json, write_atomic, write_json
from penname.template import RecordTemplate


def run_records(config: Config, run_dir: RunDir) -> None:
    """Splits units, bounds contributions, fills the template; memory holds some ten thousands of reviews a process.

    Args:
      config: Section `records`; of `privacy` only whether the unit was asked for, ingest has chosen it.
      run_dir: Holds the artefacts reviews and ingest_counts; gets train_records, heldout_records, test_records and records_counts.
    Raises:
      UsageError: the template names a product where there is none.
      DataError: one unit owns all reviews, a split is empty, a review names no unit, or a unit comes twice.
      RunDirError: a part of the reviews is missing or damaged.
      EngineError: a process that did part of the work was lost.
    """
    ingest_counts = read_json(run_dir.path("ingest_counts"))
    template = RecordTemplate.from_config(config.records, has_products=ingest_counts["num_products"] > 0)
    if template.needs_product_title and not ingest_counts["num_products"]:
        raise UsageError("records.prompt_template: names {product_title}, but this data has no products; write a template without it")
    # ingest chose the unit, from the config and the mapping: asked a second time, a file without its ids could choose another.
    privacy_unit = ingest_counts["privacy_unit"]
    rules = RecordRules(privacy_unit, SplitRules.from_config(config.records), template)
    paths = find_parts(run_dir.path("reviews"))
    with ExitStack() as stack:
        handles: dict[Split, IO[bytes]] = {split: stack.enter_context(write_atomic(run_dir.path(f"{split}_records"), "wb")) for split in SPLITS}
        totals = write_parts(rules, paths, handles, folder=run_dir.path("train_records").parent)
        check_splits(totals, privacy_unit=privacy_unit, rules=rules.split)
    _write_counts(config, run_dir, ingest_counts, totals)


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
