"""The templates of our pages: every value is escaped, and text from the data passes through `untrusted` on its way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from penname.report.figures import condition_style
from penname.report.metric_tables import format_number
from penname.report.untrusted_text import cut_text, show_untrusted, spell_out_hidden
from penname.report.wording import format_delta, format_epsilon

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"
_NUM_SHOWN_CHARACTERS, _NUM_KEPT_CHARACTERS = 700, 6000


def open_templates(folders: Sequence[Path] = (TEMPLATES,), *, num_shown_characters: int = _NUM_SHOWN_CHARACTERS) -> jinja2.Environment:
    """What all pages have in common; a page adds filters and functions of its own.

    Args:
      folders: Of templates, the first that has one counts.
      num_shown_characters: Of a text from the data, before it is folded.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(list(folders)), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "untrusted": show_untrusted,
        "plain": spell_out_hidden,
        "number": format_number,
        "epsilon": format_epsilon,
        "delta": format_delta,
    }
    environment.globals |= {"style_of": condition_style, "cut_text": lambda text: cut_text(text, num_shown_characters, _NUM_KEPT_CHARACTERS)}
    return environment
