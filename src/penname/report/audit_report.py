"""The stage that ends an audit: metrics.json, the figures, and one page that needs no network."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import penname
from penname.config import Config
from penname.report.audit_figures import draw_attack_curves, draw_exposure, draw_leaks
from penname.report.audit_inputs import AuditInputs, read_audit
from penname.report.audit_tables import UNEXPOSED_BITS, build_leak_tables, build_original_table, build_overview, group_left_out
from penname.report.audit_wording import explain_attacker, explain_repetition, write_audit_verdict
from penname.report.figures import inline_svg, save_figure
from penname.report.metric_tables import build_metric_tables, order_arms
from penname.report.page_figures import PageFigure
from penname.report.page_template import open_templates
from penname.report.settings import list_settings, mark_code
from penname.run_dir import RunDir, replace_folder, write_atomic, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def run_audit_report(config: Config, run_dir: RunDir) -> None:
    """Writes the artefacts metrics, figures and report of an audit. There is no certificate and no release.

    Args:
      config: All of it is shown.
      run_dir: The audit; its attacks are done. PRIVATE.
    Raises:
      RunDirError: a file is missing or damaged.
    """
    audit = read_audit(run_dir)
    with replace_folder(run_dir.path("figures")) as folder:
        figures = draw_audit_figures(audit, folder)
    write_json(run_dir.path("metrics"), [asdict(metric) for metric in audit.metrics])
    page = render_audit_page(config, audit, figures)
    with write_atomic(run_dir.path("report")) as handle:
        handle.write(page)


def _list_versions() -> dict[str, str]:
    libraries = ("torch", "transformers", "peft", "dp-accounting", "numpy", "scipy")
    return {"penname": penname.__version__, "python": platform.python_version(), **{name: importlib.metadata.version(name) for name in libraries}}


def draw_audit_figures(audit: AuditInputs, folder: Path) -> list[PageFigure]:
    """Draws what there are numbers for, as PNG and SVG into `folder`.

    Args:
      audit: PRIVATE.
      folder: An existing folder. PRIVATE.
    """
    curves = [row for row in audit.tables.get("curves", []) if row["level"] in ("record", "canary")]
    exposure = audit.select("exposure", way="rank")
    leaks = audit.select("leaks", match="exact", part="any")
    plans: list[tuple[str, str, str, Callable[[], Figure], list[Any]]] = [
        (
            "audit_curves",
            "Membership attacks",
            "Share of members found against share of others taken for members, both logarithmic; the dashed line is guessing. By likelihood less that of "
            "the base model.",
            lambda: draw_attack_curves(curves),
            curves,
        ),
        (
            "audit_exposure",
            "Exposure by repetition",
            "Bits that the model saves whoever searches for a planted canary, by rank; bars are 95 % intervals. Dashed: a canary that the model never saw. "
            "Dotted: the most that can be seen here.",
            lambda: draw_exposure(exposure, unexposed_bits=UNEXPOSED_BITS),
            exposure,
        ),
        (
            "audit_leaks",
            "Leaks by repetition",
            "Share of the planted canaries of which a part came out letter for letter; bars are 95 % intervals.",
            lambda: draw_leaks(leaks),
            leaks,
        ),
    ]
    drawn: list[PageFigure] = []
    for name, title, caption, draw, rows in plans:
        if rows:
            svg = save_figure(draw(), folder, name).read_text(encoding="utf-8")
            drawn.append(PageFigure(name, title, caption, inline_svg(svg, name, f"{title}. {caption}"), [], []))
    return drawn


def render_audit_page(config: Config, audit: AuditInputs, figures: list[PageFigure]) -> str:
    """Fills the template."""
    environment = open_templates()
    environment.filters["mark_code"] = mark_code
    return environment.get_template("audit.html.j2").render(
        version=penname.__version__,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        audit=audit,
        arms=order_arms(set(audit.arms)),
        verdict=write_audit_verdict(audit),
        attacker=explain_attacker(audit) if audit.experiment == "canaries" else "",
        repetition=explain_repetition(audit),
        overview=build_overview(audit) if audit.experiment == "canaries" else [],
        originals=build_original_table(audit),
        leak_tables=build_leak_tables(audit),
        figures=figures,
        tables=build_metric_tables(audit.metrics),
        left_out=group_left_out(audit),
        settings=list_settings(config),
        certificate={"versions": _list_versions(), "machine": f"{platform.system()} {platform.machine()}"},
    )
