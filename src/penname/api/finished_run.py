"""A run as Python sees it: records are data frames, metrics are a table, figures show themselves."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penname.api.shown import Figures
from penname.errors import RunDirError
from penname.run_dir import ARTEFACTS, AUDIT_ARTEFACTS, RunDir, read_json

if TYPE_CHECKING:
    import polars as pl

    from penname.config import Config

_RECORDS = {
    "reviews": "reviews",
    "catalogue": "catalogue",
    "train": "train_records",
    "heldout": "heldout_records",
    "test": "test_records",
    "with_dp": "synthetic_with_dp",
    "no_dp": "synthetic_no_dp",
}
"""Names of tables, and their artefacts."""
_METRIC_FILES = ("privacy_metrics", "fidelity_metrics", "utility_metrics", "human_metrics")


class Run:
    """A run folder, finished or not. All of it is PRIVATE but what `run_dir` calls RELEASABLE; `release/` alone may be given away."""

    def __init__(self, folder: Path) -> None:
        """
        Args:
          folder: On this machine.
        Raises:
          RunDirError: it holds no run, or a damaged one.
        """
        self.folder = folder
        self._run_dir = RunDir(folder)
        self._run_dir.read_manifest()

    @property
    def config(self) -> Config:
        """The settings of the last stage that was begun."""
        from penname.config import Config

        return Config.model_validate(self._run_dir.read_manifest().get("config", {}))

    @property
    def stages(self) -> pl.DataFrame:
        """Which stage is done, and how many seconds it took."""
        import polars as pl

        rows = [(name, entry["status"], entry.get("secs")) for name, entry in self._run_dir.read_manifest()["stages"].items()]
        return pl.DataFrame(rows, schema={"stage": pl.String, "status": pl.String, "secs": pl.Float64}, orient="row")

    @property
    def records(self) -> Records:
        """Tables by name, those that are there: reviews, catalogue, train, heldout, test, with_dp, no_dp; `.to_pandas()` for pandas."""
        return Records({name: path for name, artefact in _RECORDS.items() if (path := self._find(artefact)) is not None})

    @property
    def training(self) -> pl.DataFrame:
        """Figures of every training step of every arm. PRIVATE."""
        import polars as pl

        paths = {arm: self._find(f"train_metrics_{arm}") for arm in ("with_dp", "no_dp")}
        frames = [read_table(path).select(pl.lit(arm).alias("arm"), pl.all()) for arm, path in paths.items() if path is not None]
        return pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()

    @property
    def metrics(self) -> pl.DataFrame:
        """One row a metric and arm: value, 95 % interval, reference. PRIVATE."""
        reported = self._find("metrics")
        paths = [reported] if reported is not None else [path for name in _METRIC_FILES if name in ARTEFACTS and (path := self._find(name)) is not None]
        return read_metrics(paths)

    @property
    def left_out(self) -> pl.DataFrame:
        """Metrics that the data could not give, each with its reason."""
        import polars as pl

        path = self._find("left_out")
        schema = {"family": pl.String, "name": pl.String, "arm": pl.String, "reason": pl.String}
        return pl.DataFrame([] if path is None else read_json(path), schema=schema)

    @property
    def figures(self) -> Figures:
        """The figures of the report by name."""
        return Figures(self.folder / ARTEFACTS["figures"].path)

    @property
    def report(self) -> Path | None:
        """The page; none where the stage has not run."""
        return self._find("report")

    @property
    def certificate(self) -> dict[str, Any] | None:
        """What was promised and spent; none where the stage report has not run."""
        path = self._find("certificate")
        return None if path is None else read_json(path)

    @property
    def epsilon_spent(self) -> float | None:
        """Accounted from the ledger; none where nothing was promised, or not yet certified."""
        return (self.certificate or {}).get("epsilon_spent")

    def read(self, artefact: str) -> Any:
        """Any artefact of `run_dir` by its name: a table as a data frame, JSON as values, anything else as its path.

        Raises:
          RunDirError: there is no artefact of this name, or not in this run, or it is damaged.
        """
        known = ARTEFACTS | AUDIT_ARTEFACTS
        if artefact not in known:
            raise RunDirError(f"{self.folder}: there is no artefact {artefact!r}; artefacts are {', '.join(sorted(known))}")
        path = self.folder / known[artefact].path
        if not path.exists():
            raise RunDirError(f"{path}: is missing; run the stage that writes it")
        if path.suffix == ".json":
            return read_json(path)
        return read_table(path) if path.suffix in (".jsonl", ".parquet") or artefact == "reviews" else path

    def verify(self) -> str:
        """Recomputes epsilon and checks every hash of the release; raises PrivacyError where something does not hold."""
        from penname.api.calls import verify

        return verify(self.folder)

    def _find(self, artefact: str) -> Path | None:
        path = self.folder / ARTEFACTS[artefact].path
        return path if path.exists() else None

    def __repr__(self) -> str:
        done = [name for name, status, _ in self.stages.rows() if status == "done"]
        spent = "" if self.epsilon_spent is None else f", epsilon spent {self.epsilon_spent:.3f}"
        return f"<Run {self.folder}: done {', '.join(done) or 'nothing'}{spent}>"

    def _repr_html_(self) -> str:
        certificate = self.certificate
        lines = [f"<b>{html.escape(str(self.folder))}</b>"]
        if certificate is not None and certificate.get("promise"):
            spent = certificate.get("epsilon_spent")
            lines.append(f"epsilon spent {'–' if spent is None else format(spent, '.3f')} of {certificate['promise']['target_epsilon']:g}")
            lines.append("release/ may be given away" if certificate["releasable"] else "NOT RELEASABLE")
        lines.append("everything else here is PRIVATE")
        tables = ", ".join(html.escape(name) for name in self.records)
        return f"<p>{'; '.join(lines)}</p><p>records: {tables or 'none yet'}</p>{self.stages._repr_html_()}"


class Records(Mapping[str, Any]):
    """Tables of a run by name; each is read when it is asked for. PRIVATE."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._read = {name: partial(read_table, path) for name, path in paths.items()}

    def __getitem__(self, name: str) -> pl.DataFrame:
        return self._read[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._read)

    def __len__(self) -> int:
        return len(self._read)

    def __repr__(self) -> str:
        return f"Records: {', '.join(self._read) or 'none yet'}"


