"""How long a run's records are, and what its prompts look like: of the demo's fiction, of a sample of the data, or as the user says."""

from __future__ import annotations

import contextlib
import io
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice, product
from pathlib import Path
from typing import Any

from penname.config import Config
from penname.errors import UsageError
from penname.generate.conditioning import read_catalogue
from penname.ingest.amazon_reviews import choose_category, open_products, open_reviews
from penname.ingest.cleaning import clean_text, clean_title, read_string
from penname.ingest.ingest import run_ingest
from penname.ingest.input_files import find_files
from penname.ingest.rejects import Reject
from penname.ingest.table import Table
from penname.ingest.tabular import check_table, read_table
from penname.ingest.unit_source import find_unit_source, name_unit_column
from penname.model.tokenize import TokenizedRecord, encode_prompt, encode_record
from penname.privacy.unit import group_by_unit
from penname.records.records import run_records
from penname.run_dir import RunDir, read_json, read_rows
from penname.schemas import RATINGS
from penname.stores.inputs import local_copy
from penname.template import RecordTemplate

_MAX_ROWS_READ = 50_000
_MAX_RECORDS = 1_000
_MAX_PRODUCTS = 500
_MAX_PROMPTS = 128
_SEED = 0

Lengths = list[TokenizedRecord]
"""A unit's records, made up of the lengths of real ones: no token of theirs is in it, their lengths are."""


@dataclass(frozen=True)
class Texts:
    """What a plan knows of a run's texts."""

    units: list[Lengths]
    """Some of the units of the training split, drawn at random. PRIVATE where is_private."""
    num_units: int
    """In the training split."""
    prompts: list[tuple[int, ...]]
    """Tokens of some prompts that the run may be asked with; of public attributes alone."""
    template: RecordTemplate
    source: str
    """Where the lengths are from, for a person."""
    is_private: bool
    """Whether the lengths were read from private data."""
    stage_secs: dict[str, float]
    """What the stages took that were run for this."""


def make_demo_texts(config: Config, tokenizer: Any, folder: Path) -> Texts:
    """The demo's own: its fiction is written, cleaned and split again in a temporary folder.

    Args:
      config: Its `data.format` is sample.
      tokenizer: Of the base model.
      folder: Empty.
    """
    run_dir, secs = RunDir(folder), dict[str, float]()
    # What the stages say of a run would be taken for this run's.
    with contextlib.redirect_stderr(io.StringIO()):
        for name, stage in (("ingest", run_ingest), ("records", run_records)):
            began = time.monotonic()
            stage(config, run_dir)
            secs[name] = time.monotonic() - began
    counts, rows = read_json(run_dir.path("records_counts")), list(read_rows(run_dir.path("train_records")))
    products = read_catalogue(run_dir.path("catalogue"))
    template = RecordTemplate.from_config(config.records, has_products=bool(products))
    groups = _shuffled(group_by_unit(row["unit_id"] for row in rows))
    units = (_keep_lengths(tokenizer, config, ((rows[i]["prompt"], rows[i]["completion"]) for i in group)) for group in groups)
    prompts = _encode_prompts(tokenizer, template, [(p.category, p.title) for p in products])
    return Texts(_take(units), counts["num_units"]["train"], prompts, template, "the demo's fiction", False, secs)


def assume_texts(config: Config, tokenizer: Any, *, num_units: int, record_tokens: int | None) -> Texts:
    """Every record of one length, which the user gives; no private data is touched.

    Args:
      config: Of the run.
      tokenizer: Of the base model.
      num_units: In the training split.
      record_tokens: Of a prompt and its completion; None: as many as a record may have.
    Raises:
      UsageError: the prompt alone is as long.
    """
    template, prompts = _read_public(config, tokenizer)
    most = config.train.max_record_tokens
    length, prompt = min(record_tokens or most, most), max(map(len, prompts))
    if length <= prompt:
        raise UsageError(f"--record-tokens: the prompt alone has {prompt} tokens; give the tokens of prompt and completion together")
    bound = 1 if config.privacy.unit == "record" else config.records.max_records_per_user
    source = "--record-tokens" if record_tokens else "train.max_record_tokens, the most; --record-tokens or --read-lengths give a nearer plan"
    return Texts([[_make_up(length, prompt)] * bound], num_units, prompts, template, source, False, {})


def sample_texts(config: Config, tokenizer: Any, *, num_units: int) -> Texts:
    """Lengths of some rows of the data.

    Args:
      config: Of the run.
      tokenizer: Of the base model.
      num_units: In the training split.
    Raises:
      DataError: the file cannot be used.
      UsageError: the mapping does not fit it, or it has no row with a title and a text.
    """
    table = _open_reviews(config)
    template, prompts = _read_public(config, tokenizer)
    field = find_unit_source(config.privacy, table).field
    rows = [row for row in islice(read_table(table, advance=lambda _: None), _MAX_ROWS_READ) if not isinstance(row, Reject)]
    read = [(_read_text(row.values), row.values.get(field) if field else i) for i, row in enumerate(rows)]
    known = [(text, str(unit)) for text, unit in read if text is not None and unit is not None]
    if not known:
        raise UsageError(f"{table.path}: has no row with a title and a text; say with --record-tokens how long a record is")
    generator = random.Random(_SEED)
    groups = _shuffled(group_by_unit(unit for _, unit in known))
    # Without replacement, as records.max_records_per_user is.
    bounded = (generator.sample(group, min(len(group), config.records.max_records_per_user)) for group in groups)
    asked = [generator.choice(prompts) for _ in known]
    units = (
        _keep_completions(tokenizer, config, [(asked[i], template.fill_completion(title=known[i][0][0], text=known[i][0][1])) for i in g]) for g in bounded
    )
    return Texts(_take(units), num_units, prompts, template, f"{table.path.name}, {len(rows):,} rows read", True, {})


