"""The stage evaluate: metrics of a run, and of any files. Everything it writes is PRIVATE: it was computed from real rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from penname.config import Config, EvaluateConfig, ModelConfig
from penname.errors import DataError, RunDirError, UsageError
from penname.evaluate.computation import collect_figure_data, compute_metrics, list_left_out
from penname.evaluate.embedding_cache import CachedEmbed
from penname.evaluate.files import check_synthetic_names, read_table
from penname.evaluate.metric import Metric
from penname.evaluate.model_likelihood import BaseLikelihood
from penname.evaluate.planted_facts import PlantedFacts, read_planted_facts
from penname.evaluate.registry import select_metrics
from penname.evaluate.samples import MAX_ROWS_HELD, Row, RowSet, Samples, sample_at_most, seeded_generator
from penname.evaluate.utility.downstream_scores import DownstreamScores
from penname.progress import say
from penname.run_dir import RunDir, read_rows, write_json
from penname.schemas import BASE

MIN_RUN_ROWS = 2
"""A run is evaluated however small it is, as long as a spread can be computed; the intervals say how little that tells."""

Embed = Callable[[list[str]], np.ndarray]


def run_evaluate(config: Config, run_dir: RunDir) -> None:
    """Computes the metrics of a run: its synthetic sets against its real rows.

    Writes the artefacts privacy_metrics, fidelity_metrics and utility_metrics, each a list of rows of `metrics.json`; a family of
    which no metric was asked for is an empty list. Writes left_out, what these data could not give and why.

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
    embed = _choose_embed(config) or _EmbedLater(config.evaluate)
    samples = build_samples(
        train=rows["train_records"],
        heldout=rows["heldout_records"],
        test=rows["test_records"],
        synthetic={arm: rows[f"synthetic_{arm}"] for arm in config.train.arms},
        base=_read_artefact(run_dir.path("base_texts"), seed) if run_dir.path("base_texts").is_file() else None,
        config=config.evaluate,
        embed=_keep_embeddings(embed, run_dir.path("embeddings"), config.evaluate),
        facts=_read_facts(config.evaluate, run_dir.path("sample_data") if config.data.format == "sample" else None),
        likelihood=BaseLikelihood(config.model),
        downstream=_choose_downstream(metrics, config.evaluate, run_dir.path("downstream_scores")),
    )
    results = compute_metrics(samples, metrics)
    write_json(run_dir.path("figure_data"), collect_figure_data(samples))
    write_json(run_dir.path("left_out"), list_left_out(samples, metrics))
    for family in ("privacy", "fidelity", "utility"):
        write_json(run_dir.path(f"{family}_metrics"), [result for result in results if result["family"] == family])