def read_table(path: Path) -> pl.DataFrame:
    """A file of ours, or a folder of its parts, as a data frame.

    Raises:
      RunDirError: it is damaged.
    """
    import polars as pl

    try:
        if path.is_dir():
            return pl.read_parquet(path / "*.parquet")
        if path.suffix == ".parquet":
            return pl.read_parquet(path)
        return pl.read_ndjson(path, infer_schema_length=None) if path.stat().st_size else pl.DataFrame()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise RunDirError(f"{path}: is damaged ({str(error).splitlines()[0][:120]}); run the stage that writes it again") from None


def read_metrics(paths: Sequence[Path]) -> pl.DataFrame:
    """Rows of files in the form of `metrics.json` as one table.

    Raises:
      RunDirError: a file is damaged.
    """
    import polars as pl

    texts = dict.fromkeys(("family", "name", "arm"), pl.String)
    numbers = dict.fromkeys(("value", "ci95_low", "ci95_high", "reference"), pl.Float64)
    schema = {**texts, **numbers, "direction": pl.String, "visibility": pl.String, "num_records": pl.Int64, "source": pl.String}
    rows = []
    for path in paths:
        for row in read_json(path):
            low, high = row["ci95"] or (None, None)
            rows.append({**row, "ci95_low": low, "ci95_high": high})
    return pl.DataFrame([{key: row.get(key) for key in schema} for row in rows], schema=schema)
