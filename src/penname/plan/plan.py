"""A plan: noise, tokens, time by stage and memory of a run, from the config and a few seconds of measuring."""

from __future__ import annotations

import gc
import importlib
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any

from penname.config import Config
from penname.errors import UsageError

if TYPE_CHECKING:
    from penname.model.free_memory import TrainingMemory
    from penname.plan.evaluation_speed import EvaluationSpeed
    from penname.plan.generation_speed import GenerationSpeed
    from penname.plan.memory import GenerationMemory
    from penname.plan.promise import PlannedPromise
    from penname.plan.rehearsal import Passes
    from penname.plan.texts import Texts
    from penname.plan.training_speed import TrainingSpeed
    from penname.plan.work import TrainingWork

_TRAINING_SECS, _WRITING_SECS = 3.0, 2.5


@dataclass(frozen=True)
class Plan:
    """What a run would promise, compute, take and hold."""

    promise: PlannedPromise
    texts: Texts
    training: TrainingWork
    training_speed: TrainingSpeed
    passes: Passes
    generation_speed: GenerationSpeed
    evaluation_speed: EvaluationSpeed
    begin_secs: float
    """Of libraries and the accountant, once a run."""
    library_bytes: int
    """Resident before a model is loaded."""
    peaks: dict[str, int]
    """The most that was resident until the end of each measurement, by its name."""
    training_memory: TrainingMemory
    generation_memory: GenerationMemory
    config: Config

    def stage_secs(self, choose: Callable[[list[float]], float] = median) -> dict[str, float]:
        """Seconds of each stage; the report's are not predicted.

        Args:
          choose: Of the measurements of one thing: their median, min or max.
        """
        # The untrained model's texts are written once each, by the same steps.
        arms, base = len(self.config.train.arms), self.num_base_records / self.config.generate.num_records
        writing = self.generation_speed.decode_secs(self.passes, choose)
        return {
            **self.texts.stage_secs,
            "train": self._train_secs(choose),
            "generate": (arms + bool(base)) * self.generation_speed.open_secs + (arms + base) * writing,
            "evaluate": self.evaluation_speed.stage_secs(num_rows=self._count_compared(), num_sets=3 + arms),
        }

    def _train_secs(self, choose: Callable[[list[float]], float]) -> float:
        speed, work = self.training_speed, self.training
        token_secs = {name: choose(measured) for name, measured in speed.token_secs.items()}
        frozen = token_secs.get("frozen", 0.0)
        secs = self.begin_secs
        for arm in self.config.train.arms:
            own = token_secs[arm]
            secs += speed.load_secs + speed.prepare_secs + work.trial_tokens * (own + frozen)
            secs += work.num_steps * (work.computed_tokens_a_step * own + speed.step_secs) + work.frozen_tokens * frozen
            if arm == "with_dp":
                secs += speed.check_secs + work.check_tokens * (own + frozen)
        return secs

    @property
    def num_base_records(self) -> int:
        """Texts of the untrained model."""
        from penname.generate.synthesize import count_base_records

        return count_base_records(self.config)

    def _count_compared(self) -> int:
        """Rows of each set in the evaluation."""
        records, config = self.config.records, self.config
        num_train = self.texts.num_units * mean(map(len, self.texts.units))
        others = [num_train * frac / (1 - records.test_frac - records.heldout_frac) for frac in (records.test_frac, records.heldout_frac) if frac]
        return round(min(*others, config.generate.num_records, config.evaluate.max_records))

    @property
    def peak_bytes(self) -> int:
        """The most that was resident while this was measured."""
        return max(self.peaks.values())

    @property
    def predicted_peak_bytes(self) -> int:
        """Resident at the most: what was seen, or the arithmetic where that is more."""
        return max(self.peak_bytes, self.library_bytes + self.training_memory.total, self.library_bytes + self.generation_memory.total)


def plan_run(
    config: Config, *, num_units: int | None, record_tokens: int | None = None, reads_lengths: bool = False, model_size: str | None = None
) -> list[str]:
    """Lines for a person. Writes nothing, spends nothing, and touches no private data unless `reads_lengths` says so.

    Args:
      config: Of the run.
      num_units: Units in the training split; None only for the embedded demo, whose fiction is counted.
      record_tokens: Tokens of a record, prompt included; None: as many as there may be.
      reads_lengths: Some rows of the data are read for their lengths instead; what is said of them is PRIVATE.
      model_size: A model of `known_models` that is planned on paper; none is loaded.
    Raises:
      UsageError: the number of units is needed and not given, or the model is not known.
      PrivacyError: the promise cannot be kept.
    """
    from penname.plan.known_models import find_shape

    if model_size is not None or (find_shape(config.model.name) is not None and not _is_here(config.model.name)):
        return _plan_paper(config, model_size or config.model.name, record_tokens=record_tokens)
    from penname.plan.wording import describe_plan

    return describe_plan(make_plan(config, num_units=num_units, record_tokens=record_tokens, reads_lengths=reads_lengths))


