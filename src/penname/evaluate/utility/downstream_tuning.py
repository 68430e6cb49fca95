"""Tunes and asks one language model a set and seed, and keeps what each said, so that a stopped evaluation goes on with the next one."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from penname.config import EvaluateConfig, ModelConfig
from penname.errors import RunDirError
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.samples import RowSet, Samples
from penname.evaluate.utility.downstream_scores import DownstreamScores, FitScores
from penname.evaluate.utility.rating_task import RatingTask
from penname.progress import Progress, format_secs, say
from penname.run_dir import hash_path, hash_value, read_json, write_json
from penname.schemas import BASE, RATINGS

VERSION = 1
"""Goes up when the same model and the same rows would score differently."""


def round_ratings(rows: RowSet) -> list[int]:
    """The rating of each row as one of 1 to 5; half a star counts up."""
    return [min(RATINGS[-1], max(RATINGS[0], math.floor(row.rating + 0.5))) for row in rows.rows]


class DownstreamTuner:
    """Turns samples into scores; `Samples.downstream` holds one."""

    def __init__(self, config: EvaluateConfig, folder: Path) -> None:
        """
        Args:
          config: The settings `downstream_*`.
          folder: Where finished scores are kept, one file a set and seed. PRIVATE.
        Raises:
          UsageError: a library is missing.
        """
        from penname.evaluate.utility.rating_model import check_engine

        check_engine(config.downstream_engine)
        self._config, self._folder = config, folder
        self._model_config = ModelConfig(name=config.downstream_model, device=config.downstream_device, top_layers=config.downstream_top_layers)

    def __call__(self, samples: Samples) -> DownstreamScores:
        """Scores of the base model, and of one model a set and seed; all sets have the same number of rows.

        Raises:
          LeftOutError: there was not enough memory; what was finished is kept.
          ModelError: the model is not there.
        """
        config = self._config
        num = min(len(samples.train), config.downstream_max_records, *(len(rows) for rows in samples.synthetic.values()))
        test = samples.take(samples.test, config.downstream_max_test_records)
        sets = {arm: samples.take(rows, num) for arm, rows in {"real": samples.train, **samples.synthetic}.items()}
        # Seed by seed, so that an evaluation that is stopped half way has something of every set.
        jobs: list[tuple[str, int | None]] = [(BASE, None), *((arm, seed) for seed in config.downstream_seeds for arm in sets)]
        identity = self._identify(test)
        fits: dict[str, list[FitScores]] = {}
        for number, (arm, seed) in enumerate(jobs, 1):
            train = sets.get(arm)
            key = hash_value([identity, seed, None if train is None else _identify_rows(train)])
            path = self._folder / f"{arm}{'' if seed is None else f'_seed_{seed}'}.json"
            fit = _read_fit(path, key, num_test=len(test))
            if fit is None:
                label = f"downstream {number} of {len(jobs)}: {arm}{'' if seed is None else f', seed {seed}'}"
                fit = self._tune_and_score(label, train, test, seed)
                write_json(path, {"key": key, "arm": arm, "seed": seed, **fit.to_json()})
            fits.setdefault(arm, []).append(fit)
        import numpy as np

        return DownstreamScores(np.array(round_ratings(test), dtype=np.int64), fits, num)

    def _identify(self, test: RowSet) -> str:
        """Hash of all that the scores of a set depend on beside the set and the seed."""
        from penname.model.base import find_base_model

        source = Path(find_base_model(self._config.downstream_model))
        settings = self._config.model_dump(mode="json")
        names = ("engine", "device", "top_layers", "num_steps", "batch_size", "learning_rate", "max_tokens")
        model = hash_path(source) if source.is_dir() else str(source)
        return hash_value([VERSION, model, {name: settings[f"downstream_{name}"] for name in names}, _identify_rows(test)])

    def _tune_and_score(self, label: str, train: RowSet | None, test: RowSet, seed: int | None) -> FitScores:
        from penname.model.free_memory import is_out_of_memory

        began = time.monotonic()
        try:
            fit = self._compute(label, train, test, seed)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            # The traceback holds the tensors.
            error.__traceback__ = None
            raise LeftOutError(
                f"memory ran out at {label}; make evaluate.downstream_batch_size or evaluate.downstream_max_tokens smaller: what was finished is kept"
            ) from None
        finally:
            gc.collect()
        say(f"{label}: done in {format_secs(time.monotonic() - began)}")
        return fit

    def _compute(self, label: str, train: RowSet | None, test: RowSet, seed: int | None) -> FitScores:
        from penname.evaluate.utility.rating_model import load_model, score_reviews, tune_model

        config = self._config
        model, tokenizer = load_model(self._model_config, engine=config.downstream_engine, max_tokens=config.downstream_max_tokens)
        task = RatingTask.from_tokenizer(tokenizer)

        def encode(rows: RowSet) -> list[Any]:
            return task.encode(tokenizer, rows.texts, round_ratings(rows), max_tokens=config.downstream_max_tokens)

        if train is not None and seed is not None:
            progress = Progress(f"{label}, training", config.downstream_num_steps, show_bar=False)
            model = tune_model(
                model,
                tokenizer,
                encode(train),
                task,
                config=self._model_config,
                engine=config.downstream_engine,
                num_steps=config.downstream_num_steps,
                batch_size=config.downstream_batch_size,
                learning_rate=config.downstream_learning_rate,
                seed=seed,
                on_step=lambda _step, loss: progress.advance(note=f"loss {loss:.3f}" if loss is not None else ""),
            )
        scoring = Progress(f"{label}, scoring", len(test), show_bar=False)
        return score_reviews(model, tokenizer, encode(test), task, on_progress=scoring.advance)


def _identify_rows(rows: RowSet) -> str:
    return hash_value([[text, rating] for text, rating in zip(rows.texts, round_ratings(rows), strict=True)])


def _read_fit(path: Path, key: str, *, num_test: int) -> FitScores | None:
    """What was kept of this very work; a file of other work, or a damaged one, is computed again."""
    if not path.is_file():
        return None
    try:
        values = read_json(path)
        if values["key"] != key:
            return None
        fit = FitScores.from_json(values)
    except (RunDirError, KeyError, TypeError, ValueError):
        return None
    return fit if len(fit.num_text_tokens) == num_test else None


def are_downstream(names: Sequence[str]) -> bool:
    """Whether any of these metrics needs a tuned language model."""
    return any(name.startswith("downstream_llm_") for name in names)
