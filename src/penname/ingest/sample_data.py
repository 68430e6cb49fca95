"""The embedded default data: a fictional marketplace in the Amazon Reviews 2023 layout, written as a stream."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from penname.errors import RunDirError, UsageError
from penname.run_dir import write_atomic

if TYPE_CHECKING:
    from penname.ingest.marketplace.products import Product
    from penname.ingest.marketplace.writers import Writer

REVIEWS_FILE = "Cell_Phones_and_Accessories.jsonl"
METADATA_FILE = "meta_Cell_Phones_and_Accessories.jsonl"
FACTS_FILE = "facts.json"
FACTS_VERSION = 1

_FIRST_TIME_MS = 1_388_534_400_000
_LAST_TIME_MS = 1_693_526_400_000
"""January 2014 to September 2023."""
_DAY_MS = 86_400_000
_IMAGE_FRAC = 0.05
_VERIFIED_FRAC = 0.93
_POPULARITY_EXPONENT = 0.75
"""Product number i is reviewed in proportion to (i + 3)^-0.75."""
_NUM_DELISTED_FRAC = 0.1
"""Products that reviews name and the metadata lacks, per listed product."""


def write_sample_data(folder: Path, *, num_reviews: int, seed: int) -> None:
    """Writes a fictional marketplace: reviews, product metadata, and the facts of each product.

    The same seed and number give the same bytes. Memory does not grow with the number of reviews, only with that of products.

    Args:
      folder: Where to; made if it is missing. Files of the same names are replaced, each in one rename.
      num_reviews: Rows of the review file, >= 1.
      seed: Of the whole marketplace, >= 0.
    Raises:
      UsageError: num_reviews is below 1 or seed below 0.
      RunDirError: the folder cannot be written to.
    Source: layout of Amazon Reviews 2023, Hou et al. (2024). https://arxiv.org/abs/2403.03952
    """
    import orjson

    from penname.ingest.marketplace.products import count_products, describe_facts, make_products, write_metadata

    if num_reviews < 1:
        raise UsageError(f"--reviews {num_reviews}: needs at least one review")
    if seed < 0:
        raise UsageError(f"--seed {seed}: must be 0 or more")
    num_products = count_products(num_reviews)
    products = make_products(seed, num_products, group="listed")
    delisted = make_products(seed, max(2, round(_NUM_DELISTED_FRAC * num_products)), group="delisted")
    facts = {"schema_version": FACTS_VERSION, "seed": seed, "products": describe_facts(products)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            reviews_file, metadata_file, facts_file = (
                stack.enter_context(write_atomic(folder / name, "wb")) for name in (REVIEWS_FILE, METADATA_FILE, FACTS_FILE)
            )
            facts_file.write(orjson.dumps(facts, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
            for row in write_metadata(products, seed):
                metadata_file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
            for row in iterate_reviews(products, delisted, num_reviews=num_reviews, seed=seed):
                reviews_file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    except OSError as error:
        raise RunDirError(f"{folder}: cannot write the sample data ({error.strerror}); choose another folder or free some space") from None


def iterate_reviews(products: list[Product], delisted: list[Product], *, num_reviews: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yields review rows, one user after the other as in the Amazon files.

    Args:
      products: Listed products.
      delisted: Products that the metadata lacks.
      num_reviews: How many rows.
      seed: Of the marketplace.
    Returns:
      One dict a row, every field of the layout.
    """
    from faker import Faker

    from penname.ingest.marketplace.products import rank_by_popularity
    from penname.ingest.marketplace.writers import make_writer

    faker = Faker("en_US", use_weighting=False)
    shelf = _Shelf(rank_by_popularity(products, seed), delisted)
    num_written = index = 0
    while num_written < num_reviews:
        writer = make_writer(seed, index)
        rng = Random(f"{seed}/reviews/{index}")
        for row in _write_user(writer, shelf, faker, rng):
            yield row
            num_written += 1
            if num_written == num_reviews:
                break
        index += 1