def make_plan(config: Config, *, num_units: int | None, record_tokens: int | None = None, reads_lengths: bool = False) -> Plan:
    """Measures, counts, adds up. Arguments and errors as for `plan_run`."""
    if num_units is None and config.data.format != "sample":
        raise UsageError("plan counts no units: say with --num-units how many users (or records, or values of the column) will be in the training split")
    if config.train.method != "dp_sgd":
        raise UsageError("train.method: plan measures training with dp_sgd only; leave train.method out for a plan")
    if config.generate.engine != "penname":
        raise UsageError("generate.engine: plan measures the engine penname only; set generate.engine=penname for a plan")
    if reads_lengths and record_tokens is not None:
        raise UsageError("--record-tokens and --read-lengths both say how long records are; give one of them")
    began = time.monotonic()
    _import_libraries()
    from penname.model.base import load_base_model
    from penname.model.device import return_freed_memory

    # What the program did before it asked for a plan is no library's.
    return_freed_memory()
    library_bytes = _read_resident_bytes()

    _, tokenizer = load_base_model(config.model)
    load_secs = time.monotonic() - began
    with tempfile.TemporaryDirectory() as name:
        texts = _find_texts(config, tokenizer, Path(name) / "data", num_units=num_units, record_tokens=record_tokens, reads_lengths=reads_lengths)
        began = time.monotonic()
        from penname.plan.promise import plan_promise

        promise = plan_promise(config, num_units=texts.num_units)
        account_secs = time.monotonic() - began
        return _measure(config, texts, promise, Path(name), begin_secs=load_secs + account_secs, library_bytes=library_bytes)


def _measure(config: Config, texts: Texts, promise: PlannedPromise, folder: Path, *, begin_secs: float, library_bytes: int) -> Plan:
    from penname.plan.evaluation_speed import measure_evaluation
    from penname.plan.generation_speed import measure_generation
    from penname.plan.memory import estimate_generation_memory, estimate_training
    from penname.plan.training_speed import measure_training
    from penname.plan.work import count_training

    training = measure_training(config, texts.units, num_units=texts.num_units, folder=folder, budget_secs=_TRAINING_SECS)
    peaks = {"training": _read_peak_bytes()}
    # What of the training's model refers to itself goes when it is collected.
    gc.collect()
    work = count_training(config, texts.units, training.layout, num_units=texts.num_units, keeps_states=training.num_frozen_layers > 0)
    generation = measure_generation(config, texts, folder=folder, budget_secs=_WRITING_SECS)
    peaks["generation"] = _read_peak_bytes()
    records = [record for unit in texts.units for record in unit]
    evaluation = measure_evaluation(config, text_tokens=mean(record.num_completion_tokens for record in records))
    shape, bytes_a_weight = training.shape, training.weight_bytes
    tile = training.layout.tile_tokens or config.train.max_record_tokens
    shared = len(_shared(texts.prompts))
    longest = max(map(len, texts.prompts)) - shared + config.generate.max_new_tokens
    return Plan(
        promise,
        texts,
        work,
        training,
        generation.count_passes(texts, config),
        generation,
        evaluation,
        max(0.0, begin_secs - training.load_secs),
        library_bytes,
        peaks | {"evaluation": _read_peak_bytes()},
        estimate_training(shape, config, weight_bytes=bytes_a_weight, tile_tokens=tile),
        estimate_generation_memory(shape, weight_bytes=bytes_a_weight, num_slots=config.generate.batch_size, tokens_a_text=longest, num_prefix_tokens=shared),
        config,
    )


def _find_texts(config: Config, tokenizer: Any, folder: Path, *, num_units: int | None, record_tokens: int | None, reads_lengths: bool) -> Texts:
    from dataclasses import replace

    from penname.plan.texts import assume_texts, make_demo_texts, sample_texts

    if config.data.format == "sample":
        texts = make_demo_texts(config, tokenizer, folder)
        return texts if num_units is None else replace(texts, num_units=num_units)
    assert num_units is not None
    if reads_lengths:
        return sample_texts(config, tokenizer, num_units=num_units)
    return assume_texts(config, tokenizer, num_units=num_units, record_tokens=record_tokens)


def _plan_paper(config: Config, name: str, *, record_tokens: int | None) -> list[str]:
    from penname.plan.known_models import read_shape
    from penname.plan.paper import describe_paper_plan, plan_on_paper

    return describe_paper_plan(plan_on_paper(name, read_shape(name), config, record_tokens=record_tokens or config.train.max_record_tokens))


def _is_here(name: str) -> bool:
    """Whether a model can be loaded without a network."""
    from huggingface_hub import try_to_load_from_cache

    from penname.model.base import find_base_model

    source = find_base_model(name)
    return Path(source).is_dir() or isinstance(try_to_load_from_cache(source, "config.json"), str)


def _shared(prompts: list[tuple[int, ...]]) -> list[int]:
    from penname.generate.decode import find_prefix

    return find_prefix(prompts)


def _import_libraries() -> None:
    """Now, so that no measurement waits for them."""
    from penname.model.quantization import import_bitsandbytes

    # Before PEFT does it.
    import_bitsandbytes()
    for name in ("transformers", "peft"):
        importlib.import_module(name)


def _read_resident_bytes() -> int:
    import psutil

    return psutil.Process().memory_info().rss


def _read_peak_bytes() -> int:
    """The most that was resident in this process."""
    status = Path("/proc/self/status")
    if status.is_file():
        # What getrusage says may be the peak of the process that this one was forked from.
        lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
