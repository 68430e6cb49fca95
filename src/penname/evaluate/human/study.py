"""The answers of one run from the command line: out to a file, in from one, summed up."""

from __future__ import annotations

from pathlib import Path

from penname.errors import RunDirError, UsageError
from penname.evaluate.human.exchange import export_ratings, import_ratings
from penname.evaluate.human.ratings import Ratings
from penname.evaluate.human.sample import RatingSample, open_sample, read_sample
from penname.evaluate.human.summary import ALL, write_summary
from penname.run_dir import ARTEFACTS, RunDir, write_atomic


def _open_run(folder: Path) -> RunDir:
    run_dir = RunDir(folder)
    if run_dir.read_manifest()["kind"] != "run":
        raise UsageError(f"{folder}: is of an audit, whose texts are not judged; give a run folder")
    return run_dir


def _open_ratings(run_dir: RunDir, sample: RatingSample) -> Ratings:
    ratings = Ratings(run_dir.path("human_ratings"), sample)
    ratings.begin()
    return ratings


def export_to_file(folder: Path, out: Path) -> int:
    """Writes every answer; returns how many.

    Raises:
      UsageError: the file has another ending.
      RunDirError: nobody has judged yet, or a file is damaged.
    """
    file_format = out.suffix.removeprefix(".")
    if file_format not in ("csv", "jsonl"):
        raise UsageError(f"--out {out}: ends with neither .csv nor .jsonl")
    run_dir = _open_run(folder)
    sample = read_sample(run_dir)
    if sample is None or not (run_dir.root / ARTEFACTS["human_ratings"].path).is_file():
        raise RunDirError(f"{folder}: nobody has judged a record of this run yet; open its page with `penname serve`")
    ratings = _open_ratings(run_dir, sample)
    text = export_ratings(ratings, sample, file_format)
    with write_atomic(out, "wb") as handle:
        # As bytes, so that the line ends of CSV stay what they are.
        handle.write(text.encode())
    return len(ratings.read_all("single")) + len(ratings.read_all("pair"))


def import_from_file(folder: Path, path: Path) -> tuple[int, int]:
    """Adds the answers of a file; returns how many were added and how many left alone.

    Raises:
      DataError: a row cannot be used; nothing was added then.
      RunDirError: the run has nothing to judge, or a file of it is damaged.
    """
    run_dir = _open_run(folder)
    sample = open_sample(run_dir)
    return import_ratings(_open_ratings(run_dir, sample), sample, path)


def summarise_folder(folder: Path) -> list[str]:
    """Writes the artefacts human_metrics and human_summary; returns lines for the person who asked.

    Raises:
      RatingsError: nobody has judged yet.
    """
    run_dir = _open_run(folder)
    summary = write_summary(run_dir)
    lines = list(summary.notes)
    for arm, counts in summary.counts.items():
        shown = ", ".join(f"{num:,} {name.replace('_', ' ')}" for name, num in counts.items())
        lines.append(f"{arm:<9} {summary.num_judged[arm]:,} records: {shown}")
    alphas = [metric for metric in summary.metrics if metric.arm == ALL and "alpha" in metric.name]
    lines += [f"{metric.name}: {metric.value:.3f}" for metric in alphas]
    return [*lines, f"PRIVATE     {run_dir.path('human_metrics')}  (penname report puts it on the page)"]
