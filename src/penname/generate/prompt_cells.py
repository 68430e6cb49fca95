"""What prompts can ask for before anything is released: every rating and category of the public domain, and the public products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from penname.config import Config
from penname.errors import PennameError
from penname.generate.conditioning import Condition, read_catalogue
from penname.generate.synthesize import RecordWriter
from penname.run_dir import RunDir, read_json
from penname.schemas import RATINGS, Product
from penname.template import RecordTemplate


@dataclass(frozen=True)
class PromptCells:
    """Public: nothing here depends on a private record."""

    template: RecordTemplate
    products: list[Product]
    cells: list[tuple[int, str]]
    """Every rating and category that can be asked for."""
    titles: dict[str, list[str]]
    """Products of each category; empty where the data has none."""

    @classmethod
    def read(cls, config: Config, run_dir: RunDir) -> PromptCells:
        """From the template, the catalogue and the domain of a run.

        Raises:
          PennameError: the prompt names a product, and no category of the domain has one.
        """
        products = read_catalogue(run_dir.path("catalogue"))
        template = RecordTemplate.from_config(config.records, has_products=bool(products))
        titles: dict[str, list[str]] = {}
        for product in products:
            titles.setdefault(product.category, []).append(product.title)
        categories: list[str] = read_json(run_dir.path("records_counts"))["category_domain"]
        usable = [category for category in categories if titles.get(category) or not template.needs_product_title]
        cells = [(rating, category) for rating in RATINGS for category in usable]
        if not cells:
            raise PennameError("records.prompt_template: names a product, but the catalogue has no product in any category of the domain")
        return cls(template, products, cells, titles)

    def ask(self, cells: Sequence[tuple[int, str]], *, seed: tuple[int, ...]) -> list[Condition]:
        """A condition each, with a product of the category."""
        generator = np.random.default_rng(seed)
        products = [str(generator.choice(self.titles[category])) if self.titles.get(category) else "" for _, category in cells]
        return [Condition(f"candidate-{i:06d}", *cell, product) for i, (cell, product) in enumerate(zip(cells, products, strict=True))]

    def find_longest_prompt(self, writer: RecordWriter) -> int:
        """Tokens of the longest prompt without an exemplar."""
        lengths = {title: len(writer.tokenizer(title)["input_ids"]) for own in self.titles.values() for title in own}
        longest_title = max(lengths, key=lambda title: lengths[title], default="")
        return max(len(writer.encode(Condition("", rating, category, longest_title))) for rating, category in self.cells)
