"""The stage evaluate: metrics of a run, and of any files. Everything it writes is PRIVATE: it was computed from real rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from penname.config import Config, EvaluateConfig
from penname.errors import DataError, RunDirError, UsageError
from penname.evaluate.files import check_synthetic_names, read_table
from penname.evaluate.metric import Metric
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.registry import select_metrics
from penname.evaluate.samples import MAX_ROWS_HELD, Row, RowSet, Samples, sample_at_most, seeded_generator
from penname.progress import say, show_progress
from penname.run_dir import RunDir, read_rows, write_json
from penname.schemas import MetricResult

MIN_RUN_ROWS = 2
"""A run is evaluated however small it is, as long as a spread can be computed; the intervals say how little that tells."""

Embed = Callable[[list[str]], np.ndarray]


def run_evaluate(config: Config, run_dir: RunDir) -> None:
    """Computes the metrics of a run: its synthetic sets against its real rows.

    Writes the artefacts privacy_metrics, fidelity_metrics and utility_metrics, each a list of rows of `metrics.json`; a family of
    which no metric was asked for is an empty list.

    Args:
      config: `train.arms` says which synthetic sets there are, `evaluate` what to compute.
      run_dir: Holds train, heldout and test records (PRIVATE) and the synthetic records.
    Raises:
      UsageError: an unknown metric.
      RunDirError: an artefact is missing or damaged.
      DataError: a set has too few rows.
      ModelError: the embedding model is not there.
    """
    metrics = select_metrics(config.evaluate.metrics)
    seed = config.evaluate.seed
    names = ["train_records", "heldout_records", "test_records", *(f"synthetic_{arm}" for arm in config.train.arms)]
    rows = {name: _read_artefact(run_dir.path(name), seed) for name in names}
    if len(rows["heldout_records"]) < MIN_RUN_ROWS:
        rows["heldout_records"], rows["test_records"] = _split_rows(rows["test_records"], 2, seed)
        say("evaluate: too few heldout records for a real-vs-real reference; half of test stands in for them")
    for name, own in rows.items():
        if len(own) < MIN_RUN_ROWS:
            raise DataError(f"{run_dir.path(name)}: has {len(own)} records; evaluation needs {MIN_RUN_ROWS} in every set, so use more data")
    samples = build_samples(
        train=rows["train_records"],
        heldout=rows["heldout_records"],
        test=rows["test_records"],
        synthetic={arm: rows[f"synthetic_{arm}"] for arm in config.train.arms},
        config=config.evaluate,
        embed=_choose_embed(config),
    )
    results = compute_metrics(samples, metrics)
    for family in ("privacy", "fidelity", "utility"):
        write_json(run_dir.path(f"{family}_metrics"), [result for result in results if result["family"] == family])


def evaluate_files(*, real: Path, heldout: Path | None, synthetic: dict[str, Path], out: Path, config: EvaluateConfig, embed: Embed | None = None) -> None:
    """Computes the metrics of any files and writes `out/metrics.json`. The command `penname evaluate --real F ...`.

    With heldout: real is train, and heldout is split by seed into a half for test and a half for heldout. Without: real is split by
    seed into disjoint thirds for train, test and heldout, and a line on standard error says what that costs.

    Args:
      real: What the synthetic sets were made from. PRIVATE.
      heldout: Real rows that they were not made from. PRIVATE.
      synthetic: File by name; each name is an arm of `metrics.json`.
      out: Folder, made if it is not there.
      config: Metrics, seed, sizes.
      embed: Texts to unit-length embeddings; none means `config.embedding_model`.
    Raises:
      UsageError: an unknown metric, a bad name, `out` is a file.
      DataError: a file cannot be used; names file and line.
      ModelError: the embedding model is not there.
    """
    metrics = select_metrics(config.metrics)
    check_synthetic_names(synthetic)
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; --out needs a folder")
    real_rows = read_table(real, is_synthetic=False, seed=config.seed)
    if heldout is None:
        train, test, held = _split_rows(real_rows, 3, config.seed)
        say(
            f"evaluate: no --heldout, so {real} is split into thirds for train, test and heldout. "
            "If the synthetic rows were made from all of it, test is not unseen: copying scores well and no leak can show."
        )
    else:
        train = real_rows
        test, held = _split_rows(read_table(heldout, is_synthetic=False, seed=config.seed), 2, config.seed)
    synthetic_rows = {name: read_table(path, is_synthetic=True, seed=config.seed) for name, path in synthetic.items()}
    samples = build_samples(train=train, heldout=held, test=test, synthetic=synthetic_rows, config=config, embed=embed)
    write_json(out / "metrics.json", compute_metrics(samples, metrics))


def build_samples(
    *,
    train: list[Row],
    heldout: list[Row],
    test: list[Row],
    synthetic: dict[str, list[Row]],
    config: EvaluateConfig,
    embed: Embed | None = None,
) -> Samples:
    """Puts the sets together for the metrics; the embedding model is loaded when a metric first asks for it.

    Args:
      train, heldout, test: Disjoint real rows. PRIVATE.
      synthetic: Rows by arm.
      config: Seed, sizes, embedding model.
      embed: Texts to (n, D) unit-length embeddings; none means `config.embedding_model`.
    """
    embed = embed or _EmbedLater(config.embedding_model)
    return Samples(
        train=RowSet("train", train, embed),
        heldout=RowSet("heldout", heldout, embed),
        test=RowSet("test", test, embed),
        synthetic={arm: RowSet(f"synthetic/{arm}", rows, embed) for arm, rows in synthetic.items()},
        seed=config.seed,
        num_bootstrap=config.num_bootstrap,
        max_records=config.max_records,
    )


def compute_metrics(samples: Samples, metrics: tuple[Metric, ...]) -> list[dict[str, Any]]:
    """Computes metrics one after the other, with progress. One that these data cannot give is left out, and a line on standard error says why.

    Args:
      samples: PRIVATE.
      metrics: From the registry.
    Returns:
      list[dict]: rows of `metrics.json`, with the metric's version. PRIVATE.
    """
    from threadpoolctl import threadpool_limits

    results = []
    # One thread for numpy's matrix products: the matrices are small, and two threads that wait for each other are slower than one.
    with threadpool_limits(limits=1, user_api="blas"), show_progress("evaluate", len(metrics)) as progress:
        for metric in metrics:
            try:
                results += _compute_one(metric, samples)
            except LeftOutError as error:
                say(f"evaluate: {metric.name} is left out: {error}")
            progress.advance(note=metric.name)
    return results


def _compute_one(metric: Metric, samples: Samples) -> list[dict[str, Any]]:
    rows = []
    for estimate in metric.compute(samples):
        result = MetricResult(
            family=metric.family,
            name=metric.name,
            arm=estimate.arm,
            value=float(estimate.value),
            ci95=(float(estimate.ci95[0]), float(estimate.ci95[1])),
            reference=float(estimate.reference),
            direction=metric.direction,
            visibility="PRIVATE",
            num_records=int(estimate.num_records),
            source=metric.source,
        )
        rows.append({**asdict(result), "version": metric.version})
    return rows


def _choose_embed(config: Config) -> Embed | None:
    """Embeddings on the workers of `engine`, where it has any."""
    if config.engine.kind == "local":
        return None
    from penname.distributed.shards import open_engine
    from penname.evaluate.embedding_workers import WorkerEmbed

    return WorkerEmbed(config.evaluate.embedding_model, open_engine(**config.engine.model_dump(exclude={"timeout_secs"})))


class _EmbedLater:
    """Loads the embedding model at the first call."""

    def __init__(self, name: str) -> None:
        self._name, self._embedder = name, None

    def __call__(self, texts: list[str]) -> np.ndarray:
        from penname.model.embedding import load_embedder

        if self._embedder is None:
            self._embedder = load_embedder(self._name)
        return self._embedder.embed(texts)


def _read_artefact(path: Path, seed: int) -> list[Row]:
    """Rows of a file of records or synthetic records, at most MAX_ROWS_HELD of them."""
    try:
        rows = (_convert_record(values) for values in read_rows(path))
        return sample_at_most(rows, MAX_ROWS_HELD, seeded_generator(seed, "read"))
    except (KeyError, TypeError, ValueError):
        raise RunDirError(f"{path}: a row lacks rating, title, text or category; run the stage that writes it again") from None


def _convert_record(values: dict[str, Any]) -> Row:
    return Row(
        rating=float(values["rating"]),
        title=values["title"],
        text=values["text"],
        category=values["category"],
        product_title=values["product_title"],
        finish_reason=values.get("finish_reason", ""),
    )


def _split_rows(rows: list[Row], num_parts: int, seed: int) -> list[list[Row]]:
    """Disjoint parts of equal size but for one row, by seed."""
    order = seeded_generator(seed, "split").permutation(len(rows))
    return [[rows[i] for i in np.sort(part)] for part in np.array_split(order, num_parts)]
