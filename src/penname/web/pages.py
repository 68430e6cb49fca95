"""The templates and what they may call: everything is escaped, and text from the data passes through `untrusted` on its way."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penname.progress import format_secs
from penname.report.metric_labels import label_metric
from penname.report.page_template import TEMPLATES, open_templates
from penname.run_dir import hash_path

if TYPE_CHECKING:
    import jinja2

HERE = Path(__file__).parent
STATIC = {
    "report.css": (TEMPLATES / "style.css.j2", "text/css; charset=utf-8"),
    "web.css": (HERE / "static" / "web.css", "text/css; charset=utf-8"),
    "rate.js": (HERE / "static" / "rate.js", "text/javascript; charset=utf-8"),
    "live.js": (HERE / "static" / "live.js", "text/javascript; charset=utf-8"),
}
"""Style and scripts: name, file, kind."""
_NUM_SHOWN_CHARACTERS = 500


@cache
def _open_environment() -> jinja2.Environment:
    # The report's own parts and style are used, so that a badge or a condition looks the same on every page.
    environment = open_templates([HERE / "templates", TEMPLATES], num_shown_characters=_NUM_SHOWN_CHARACTERS)
    environment.filters |= {"secs": format_secs, "metric": label_metric}
    environment.globals["asset"] = _name_asset
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
