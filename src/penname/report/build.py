"""Builds the report: metrics.json, the figures, and one page that holds everything and needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import penname
from penname.config import Config
from penname.progress import format_secs
from penname.report.comparison_wording import describe_family
from penname.report.examples import Example, pair_examples
from penname.report.figures import CONDITIONS, condition_style
from penname.report.inputs import RunInputs, finite_or_none, metrics_as_rows, read_inputs
from penname.report.inventory import format_bytes, is_of_this_page, list_artefacts, list_release
from penname.report.metric_labels import label_metric
from penname.report.metric_tables import MetricTable, build_metric_tables
from penname.report.page_figures import PageFigure, draw_page_figures, name_family_figure
from penname.report.page_template import open_templates
from penname.report.settings import list_settings, mark_code
from penname.report.wording import explain_epsilon, format_delta, format_epsilon, reasons_not_to_release, unit_in_words, write_verdict
from penname.run_dir import RunDir, replace_folder, write_atomic, write_json


def run_report_page(config: Config, run_dir: RunDir, *, certificate: dict[str, Any]) -> None:
    """Writes the artefacts metrics, figures and report from what the other stages left in the run folder.

    What a run does not have (an arm that was not trained, a family that was not evaluated) is named on the page as missing.

    Args:
      config: The run's settings; all of them are shown.
      run_dir: The run. Its release folder and certificate are already written. PRIVATE.
      certificate: As `release/certificate.json`, or what would stand there in a run that may not be released.
    Raises:
      RunDirError: a file of the run is damaged; names the file and what to run again.
    """
    inputs = read_inputs(config, run_dir)
    tables = build_metric_tables(inputs.metrics)
    examples = pair_examples(inputs.review_sets, inputs.review_paths, num_examples=config.report.num_examples)
    with replace_folder(run_dir.path("figures")) as folder:
        figures = draw_page_figures(inputs, tables, folder)
    write_json(run_dir.path("metrics"), metrics_as_rows(inputs.metrics))
    page = render_page(_collect_page(config, run_dir, certificate, inputs, tables, examples, figures))
    with write_atomic(run_dir.path("report")) as handle:
        handle.write(page)


def render_page(page: dict[str, Any]) -> str:
    """Fills the templates."""
    environment = open_templates()
    environment.filters |= {"bytes": format_bytes, "secs": format_secs, "mark_code": mark_code}
    environment.globals |= {"is_of_this_page": is_of_this_page, "name_family_figure": name_family_figure}
    return environment.get_template("report.html.j2").render(page)


def _collect_page(
    config: Config,
    run_dir: RunDir,
    certificate: dict[str, Any],
    inputs: RunInputs,
    tables: Sequence[MetricTable],
    examples: Sequence[Example],
    figures: dict[str, PageFigure],
) -> dict[str, Any]:
    """Everything that the templates name."""
    reasons = reasons_not_to_release(certificate)
    return {
        "title": config.report.title,
        "version": penname.__version__,
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "certificate": certificate,
        "reasons": reasons,
        "verdict": write_verdict(certificate, inputs.metrics),
        "promise": _describe_promise(certificate),
        "tables": tables,
        "described": {table.family: describe_family(table) for table in tables},
        "left_out": _describe_left_out(inputs.left_out),
        "missing_families": inputs.missing_families,
        "figures": figures,
        "examples": examples,
        "example_arms": [arm for arm in CONDITIONS if arm in inputs.review_sets],
        "untrained_arms": [arm for arm in ("no_dp", "with_dp") if arm not in config.train.arms],
        "artefacts": list_artefacts(run_dir, releasable=not reasons),
        "released": list_release(run_dir, certificate),
        "ingest": _describe_ingest(inputs.ingest_counts),
        "splits": _describe_splits(inputs.records_counts),
        "training": [_describe_training(arm, rows) for arm, rows in inputs.train_logs.items()],
        "redraws": _describe_redraws(inputs.generate_counts, config.train.arms),
        "settings": list_settings(config),
    }


def _describe_promise(certificate: dict[str, Any]) -> dict[str, Any]:
    promise, spent = certificate["promise"], certificate.get("epsilon_spent")
    if promise is None:
        return {"target_epsilon": None, "epsilon_spent": None, "spent_frac": None, "unit": None, "meaning": [], "events": []}
    return {
        "target_epsilon": format_epsilon(promise["target_epsilon"]),
        "delta": format_delta(promise["delta"]),
        "epsilon_spent": None if spent is None else format_epsilon(spent),
        "spent_frac": None if spent is None else min(1.0, spent / promise["target_epsilon"]),
        "unit": unit_in_words(certificate),
        "meaning": [] if spent is None else explain_epsilon(spent, promise["delta"], certificate),
        "events": [_describe_event(event) for event in certificate.get("events") or []],
    }


def _describe_event(event: dict[str, Any]) -> dict[str, str]:
    """One ledger event; a field that its mechanism does not have shows a dash."""
    mechanism = event["mechanism"]
    count = mechanism.get("num_steps", mechanism.get("num_draws", mechanism.get("num_releases")))

    def show(key: str) -> str:
        # Six digits: enough to recompute epsilon from the page and see that it agrees.
        return f"{mechanism[key]:.6g}" if mechanism.get(key) is not None else "–"

    return {
        "event_id": str(event.get("event_id", "")),
        "name": str(event["name"]),
        "mechanism": str(mechanism["type"]).replace("_", " ") + _describe_draws(mechanism),
        "noise_multiplier": show("noise_multiplier"),
        "sampling_prob": show("sampling_prob"),
        "count": "–" if count is None else f"{count:,}",
        "l2_sensitivity": show("l2_sensitivity"),
    }


def _describe_draws(mechanism: dict[str, Any]) -> str:
    """What draws have in place of noise and sampling: enough to recompute epsilon too."""
    if "temperature" not in mechanism:
        return ""
    return f", temperature {mechanism['temperature']:.6g}, a score moves by at most {mechanism['linf_sensitivity']:.6g}"


def _describe_left_out(rows: Sequence[dict[str, Any]]) -> dict[str, list[tuple[str, str]]]:
    """family -> (names in words, reason), metrics of one reason together."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        name = label_metric(str(row["name"])) + (f" of {condition_style(str(row['arm'])).label}" if row["arm"] else "")
        by_reason.setdefault((str(row["family"]), str(row["reason"])), []).append(name)
    described: dict[str, list[tuple[str, str]]] = {}
    for (family, reason), names in by_reason.items():
        described.setdefault(family, []).append(("; ".join(names), reason))
    return described