def evaluate_files(
    *,
    real: Path,
    heldout: Path | None,
    synthetic: dict[str, Path],
    out: Path,
    config: EvaluateConfig,
    model: ModelConfig | None = None,
    embed: Embed | None = None,
) -> None:
    """Computes the metrics of any files and writes `out/metrics.json` and `out/left_out.json`. The command `penname evaluate --real F ...`.

    With heldout: real is train, and heldout is split by seed into a half for test and a half for heldout. Without: real is split by
    seed into disjoint thirds for train, test and heldout, and a line on standard error says what that costs.

    Args:
      real: What the synthetic sets were made from. PRIVATE.
      heldout: Real rows that they were not made from. PRIVATE.
      synthetic: File by name; each name is an arm of `metrics.json`.
      out: Folder, made if it is not there.
      config: Metrics, seed, sizes.
      model: The base model that metrics may ask; none: they are left out.
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
    downstream = _choose_downstream(metrics, config, out / "downstream")
    samples = build_samples(
        train=train,
        heldout=held,
        test=test,
        synthetic=synthetic_rows,
        config=config,
        embed=embed or _keep_embeddings(_EmbedLater(config), out / "embeddings", config),
        facts=_read_facts(config, None),
        likelihood=None if model is None else BaseLikelihood(model),
        downstream=downstream,
    )
    write_json(out / "metrics.json", compute_metrics(samples, metrics))
    write_json(out / "figure_data.json", collect_figure_data(samples))
    write_json(out / "left_out.json", list_left_out(samples, metrics))


def build_samples(
    *,
    train: list[Row],
    heldout: list[Row],
    test: list[Row],
    synthetic: dict[str, list[Row]],
    config: EvaluateConfig,
    base: list[Row] | None = None,
    embed: Embed | None = None,
    facts: PlantedFacts | None = None,
    likelihood: Callable[[list[str]], list[np.ndarray]] | None = None,
    downstream: Callable[[Samples], DownstreamScores] | None = None,
) -> Samples:
    """Puts the sets together for the metrics; the embedding model is loaded when a metric first asks for it.

    Args:
      train, heldout, test: Disjoint real rows. PRIVATE.
      synthetic: Rows by arm.
      config: Seed, sizes, embedding model.
      base: What the untrained model wrote to the same prompts; none where it wrote nothing.
      embed: Texts to (n, D) unit-length embeddings; none means `config.embedding_model`.
      facts: What is true of each product; none where nothing was planted.
      likelihood: Texts to token log-likelihoods under the base model; none where there is none to ask.
      downstream: Tunes language models; none where no metric asks for it.
    """
    embed = embed or _EmbedLater(config)
    return Samples(
        train=RowSet("train", train, embed),
        heldout=RowSet("heldout", heldout, embed),
        test=RowSet("test", test, embed),
        synthetic={arm: RowSet(f"synthetic/{arm}", rows, embed) for arm, rows in synthetic.items()},
        base=None if base is None else RowSet(BASE, base, embed),
        seed=config.seed,
        num_bootstrap=config.num_bootstrap,
        max_records=config.max_records,
        facts=facts,
        likelihood=likelihood,
        downstream=downstream,
    )


def _keep_embeddings(embed: Embed, folder: Path, config: EvaluateConfig) -> Embed:
    """Embeds what the folder does not hold yet."""
    from penname.model.embedding import name_encoder

    return CachedEmbed(embed, folder, model=name_encoder(config.embedding_model, dtype=config.embedding_dtype))


def _read_facts(config: EvaluateConfig, sample_data: Path | None) -> PlantedFacts | None:
    """The facts of the folder that the config names, else those of the run's own sample data."""
    if config.facts is not None:
        return read_planted_facts(Path(config.facts))
    return None if sample_data is None or not sample_data.is_dir() else read_planted_facts(sample_data)


def _choose_embed(config: Config) -> Embed | None:
    """Embeddings on the workers of `engine`, where it has any."""
    if config.engine.kind == "local":
        return None
    from penname.distributed.shards import open_engine
    from penname.evaluate.embedding_workers import WorkerEmbed

    return WorkerEmbed(config.evaluate.embedding_model, config.evaluate.embedding_dtype, open_engine(**config.engine.model_dump(exclude={"timeout_secs"})))


def _choose_downstream(metrics: tuple[Metric, ...], config: EvaluateConfig, folder: Path) -> Callable[[Samples], DownstreamScores] | None:
    """What tunes language models, where a metric asks for it; a library that is missing is said at once."""
    from penname.evaluate.utility.downstream_tuning import DownstreamTuner, are_downstream

    return DownstreamTuner(config, folder) if are_downstream([metric.name for metric in metrics]) else None


class _EmbedLater:
    """Loads the embedding model at the first call."""

    def __init__(self, config: EvaluateConfig) -> None:
        self._config, self._embedder = config, None

    def __call__(self, texts: list[str]) -> np.ndarray:
        from penname.model.embedding import load_embedder

        if self._embedder is None:
            self._embedder = load_embedder(self._config.embedding_model, dtype=self._config.embedding_dtype)
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
