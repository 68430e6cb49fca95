"""The stage: raw reviews and their catalogue become clean Parquet files, and every dropped row is counted."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from penname.errors import RunDirError
from penname.ingest.catalogue import Catalogue, CatalogueReader, build_domain, public_products
from penname.ingest.parquet_writer import write_parquet
from penname.ingest.parts import FinishedPart, finish_part
from penname.ingest.rejects import Tally, count_file
from penname.ingest.review_workers import NumberedChunk, ReviewWorkers, Seen, open_workers
from penname.ingest.reviews import ReviewRules
from penname.ingest.sample import write_sample
from penname.ingest.sources import Sources, TableFiles, find_sources
from penname.ingest.spill import Part, choose_num_bits
from penname.ingest.tabular import read_chunks
from penname.ingest.unit_source import check_unit_ids
from penname.progress import Progress, say, show_progress
from penname.run_dir import RunDir, hash_path, replace_folder, write_atomic, write_json
from penname.schemas import Product

if TYPE_CHECKING:
    from penname.config import Config, DataConfig, EngineConfig

COUNTS_VERSION = 3
# What packed text holds is this many times its size on disk; only how many parts there are follows from it.
_UNPACKED = {".gz": 4, ".zst": 5, ".parquet": 4}


def run_ingest(config: Config, run_dir: RunDir) -> None:
    """Reads the data set of config.data and writes the artefacts reviews, catalogue, rejects and ingest_counts.

    Memory holds the catalogue, and in each process that works a few chunks of rows or one part of the reviews, whatever the size of the data.

    Args:
      config: Its section `data` counts, of `privacy` the unit and its column, and `engine` says who cleans.
      run_dir: Where the artefacts go. Nothing is replaced unless the whole stage succeeds.
    Raises:
      DataError: a file cannot be used, too many rows cannot be read, a row does not say to which unit it belongs, or none is left.
      UsageError: the mapping or an option does not fit the files.
      RunDirError: the run folder cannot be written.
      EngineError: the cluster does not answer, workers are lost again and again, or a process of this machine was lost.
    """
    here = _find_here(config.data)
    try:
        data = write_sample(here, run_dir) if here.format == "sample" else here
        sources = find_sources(data, config.privacy)
        for files in (sources.reviews, sources.products):
            if files is not None:
                files.check()
        counts = {"schema_version": COUNTS_VERSION, "format": config.data.format, **_read_and_write(data, sources, run_dir, config.engine)}
        write_json(run_dir.path("ingest_counts"), counts)
    except OSError as error:
        raise RunDirError(f"{run_dir.root}: cannot be written: {error.strerror or error}; make room or choose another --out") from None
    say(_summary(counts))


def _find_here(data: DataConfig) -> DataConfig:
    """Files that lie in a store are fetched first; the others stay where they are."""
    from penname.stores.inputs import local_copy

    return data.model_copy(update={key: str(local_copy(value)) for key in ("reviews", "catalogue") if (value := getattr(data, key)) is not None})


def _read_and_write(data: DataConfig, sources: Sources, run_dir: RunDir, engine: EngineConfig) -> dict[str, Any]:
    """Everything under temporary names first; the files appear when all is well. Returns the counts."""
    with ExitStack() as stack:
        rejects = stack.enter_context(write_atomic(run_dir.path("rejects"), "wb"))
        progress = stack.enter_context(show_progress("ingest", sum(files.num_bytes for files in sources.all_files)))
        folder = stack.enter_context(replace_folder(run_dir.path("reviews")))
        num_bytes = sum(_guess_bytes(file.path) for file in sources.reviews.files)
        workers = open_workers(stack, engine, num_bytes=num_bytes)
        products, product_tally = _read_products(data, sources, rejects, progress)
        rules = ReviewRules(
            fields=tuple(sources.reviews.columns),
            needed=sources.needed,
            domain=build_domain(data.categories, products),
            products=products,
            category_from_product=sources.category_from_product,
            unit_field=sources.unit.field,
        )
        tally = Tally(sources.reviews.path, rejects, max_malformed_frac=data.max_malformed_frac)
        num_bits = choose_num_bits(num_bytes)
        _clean_reviews(sources.reviews, tally, progress, partial(workers.clean, rules, folder=folder / ".spill", num_bits=num_bits))
        tally.check_malformed()
        check_unit_ids(tally, sources.unit, drop_rows_without_id=data.drop_rows_without_id)
        with ThreadPoolExecutor(1) as beside:
            hashes = beside.submit(_hash_files, sources)
            named = _finish_parts(workers, folder, tally, rules, num_bits)
        shutil.rmtree(folder / ".spill")
        tally.check_not_empty(num_kept=tally.as_counts()["kept"], rows="reviews")
        public = named if products is None else public_products(products, rules.domain)
        stack.enter_context(write_parquet(run_dir.path("catalogue"), Product))(public)
    return {
        **tally.as_counts(),
        "has_user_id": "user_id" in rules.fields,
        "privacy_unit": sources.unit.privacy_unit,
        "unit_column": sources.unit.column if sources.unit.privacy_unit == "column" else None,
        "categories": list(rules.domain.values()),
        "categories_source": "config" if data.categories is not None else "catalogue",
        "products_are_public": data.products_are_public or products is not None,
        "num_products": len(public),
        "catalogue": product_tally.as_counts() if product_tally is not None else None,
        "sources": [*_describe_sources("catalogue", product_tally, hashes.result()), *_describe_sources("reviews", tally, hashes.result())],
    }


def _read_products(data: DataConfig, sources: Sources, rejects: IO[bytes], progress: Progress) -> tuple[Catalogue | None, Tally | None]:
    files = sources.products
    if files is None:
        return None, None
    tally = Tally(files.path, rejects, max_malformed_frac=data.max_malformed_frac)
    reader = CatalogueReader(read_category=sources.read_category)
    for file, table in zip(files.files, files.tables, strict=True):
        tally.begin_file(file.path, file.name)
        for chunk in read_chunks(table, advance=progress.advance):
            found, num_read = reader.add(chunk)
            tally.add(found, num_read=num_read)
    products = reader.finish()
    tally.check_malformed()
    tally.check_not_empty(num_kept=len(products), rows="products")
    return products, tally


def _clean_reviews(files: TableFiles, tally: Tally, progress: Progress, clean: Callable[[Iterator[NumberedChunk]], Iterator[Seen]]) -> None:
    """Passes the reviews through, file by file."""

    def read_all() -> Iterator[NumberedChunk]:
        for number, table in enumerate(files.tables):
            for chunk in read_chunks(table, advance=progress.advance):
                yield number, chunk

    begun = -1
    for seen in clean(read_all()):
        while begun < seen.file:
            begun += 1
            tally.begin_file(files.files[begun].path, files.files[begun].name)
        tally.add(seen.rejects, num_read=seen.num_read)
    for file in files.files[begun + 1 :]:
        tally.begin_file(file.path, file.name)


def _finish_parts(workers: ReviewWorkers, folder: Path, tally: Tally, rules: ReviewRules, num_bits: int) -> Any:
    """Writes the parts; returns the products that the reviews name, as a frame, where those are public."""
    import polars as pl

    names = [file.name for file in tally.files]
    with_products = rules.products is None and "product_title" in rules.fields
    products: set[tuple[str, str, str]] = set()
    finish = partial(_finish_numbered, folder=folder, file_names=names, unit_field=rules.unit_field, start=num_bits, with_products=with_products)
    for done in workers.finish(finish):
        tally.drop_later("duplicate", done.copies.iter_rows())
        products.update(done.products)
    return pl.DataFrame(sorted(products), schema=dict.fromkeys(("product_id", "title", "category"), pl.String), orient="row")


def _finish_numbered(numbered: tuple[int, Part], *, folder: Path, **how: Any) -> FinishedPart:
    number, part = numbered
    return finish_part(part, folder / f"part-{number:05d}.parquet", **how)


def _guess_bytes(path: Path) -> int:
    return path.stat().st_size * _UNPACKED.get(path.suffix.lower(), 1)


def _hash_files(sources: Sources) -> dict[Path, str]:
    return {file.path: hash_path(file.path) for files in sources.all_files for file in files.files}


def _describe_sources(role: str, tally: Tally | None, hashes: dict[Path, str]) -> list[dict[str, Any]]:
    files = tally.files if tally is not None else []
    return [{"role": role, "file": file.name, "num_bytes": file.path.stat().st_size, "sha256": hashes[file.path], **count_file(file)} for file in files]


def _summary(counts: dict[str, Any]) -> str:
    rejects = ", ".join(f"{reason} {num:,}" for reason, num in counts["rejects"].items())
    rejected = f"; rejected: {rejects}" if rejects else ""
    products = f", {counts['num_products']:,} public products" if counts["num_products"] else ""
    return f"ingest: kept {counts['kept']:,} of {counts['rows_read']:,} reviews, {len(counts['categories'])} categories{products}{rejected}"
