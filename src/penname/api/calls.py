"""One function a command. `penname.run` is `penname run`, and so on; what is heavy is imported when a function is called."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penname.api.shown import Lines
from penname.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

    from penname.api.finished_run import Run
    from penname.config import Config

    Settings = Config | Mapping[str, Any] | str | Path | None
    Overrides = Mapping[str, Any] | Sequence[str]


def read_config(config: Settings = None, overrides: Overrides = ()) -> Config:
    """The settings of a run, checked.

    Args:
      config: A YAML file, its values as nested dicts, a Config, or None for the embedded demo. Relative paths in a file count from its folder,
        all others from where Python stands.
      overrides: What wins over it: `{"train.num_steps": 3}` or `["train.num_steps=3"]`.
    Raises:
      UsageError: an unknown key, a value out of range, a file that cannot be read; names it.
    """
    import json

    from penname.config import Config, build_config, load_config
    from penname.evaluate.registry import select_metrics

    if isinstance(overrides, str):
        raise UsageError(f"overrides: {overrides!r} is one text; give a list of section.key=value, or a dict")
    words = [f"{key}={json.dumps(value)}" for key, value in overrides.items()] if isinstance(overrides, Mapping) else list(overrides)
    if config is None or isinstance(config, str | Path):
        settings = load_config(None if config is None else Path(config), words)
    elif isinstance(config, Config):
        settings = build_config(config.model_dump(mode="json"), words)
    elif isinstance(config, Mapping):
        settings = build_config(config, words)
    else:
        raise UsageError(f"config: is a {type(config).__name__}; give a YAML file, a dict, a Config, or nothing for the demo")
    if settings.evaluate.metrics is not None:
        # A misspelt metric should not wait until after the training.
        select_metrics(settings.evaluate.metrics)
    return settings


def run(config: Settings = None, overrides: Overrides = (), *, out: str | Path = "runs/demo", stages: Sequence[str] | str | None = None) -> Run:
    """Runs the stages, each only where something changed, as `penname run`; a stopped run goes on where it was.

    Args:
      config, overrides: As for `read_config`.
      out: The run folder, or s3://BUCKET/FOLDER.
      stages: Those to run, in order, such as "evaluate"; none: all.
    Returns:
      Run: records as data frames, metrics as a table, figures. Most of it is PRIVATE; `release/` is what may be given away.
    Raises:
      PennameError: what the command line would say in one line.
    """
    from penname.pipeline import STAGE_NAMES, run_stages
    from penname.stores.run_folder import open_run_folder

    names = (stages,) if isinstance(stages, str) else tuple(stages or STAGE_NAMES)
    for name in names:
        if name not in STAGE_NAMES:
            raise UsageError(f"stages: there is no stage {name!r}; stages are {', '.join(STAGE_NAMES)}")
    settings = read_config(config, overrides)
    folder = open_run_folder(str(out))
    run_stages(settings, folder.root, names, after_stage=folder.bring)
    folder.bring()
    return open_run(folder.root)


def open_run(folder: str | Path) -> Run:
    """Opens a run, finished or not, that the command line or `run` made.

    Args:
      folder: The run folder, or s3://BUCKET/FOLDER.
    Raises:
      RunDirError: it holds no run, or a damaged one.
    """
    from penname.api.finished_run import Run
    from penname.stores.run_folder import open_run_folder
    from penname.stores.store import is_remote

    return Run(open_run_folder(str(folder)).root if is_remote(str(folder)) else Path(folder))


def plan(
    config: Settings = None,
    overrides: Overrides = (),
    *,
    num_units: int | None = None,
    record_tokens: int | None = None,
    read_lengths: bool = False,
    model_size: str | None = None,
) -> Lines:
    """Epsilon, noise, steps, tokens, time and memory of a run, as `penname plan`; spends nothing.

    Args:
      config, overrides: As for `read_config`.
      num_units: Units in the training split; the embedded demo knows its own.
      record_tokens: Tokens of a record; none: as many as there may be.
      read_lengths: Whether rows of the private data are read for their lengths; what is said of them is PRIVATE.
      model_size: A known model that is planned on paper.
    """
    from penname.plan.plan import plan_run

    settings = read_config(config, overrides)
    return Lines(plan_run(settings, num_units=num_units, record_tokens=record_tokens, reads_lengths=read_lengths, model_size=model_size))


def evaluate(
    *, real: Any, synthetic: Mapping[str, Any], heldout: Any = None, config: Settings = None, overrides: Overrides = (), out: str | Path | None = None
) -> pl.DataFrame:
    """Metrics of any synthetic sets against real rows, as `penname evaluate --real F --synthetic NAME=F`.

    Args:
      real: What the synthetic sets were made from: a file, or a data frame with rating, title, text, category. PRIVATE.
      synthetic: Name -> file or data frame.
      heldout: Real rows that they were not made from; none: parts of real are set aside. PRIVATE.
      config, overrides: As for `read_config`; section `evaluate` counts.
      out: A folder that keeps `metrics.json`; none: nothing is kept.
    Returns:
      One row a metric and arm, PRIVATE. Figures that the rows could not give are named on standard error, and in `out/left_out.json`.
    Raises:
      PennameError: what the command line would say in one line.
    """
    from penname.api.finished_run import read_metrics
    from penname.evaluate.evaluate import evaluate_files
    from penname.evaluate.files import check_synthetic_names

    settings = read_config(config, overrides)
    check_synthetic_names({name: Path() for name in synthetic})
    with tempfile.TemporaryDirectory() as name:
        files = {set_name: _write_rows(rows, Path(name) / f"{set_name}.parquet") for set_name, rows in synthetic.items()}
        # Names of sets have no dot, so no set takes the place of these.
        real_file = _write_rows(real, Path(name) / "real.rows.parquet")
        heldout_file = None if heldout is None else _write_rows(heldout, Path(name) / "heldout.rows.parquet")
        folder = Path(name) / "out" if out is None else Path(out)
        evaluate_files(real=real_file, heldout=heldout_file, synthetic=files, out=folder, config=settings.evaluate, model=settings.model)
        return read_metrics([folder / "metrics.json"])


def _write_rows(rows: Any, path: Path) -> Path:
    """A file as it is; a data frame of polars or pandas as a file."""
    import polars as pl

    if isinstance(rows, str | Path):
        return Path(rows)
    if isinstance(rows, pl.DataFrame):
        rows.write_parquet(path)
        return path
    if type(rows).__module__.partition(".")[0] == "pandas":
        pl.from_pandas(rows).write_parquet(path)
        return path
    raise UsageError(f"evaluate: rows are a {type(rows).__name__}; give a file, or a data frame of polars or pandas")


def audit(config: Settings = None, overrides: Overrides = (), *, out: str | Path = "runs/audit") -> Run:
    """Attacks a twin run with planted secrets, as `penname audit`.

    Args:
      config, overrides: As for `read_config`, but without a config the default audit.
      out: The audit's folder, or s3://BUCKET/FOLDER.
    Returns:
      Run: of the audit; all of it is PRIVATE, and nothing of it is ever released.
    Raises:
      AuditFailureError: more was found than epsilon allows. Everything was written before: `open_run(out)` shows it.
      PennameError: what the command line would say in one line.
    """
    from penname.audit.audit import DEFAULT_CONFIG, check_verdict, run_audit
    from penname.stores.run_folder import open_run_folder

    settings = read_config(DEFAULT_CONFIG if config is None else config, overrides)
    folder = open_run_folder(str(out))
    run_audit(settings, folder.root, after_stage=folder.bring)
    folder.bring()
    check_verdict(folder.root)
    return open_run(folder.root)


def verify(folder: str | Path) -> str:
    """Recomputes epsilon from the ledger and checks every hash, as `penname verify`.

    Args:
      folder: A release folder, or a run that has one.
    Returns:
      One line that says what holds.
    Raises:
      PrivacyError: something does not hold; says what.
    """
    from penname.privacy.certificate import CERTIFICATE_NAME, verify_release

    release = Path(folder) if (Path(folder) / CERTIFICATE_NAME).is_file() else Path(folder) / "release"
    return f"VERIFIED {release}: {verify_release(release)}"


def serve(
    folder: str | Path,
    *,
    port: int = 8765,
    host: str = "127.0.0.1",
    token: str | None = None,
    allowed_hosts: Sequence[str] = (),
    num_per_arm: int | None = None,
) -> None:
    """Opens the web page of a run, or of a folder of runs, as `penname serve`; returns when it is interrupted.

    Args:
      folder: PRIVATE.
      port: 0 takes any that is free.
      host: An address beyond this machine needs a token.
      token: Who opens the page must have it; `new` makes one.
      allowed_hosts: Other names that requests may use, such as a proxy's.
      num_per_arm: Records of each set that people judge, where none are drawn yet.
    """
    from penname.web.serve import serve as serve_folder

    serve_folder(Path(folder), say=print, host=host, port=port, token=token, allowed_hosts=tuple(allowed_hosts), num_per_arm=num_per_arm)


def export_ratings(folder: str | Path, out: str | Path) -> int:
    """Writes every answer of people as CSV or JSON lines, as `penname ratings export`; returns how many. PRIVATE."""
    from penname.evaluate.human.study import export_to_file

    return export_to_file(Path(folder), Path(out))


def import_ratings(folder: str | Path, file: str | Path) -> tuple[int, int]:
    """Adds answers that were given elsewhere, as `penname ratings import`; returns how many were added, and how many left alone."""
    from penname.evaluate.human.study import import_from_file

    return import_from_file(Path(folder), Path(file))


def summarise_ratings(folder: str | Path) -> Lines:
    """Writes the figures of the answers into the run, as `penname ratings summarise`; returns them in lines."""
    from penname.evaluate.human.study import summarise_folder

    return Lines(summarise_folder(Path(folder)))


def sample_data(folder: str | Path, *, num_reviews: int = 6000, seed: int = 1) -> list[Path]:
    """Writes the fictional marketplace, as `penname sample-data`; returns its three files."""
    from penname.ingest.sample_data import write_sample_data

    write_sample_data(Path(folder), num_reviews=num_reviews, seed=seed)
    return sorted(Path(folder).iterdir())


def fetch(
    data_set: str, category: str, *, out: str | Path, base_url: str | None = None, mirror: bool = False, checksums: str | Path | None = None
) -> list[Path]:
    """Fetches reviews and metadata of a category, as `penname fetch`; returns both files."""
    from penname.ingest.fetch import fetch_category

    paths, _ = fetch_category(data_set, category, Path(out), base_url=base_url, mirror=mirror, checksums=None if checksums is None else Path(checksums))
    return list(paths)
