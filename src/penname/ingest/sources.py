"""Which files a run reads, by which mapping, and what each must have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penname.errors import UsageError
from penname.ingest import amazon_reviews
from penname.ingest.cleaning import read_string
from penname.ingest.input_files import InputFile, find_files
from penname.ingest.table import Table
from penname.ingest.tabular import check_table
from penname.ingest.unit_source import UnitSource, find_unit_source, name_unit_column

if TYPE_CHECKING:
    from penname.config import DataConfig, PrivacyConfig

_ALWAYS_NEEDED = ("rating", "text", "title", "category")


@dataclass(frozen=True, slots=True)
class TableFiles:
    """Files of one layout: a data set, or a catalogue."""

    path: Path
    """What the config names."""
    files: list[InputFile]
    tables: list[Table]
    """One a file."""

    @property
    def columns(self) -> dict[str, str]:
        """Our field -> their column."""
        return self.tables[0].columns

    @property
    def num_bytes(self) -> int:
        """On disk."""
        return sum(file.path.stat().st_size for file in self.files)

    def check(self) -> None:
        """Looks at the head of every file.

        Raises:
          DataError: a file cannot be used.
          UsageError: the mapping does not fit one of them.
        """
        for table in self.tables:
            check_table(table)


@dataclass(frozen=True, slots=True)
class Sources:
    """The files of one run and how to read them."""

    reviews: TableFiles
    unit: UnitSource
    needed: tuple[str, ...]
    products: TableFiles | None
    read_category: Callable[[Any], str | None]
    """Turns the raw category of a product into text."""
    category_from_product: bool

    @property
    def all_files(self) -> list[TableFiles]:
        """The catalogue first."""
        return [files for files in (self.products, self.reviews) if files is not None]


def find_sources(data: DataConfig, privacy: PrivacyConfig) -> Sources:
    """Which files, by which mapping.

    Args:
      data: Whose format is no sample.
      privacy: Its unit and unit_column.
    Raises:
      DataError: there are no such files, or their names say that they hold something else.
      UsageError: the settings do not go together.
    """
    reviews, catalogue = Path(data.reviews or ""), Path(data.catalogue) if data.catalogue else None
    if data.format == "amazon_reviews_2023" and catalogue is not None:
        open_reviews = partial(amazon_reviews.open_reviews, encoding=data.encoding, unit_column=privacy.unit_column)
        files = _open_all(reviews, "data.reviews", open_reviews)
        return Sources(
            reviews=files,
            unit=find_unit_source(privacy, files.tables[0]),
            needed=("rating", "text", "title", "product_id"),
            products=_open_all(catalogue, "data.catalogue", partial(amazon_reviews.open_products, encoding=data.encoding)),
            read_category=partial(amazon_reviews.choose_category, level=data.category_level),
            category_from_product=True,
        )
    if catalogue is None and "product_title" in data.columns and not data.products_are_public:
        raise UsageError(
            "data.columns: product_title is mapped, but the titles may stand in prompts only if they are public knowledge; "
            "set data.products_are_public: true if they are, give a public data.catalogue, or remove product_title from the mapping"
        )
    table = Table(reviews, data.columns | name_unit_column(privacy.unit_column), encoding=data.encoding, delimiter=data.delimiter)
    files = _open_all(reviews, "data.reviews", lambda path: replace(table, path=path))
    named = replace(table, columns=data.catalogue_columns, option="data.catalogue_columns")
    return Sources(
        reviews=files,
        unit=find_unit_source(privacy, table),
        needed=_ALWAYS_NEEDED,
        products=_open_all(catalogue, "data.catalogue", lambda path: replace(named, path=path)) if catalogue is not None else None,
        read_category=partial(read_string, numbers=True),
        category_from_product=False,
    )


def _open_all(path: Path, option: str, open_table: Callable[[Path], Table]) -> TableFiles:
    files = find_files(path, option=option)
    return TableFiles(path, files, [open_table(file.path) for file in files])
