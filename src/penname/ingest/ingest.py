"""The stage: raw reviews and their catalogue become clean Parquet files, and every dropped row is counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from penname.config import Config, DataConfig, PrivacyConfig
from penname.errors import RunDirError, UsageError
from penname.ingest import amazon_reviews
from penname.ingest.catalogue import build_domain, public_products, read_catalogue
from penname.ingest.cleaning import read_string
from penname.ingest.duplicates import DuplicateFilter
from penname.ingest.parquet_writer import write_parquet
from penname.ingest.rejects import Reject, Tally
from penname.ingest.reviews import ReviewRules, build_review
from penname.ingest.tabular import Table, check_table, read_table
from penname.ingest.unit_source import UnitSource, check_unit_ids, find_unit_source, name_unit_column
from penname.progress import Progress, say, show_progress
from penname.run_dir import RunDir, hash_path, replace_folder, write_atomic, write_json
from penname.schemas import Product, Review

COUNTS_VERSION = 2
_SAMPLE_MARK = "sample.json"
_SAMPLE_REVIEWS = "Cell_Phones_and_Accessories.jsonl"
_SAMPLE_PRODUCTS = "meta_Cell_Phones_and_Accessories.jsonl"
_ALWAYS_NEEDED = ("rating", "text", "title", "category")


@dataclass(frozen=True, slots=True)
class _Sources:
    """The files of one run and how to read them."""

    reviews: Table
    unit: UnitSource
    needed: tuple[str, ...]
    products: Table | None
    read_category: Callable[[Any], str | None]
    """Turns the raw category of a product into text."""
    category_from_product: bool


def run_ingest(config: Config, run_dir: RunDir) -> None:
    """Reads the data set of config.data and writes the artefacts reviews, catalogue, rejects and ingest_counts.

    Memory holds the catalogue, a 16-byte hash of every kept review and one row group; the reviews pass through row by row.

    Args:
      config: Its section `data` counts, and of `privacy` the unit and its column.
      run_dir: Where the artefacts go. Nothing is replaced unless the whole stage succeeds.
    Raises:
      DataError: a file cannot be used, too many rows cannot be read, a row does not say to which unit it belongs, or none is left.
      UsageError: the mapping or an option does not fit the files.
      RunDirError: the run folder cannot be written.
    """
    try:
        data = _write_sample(config.data, run_dir) if config.data.format == "sample" else config.data
        sources = _find_sources(data, config.privacy)
        for table in (sources.reviews, sources.products):
            if table is not None:
                check_table(table)
        counts = {"schema_version": COUNTS_VERSION, "format": config.data.format, **_read_and_write(data, sources, run_dir)}
        write_json(run_dir.path("ingest_counts"), counts)
    except OSError as error:
        raise RunDirError(f"{run_dir.root}: cannot be written: {error.strerror or error}; make room or choose another --out") from None
    say(_summary(counts))


def _write_sample(data: DataConfig, run_dir: RunDir) -> DataConfig:
    """Writes the fictional marketplace unless this very one is there, and says where to read it."""
    folder = run_dir.path("sample_data")
    wanted = {"num_reviews": data.sample_num_reviews, "seed": data.sample_seed}
    if not _is_sample(folder, wanted):
        from penname.ingest.sample_data import write_sample_data

        with replace_folder(folder) as new:
            write_sample_data(new, num_reviews=data.sample_num_reviews, seed=data.sample_seed)
            write_json(new / _SAMPLE_MARK, wanted)
    files = {"reviews": str(folder / _SAMPLE_REVIEWS), "catalogue": str(folder / _SAMPLE_PRODUCTS)}
    return data.model_copy(update={"format": "amazon_reviews_2023", "encoding": "utf-8", **files})


def _is_sample(folder: Path, wanted: dict[str, int]) -> bool:
    try:
        found = json.loads((folder / _SAMPLE_MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return found == wanted and (folder / _SAMPLE_REVIEWS).is_file() and (folder / _SAMPLE_PRODUCTS).is_file()


def _find_sources(data: DataConfig, privacy: PrivacyConfig) -> _Sources:
    """Which files, by which mapping."""
    reviews, catalogue = Path(data.reviews or ""), Path(data.catalogue) if data.catalogue else None
    if data.format == "amazon_reviews_2023" and catalogue is not None:
        table = amazon_reviews.open_reviews(reviews, encoding=data.encoding, unit_column=privacy.unit_column)
        return _Sources(
            reviews=table,
            unit=find_unit_source(privacy, table),
            needed=("rating", "text", "title", "product_id"),
            products=amazon_reviews.open_products(catalogue, encoding=data.encoding),
            read_category=lambda value: amazon_reviews.choose_category(value, level=data.category_level),
            category_from_product=True,
        )
    if catalogue is None and "product_title" in data.columns and not data.products_are_public:
        raise UsageError(
            "data.columns: product_title is mapped, but the titles may stand in prompts only if they are public knowledge; "
            "set data.products_are_public: true if they are, give a public data.catalogue, or remove product_title from the mapping"
        )
    options = {"encoding": data.encoding, "delimiter": data.delimiter}
    table = Table(reviews, data.columns | name_unit_column(privacy.unit_column), **options)
    return _Sources(
        reviews=table,
        unit=find_unit_source(privacy, table),
        needed=_ALWAYS_NEEDED,
        products=Table(catalogue, data.catalogue_columns, option="data.catalogue_columns", **options) if catalogue is not None else None,
        read_category=lambda value: read_string(value, numbers=True),
        category_from_product=False,
    )


def _read_and_write(data: DataConfig, sources: _Sources, run_dir: RunDir) -> dict[str, Any]:
    """Everything under temporary names first; the files appear when all is well. Returns the counts."""
    tables = [table for table in (sources.products, sources.reviews) if table is not None]
    with ExitStack() as stack:
        rejects = stack.enter_context(write_atomic(run_dir.path("rejects")))
        progress = stack.enter_context(show_progress("ingest", sum(table.path.stat().st_size for table in tables)))
        products, product_tally = _read_products(data, sources, rejects, progress)
        domain = build_domain(data.categories, products.values() if products is not None else [])
        rules = ReviewRules(
            file_name=_printable(sources.reviews.path.name),
            fields=tuple(sources.reviews.columns),
            needed=sources.needed,
            domain=domain,
            products=products,
            category_from_product=sources.category_from_product,
            unit_field=sources.unit.field,
        )
        tally = Tally(sources.reviews.path, rejects, max_malformed_frac=data.max_malformed_frac)
        add_review = stack.enter_context(write_parquet(run_dir.path("reviews"), Review))
        named: dict[Product, None] | None = {} if products is None and "product_title" in rules.fields else None
        num_kept = _read_reviews(sources.reviews, rules, tally, progress, add_review, named)
        tally.check_malformed()
        check_unit_ids(tally, sources.unit, drop_rows_without_id=data.drop_rows_without_id)
        tally.check_not_empty(num_kept=num_kept, rows="reviews")

        public = list(named or ()) if products is None else list(public_products(products.values(), domain))
        add_product = stack.enter_context(write_parquet(run_dir.path("catalogue"), Product))
        for product in public:
            add_product(product)
        counts: dict[str, Any] = tally.as_counts(num_kept)
        counts["has_user_id"] = "user_id" in rules.fields
        counts["privacy_unit"] = sources.unit.privacy_unit
        counts["unit_column"] = sources.unit.column if sources.unit.privacy_unit == "column" else None
        counts["categories"] = list(domain.values())
        counts["categories_source"] = "config" if data.categories is not None else "catalogue"
        counts["products_are_public"] = data.products_are_public or products is not None
        counts["num_products"] = len(public)
        counts["catalogue"] = product_tally.as_counts(len(products)) if product_tally is not None and products is not None else None
        counts["sources"] = [_describe_source(table, "reviews" if table is sources.reviews else "catalogue") for table in tables]
    return counts


def _read_products(data: DataConfig, sources: _Sources, rejects: IO[str], progress: Progress) -> tuple[dict[str, Product] | None, Tally | None]:
    if sources.products is None:
        return None, None
    tally = Tally(sources.products.path, rejects, max_malformed_frac=data.max_malformed_frac)
    rows = read_table(sources.products, advance=progress.advance)
    return read_catalogue(rows, tally, read_category=sources.read_category), tally


def _read_reviews(
    table: Table,
    rules: ReviewRules,
    tally: Tally,
    progress: Progress,
    add_review: Callable[[Review], None],
    named: dict[Product, None] | None,
) -> int:
    """Passes the reviews through, and collects in `named` the products that they name, where those are public; returns how many are kept."""
    duplicates = DuplicateFilter()
    num_kept = 0
    for row in read_table(table, advance=progress.advance):
        if isinstance(row, Reject):
            tally.reject(row, was_counted=False)
            continue
        tally.count_row()
        review = build_review(row, rules)
        if isinstance(review, Review) and duplicates.is_duplicate(review):
            review = Reject(row.line, "duplicate")
        if isinstance(review, Reject):
            tally.reject(review, was_counted=True)
            continue
        add_review(review)
        num_kept += 1
        if named is not None:
            named[Product(review.product_id or review.product_title, review.product_title, review.category)] = None
    return num_kept


def _describe_source(table: Table, role: str) -> dict[str, Any]:
    return {"role": role, "file": _printable(table.path.name), "num_bytes": table.path.stat().st_size, "sha256": hash_path(table.path)}


def _printable(name: str) -> str:
    """A file name may hold bytes that no UTF-8 file can."""
    return name.encode("utf-8", "replace").decode()


def _summary(counts: dict[str, Any]) -> str:
    rejects = ", ".join(f"{reason} {num:,}" for reason, num in counts["rejects"].items())
    rejected = f"; rejected: {rejects}" if rejects else ""
    products = f", {counts['num_products']:,} public products" if counts["num_products"] else ""
    return f"ingest: kept {counts['kept']:,} of {counts['rows_read']:,} reviews, {len(counts['categories'])} categories{products}{rejected}"