def _describe_ingest(counts: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Reviews, and the catalogue where one was read: rows, kept, rejects by reason; what was not recorded is None."""
    if counts is None:
        return []
    sources = [source if isinstance(source, dict) else {"file": source} for source in counts.get("sources") or []]
    tables = [("reviews", counts)]
    if isinstance(counts.get("catalogue"), dict):
        tables.append(("catalogue", counts["catalogue"]))
    described = []
    for role, table in tables:
        rejects = table.get("rejects") or {}
        described.append(
            {
                "role": role,
                "num_rows": table.get("num_rows", table.get("rows_read")),
                "num_kept": table.get("num_kept", table.get("kept")),
                "rejects": sorted(((reason.replace("_", " "), num) for reason, num in rejects.items()), key=lambda item: (-item[1], item[0])),
                "num_rejected": sum(rejects.values()),
                "files": [str(source["file"]) for source in sources if "file" in source and source.get("role", "reviews") == role],
            }
        )
    return described


def _describe_splits(counts: dict[str, Any] | None) -> dict[str, Any] | None:
    if counts is None:
        return None
    units, records = counts.get("num_units") or {}, counts.get("num_records") or {}
    return {
        "privacy_unit": counts.get("privacy_unit"),
        "unit_column": counts.get("unit_column"),
        "note": counts.get("unit_note"),
        "rows": [(name, units.get(name), records.get(name)) for name in ("train", "heldout", "test") if name in units or name in records],
    }


def _describe_training(arm: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Work of one arm; a figure that was not logged is None, not zero."""
    losses = [loss for loss in (finite_or_none(row.get("loss")) for row in rows) if loss is not None]

    def total(key: str) -> float | None:
        found = [value for value in (finite_or_none(row.get(key)) for row in rows) if value is not None]
        return sum(found) if found else None

    return {
        "arm": arm,
        "num_steps": len(rows),
        "num_records": total("num_records"),
        "tokens": total("tokens"),
        "secs": total("secs"),
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
    }


def _describe_redraws(counts: dict[str, Any] | None, arms: Sequence[str]) -> list[dict[str, Any]]:
    found = [(arm, (counts or {}).get(arm)) for arm in CONDITIONS if arm in arms]
    keys = ("num_records", "num_draws", "num_redrawn")
    return [{"arm": arm} | {key: row.get(key) for key in keys} for arm, row in found if isinstance(row, dict)]
