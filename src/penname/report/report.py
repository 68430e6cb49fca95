"""The stage: fills release/ with its certificate, then draws the page."""

from __future__ import annotations

from penname.config import Config
from penname.report.build import run_report_page
from penname.report.release import write_release
from penname.run_dir import RunDir


def run_report(config: Config, run_dir: RunDir) -> None:
    """Writes release/, certificate.json, metrics.json, figures and report.html.

    Args:
      config: All of it is shown.
      run_dir: Holds the results of every other stage.
    """
    certificate = write_release(config, run_dir)
    run_report_page(config, run_dir, certificate=certificate)