def _take(units: Iterable[Lengths]) -> list[Lengths]:
    """Units until their records are enough."""
    taken: list[Lengths] = []
    count = 0
    for unit in units:
        if unit:
            taken.append(unit)
            count += len(unit)
        if count >= _MAX_RECORDS:
            break
    return taken


def _keep_lengths(tokenizer: Any, config: Config, texts: Iterable[tuple[str, str]]) -> Lengths:
    encoded = (encode_record(tokenizer, prompt, completion, max_tokens=config.train.max_record_tokens) for prompt, completion in texts)
    return [_make_up(len(record.token_ids), record.num_prompt_tokens) for record in encoded if record is not None]


def _keep_completions(tokenizer: Any, config: Config, texts: Iterable[tuple[tuple[int, ...], str]]) -> Lengths:
    most = config.train.max_record_tokens
    lengths = ((len(prompt), len(tokenizer(completion, add_special_tokens=False)["input_ids"]) + 1) for prompt, completion in texts)
    return [_make_up(min(most, prompt + completion), prompt) for prompt, completion in lengths if prompt < most]


def _make_up(length: int, num_prompt_tokens: int) -> TokenizedRecord:
    return TokenizedRecord([(7 * i + length) % 100 for i in range(length)], num_prompt_tokens)


def _shuffled(groups: Iterable[list[int]]) -> list[list[int]]:
    shuffled = list(groups)
    random.Random(_SEED).shuffle(shuffled)
    return shuffled


def _read_text(values: dict[str, Any]) -> tuple[str, str] | None:
    """Cleaned title and text of a row; None where one is missing."""
    title, text = (read_string(values.get(name), numbers=False) for name in ("title", "text"))
    if not title or not text:
        return None
    title, text = clean_title(title), clean_text(text)
    return (title, text) if title and text else None


def _open_reviews(config: Config) -> Table:
    data, column = config.data, config.privacy.unit_column
    # Of a folder or a pattern the first file stands for all.
    path = find_files(local_copy(data.reviews or ""), option="data.reviews")[0].path
    if data.format == "amazon_reviews_2023":
        table = open_reviews(path, encoding=data.encoding, unit_column=column)
    else:
        table = Table(path, data.columns | name_unit_column(column), encoding=data.encoding, delimiter=data.delimiter)
    check_table(table)
    return table


def _read_public(config: Config, tokenizer: Any) -> tuple[RecordTemplate, list[tuple[int, ...]]]:
    """The template, and prompts from the public catalogue or the public list of categories."""
    data = config.data
    has_products = data.catalogue is not None or ("product_title" in data.columns and data.products_are_public)
    template = RecordTemplate.from_config(config.records, has_products=has_products)
    if data.catalogue is not None:
        catalogue = find_files(local_copy(data.catalogue), option="data.catalogue")[0].path
        pairs = list(islice(_read_products(config, catalogue), _MAX_PRODUCTS))
    else:
        # Titles that stand in the reviews are not read for this, public or not: one of usual length stands for them.
        pairs = [(category, "Canvas tote bag with two pockets, black") for category in data.categories or []]
    return template, _encode_prompts(tokenizer, template, pairs)


def _read_products(config: Config, path: Path) -> Iterator[tuple[str, str]]:
    data = config.data
    read_category: Callable[[Any], str | None]
    if data.format == "amazon_reviews_2023":
        table = open_products(path, encoding=data.encoding)
        read_category = partial(choose_category, level=data.category_level)
    else:
        table = Table(path, data.catalogue_columns, encoding=data.encoding, delimiter=data.delimiter, option="data.catalogue_columns")
        read_category = partial(read_string, numbers=True)
    check_table(table)
    for row in read_table(table, advance=lambda _: None):
        if isinstance(row, Reject):
            continue
        category, title = read_category(row.values.get("category")), read_string(row.values.get("title"), numbers=False)
        if category and title:
            yield category, clean_title(title)


def _encode_prompts(tokenizer: Any, template: RecordTemplate, pairs: list[tuple[str, str]]) -> list[tuple[int, ...]]:
    """Some prompts of every rating with any of the categories and products."""
    if not pairs:
        raise UsageError("data: has no public category that a prompt could name")
    asked = list(product(pairs, RATINGS))
    random.Random(_SEED).shuffle(asked)
    filled = [template.fill_prompt(rating=rating, category=category, product_title=title) for (category, title), rating in asked[:_MAX_PROMPTS]]
    return [tuple(encode_prompt(tokenizer, prompt)) for prompt in filled]
