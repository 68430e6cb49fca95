"""Our table work in two engines as they come: read, filter, join, drop a user's copies, keep ten reviews a user, write Parquet parted by user.

It is what `penname ingest` and the bound of `penname records` do with tables, without their cleaning, their checks and their counts.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

MAX_RECORDS, NUM_PARTS = 10, 32
COLUMNS = ("rating", "title", "text", "user_id", "parent_asin")


def measure_polars(reviews: Path, products: Path, out: Path) -> dict[str, Any]:
    """Polars: one lazy query on its streaming engine, written by its partitioned sink."""
    import polars as pl

    out.mkdir()
    began = time.perf_counter()
    strings = dict.fromkeys(COLUMNS[1:], pl.String)
    rows = pl.scan_ndjson(reviews, schema={"rating": pl.Float64, **strings})
    catalogue = pl.scan_ndjson(products, schema={"parent_asin": pl.String, "title": pl.String, "categories": pl.List(pl.String)})
    catalogue = catalogue.filter(pl.col("title") != "", pl.col("categories").list.len() > 0).select("parent_asin", product_title="title")
    kept = rows.filter(pl.col("text").str.contains(r"\S")).join(catalogue.unique("parent_asin"), on="parent_asin").unique(list(COLUMNS))
    turn = pl.struct("text", "title").hash(seed=1).rank("ordinal").over("user_id")
    bounded = kept.filter(turn <= MAX_RECORDS).with_columns(part=pl.col("user_id").hash(seed=2) % NUM_PARTS).collect(engine="streaming")
    for (part,), piece in bounded.partition_by("part", as_dict=True, include_key=False).items():
        piece.write_parquet(out / f"part-{part:05d}.parquet")
    return {"num_kept": bounded.height, "secs": time.perf_counter() - began}


def measure_duckdb(reviews: Path, products: Path, out: Path) -> dict[str, Any]:
    """DuckDB: one SQL query under a limit of memory, two threads, written by its partitioned COPY."""
    import duckdb

    began = time.perf_counter()
    connection = duckdb.connect(config={"memory_limit": "4GB", "threads": 2, "temp_directory": str(out.with_name("spill")), "preserve_insertion_order": False})
    columns = "{rating: 'DOUBLE', title: 'VARCHAR', text: 'VARCHAR', user_id: 'VARCHAR', parent_asin: 'VARCHAR'}"
    query = f"""
        WITH catalogue AS (
            SELECT parent_asin, any_value(title) AS product_title
            FROM read_json($products, format = 'newline_delimited', columns = {{parent_asin: 'VARCHAR', title: 'VARCHAR', categories: 'VARCHAR[]'}})
            WHERE title <> '' AND len(categories) > 0 GROUP BY parent_asin
        ), kept AS (
            SELECT DISTINCT {", ".join(f"r.{name}" for name in COLUMNS)}, c.product_title
            FROM read_json($reviews, format = 'newline_delimited', columns = {columns}) r JOIN catalogue c USING (parent_asin)
            WHERE regexp_matches(r.text, '\\S')
        )
        SELECT *, hash(user_id) % {NUM_PARTS} AS part FROM kept
        QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY hash(text || title)) <= {MAX_RECORDS}
    """  # noqa: S608
    copy = f"COPY ({query}) TO '{out}' (FORMAT parquet, PARTITION_BY (part))"
    connection.execute(copy, {"products": str(products), "reviews": str(reviews)})
    (num_kept,) = connection.execute("SELECT count(*) FROM read_parquet($files)", {"files": f"{out}/*/*.parquet"}).fetchone() or (0,)
    return {"num_kept": num_kept, "secs": time.perf_counter() - began}