class _Shelf:
    """What can be bought, by popularity."""

    def __init__(self, products: list[Product], delisted: list[Product]) -> None:
        self._products, self._delisted = products, delisted
        self._cumulative = list(accumulate((i + 3) ** -_POPULARITY_EXPONENT for i in range(len(products))))

    def draw(self, rng: Random) -> Product:
        """One product; now and then one that the metadata lacks."""
        from penname.ingest.marketplace.dirt import ORPHAN_FRAC

        if rng.random() < ORPHAN_FRAC:
            return rng.choice(self._delisted)
        return self._products[bisect(self._cumulative, rng.random() * self._cumulative[-1])]


def _write_user(writer: Writer, shelf: _Shelf, faker: Any, rng: Random) -> Iterator[dict[str, Any]]:
    """The rows of one user, duplicates included, at most as many as the writer has."""
    from penname.ingest.marketplace.dirt import EXACT_DUPLICATE_FRAC, NEAR_DUPLICATE_FRAC, change_few_words
    from penname.ingest.marketplace.writers import MAX_REVIEWS_PER_USER

    time_ms = rng.randint(_FIRST_TIME_MS, _LAST_TIME_MS - 400 * _DAY_MS)
    bought: set[str] = set()
    num_rows = 0
    while num_rows < writer.num_reviews:
        product = shelf.draw(rng)
        for _ in range(5):
            if product.parent_asin not in bought:
                break
            product = shelf.draw(rng)
        bought.add(product.parent_asin)
        time_ms = min(_LAST_TIME_MS, time_ms + int(rng.expovariate(1 / (40 * _DAY_MS))))
        row = _write_row(writer, product, time_ms, faker, rng)
        yield row
        num_rows += 1
        draw = rng.random()
        # A writer of one review who posts it twice has two.
        if draw < EXACT_DUPLICATE_FRAC + NEAR_DUPLICATE_FRAC and num_rows < MAX_REVIEWS_PER_USER and row["text"].strip():
            again = {**row, "timestamp": min(_LAST_TIME_MS, time_ms + rng.randint(1_000, _DAY_MS)), "helpful_vote": 0}
            if draw >= EXACT_DUPLICATE_FRAC:
                again.update(text=change_few_words(row["text"], rng), asin=rng.choice(product.variants))
            yield again
            num_rows += 1


def _write_row(writer: Writer, product: Product, time_ms: int, faker: Any, rng: Random) -> dict[str, Any]:
    from penname.ingest.marketplace import dirt
    from penname.ingest.marketplace.composition import draw_rating, write_review

    rating = draw_rating(product, writer, rng)
    if rng.random() < dirt.OTHER_LANGUAGE_FRAC:
        title, text = dirt.write_in_other_language(product.kind, rating, rng)
    else:
        title, text = write_review(product, writer, rating, rng)
    if rng.random() < dirt.PERSONAL_DATA_FRAC:
        faker.seed_instance(rng.getrandbits(63))
        text = dirt.insert_sentence(text, dirt.write_personal_data(faker, rng), rng)
    text = dirt.add_markup(text, rng)
    if rng.random() < dirt.EMPTY_TEXT_FRAC:
        text = rng.choice(("", "", " ", "\n"))
    asin = rng.choice(product.variants)
    return {
        "rating": float(rating),
        "title": title,
        "text": text,
        "images": [_image(asin, i, rng) for i in range(rng.randint(1, 3))] if rng.random() < _IMAGE_FRAC else [],
        "asin": asin,
        "parent_asin": product.parent_asin,
        "user_id": writer.user_id,
        "timestamp": time_ms,
        "helpful_vote": int(rng.paretovariate(1.1)) - 1 if rng.random() < 0.25 else 0,
        "verified_purchase": rng.random() < _VERIFIED_FRAC,
    }


def _image(asin: str, index: int, rng: Random) -> dict[str, str]:
    stem = f"https://images.marketplace.example/I/{asin}{rng.getrandbits(32):08X}{index}"
    return {
        "small_image_url": f"{stem}._SL256_.jpg",
        "medium_image_url": f"{stem}._SL800_.jpg",
        "large_image_url": f"{stem}._SL1600_.jpg",
        "attachment_type": "IMAGE",
    }
