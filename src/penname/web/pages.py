"""The templates and what they may call: everything is escaped, and text from the data passes through `untrusted` on its way."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penname.progress import format_secs
from penname.report.figures import condition_style
from penname.report.metric_tables import format_number, label_metric
from penname.report.untrusted_text import cut_text, show_untrusted, spell_out_hidden
from penname.report.wording import format_delta, format_epsilon
from penname.run_dir import hash_path

if TYPE_CHECKING:
    import jinja2

HERE = Path(__file__).parent
REPORT_TEMPLATES = HERE.parent / "report" / "templates"
STATIC = {
    "report.css": (REPORT_TEMPLATES / "style.css.j2", "text/css; charset=utf-8"),
    "web.css": (HERE / "static" / "web.css", "text/css; charset=utf-8"),
    "rate.js": (HERE / "static" / "rate.js", "text/javascript; charset=utf-8"),
    "live.js": (HERE / "static" / "live.js", "text/javascript; charset=utf-8"),
}
"""Style and scripts: name, file, kind."""
_NUM_SHOWN_CHARACTERS = 500
_NUM_KEPT_CHARACTERS = 6000


@cache
def _open_environment() -> jinja2.Environment:
    import jinja2

    # The report's own parts and style are used, so that a badge or a condition looks the same on every page.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([HERE / "templates", REPORT_TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "untrusted": show_untrusted,
        "plain": spell_out_hidden,
        "number": format_number,
        "epsilon": format_epsilon,
        "delta": format_delta,
        "secs": format_secs,
        "metric": label_metric,
    }
    environment.globals |= {
        "asset": _name_asset,
        "style_of": condition_style,
        "cut_text": lambda text: cut_text(text, _NUM_SHOWN_CHARACTERS, _NUM_KEPT_CHARACTERS),
    }
    return environment


@cache
def _name_asset(name: str) -> str:
    return f"/static/{name}?{hash_path(STATIC[name][0])[:12]}"


def render(template: str, /, **values: Any) -> str:
    """Fills one template."""
    return _open_environment().get_template(template).render(values)


def render_message(title: str, text: str) -> str:
    """A page that says one thing, such as an error."""
    return render("message.html.j2", title=title, text=text)
