"""The template: how a review becomes prompt and completion, and how a completion becomes fields again.

records fills it, generate fills and parses it; stages do not import each other, so it stands here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from penname.completion import completion_end, completion_separator

if TYPE_CHECKING:
    from penname.config import RecordsConfig

# Made up, and far from any product of the data, so that what is copied from it is easily seen.
_EXAMPLE_PRODUCT = "Product: Garden Hose, 50 ft, Green\n"
_EXAMPLE = (
    "Category: Garden\nRating: 4 out of 5\nTitle: Light and does not kink\n"
    "Review: I like how light it is, and the brass end does not leak. A bit short for our yard, so four stars.\n\n"
)
_REQUEST = "Category: {category}\nRating: {rating} out of 5\nTitle:"


@dataclass(frozen=True)
class RecordTemplate:
    """A versioned pair of templates."""

    prompt: str
    completion: str
    version: str

    @classmethod
    def from_config(cls, config: RecordsConfig, *, has_products: bool) -> RecordTemplate:
        """The template of a run; the config has checked which fields it may hold.

        Args:
          config: Section `records`.
          has_products: Whether the data has a public catalogue; decides the default prompt.
        """
        prompt = config.prompt_template
        if prompt is None:
            prompt = _EXAMPLE_PRODUCT + _EXAMPLE + "Product: {product_title}\n" + _REQUEST if has_products else _EXAMPLE + _REQUEST
        return cls(prompt, config.completion_template, config.template_version)

    @property
    def needs_product_title(self) -> bool:
        """Whether prompts name a product."""
        return "{product_title}" in self.prompt

    def fill_prompt(self, *, rating: int, category: str, product_title: str) -> str:
        """The prompt, from public or privately released attributes alone."""
        return self.prompt.format(rating=rating, category=category, product_title=product_title)

    @cached_property
    def end(self) -> str:
        """The end mark after the text; empty where the end-of-text token alone ends a completion."""
        return completion_end(self.completion)

    def fill_completion(self, *, title: str, text: str) -> str:
        """The completion, with the text mended. PRIVATE."""
        return self.completion.format(title=title, text=self.mend_text(text))

    def mend_text(self, text: str) -> str:
        """A text in which the end mark does not occur: its last character is dropped there. PRIVATE."""
        while self.end and self.end in text:
            text = text.replace(self.end, self.end[:-1])
        return text

    def parse_completion(self, completion: str) -> tuple[str, str] | None:
        """Title and text of a completion, or None when it does not have the form of the template; nothing is patched.

        The title stands before the first separator, is one line and not empty; the text ends at the end mark, or where the completion
        ends, and is not empty.
        """
        start = self.completion.partition("{title}")[0].strip()
        body = (completion.partition(self.end)[0] if self.end else completion).strip()
        if not body.startswith(start):
            return None
        title, separator, text = body.removeprefix(start).partition(completion_separator(self.completion))
        title, text = title.strip(), text.strip()
        if not separator or not title or not text or "\n" in title:
            return None
        return title, text
