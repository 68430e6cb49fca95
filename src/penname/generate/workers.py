"""An arm's texts written by several workers. A record's place decides its words, so they are the same whoever writes them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penname.config import Config
from penname.distributed.shards import open_engine
from penname.distributed.shares import cut_evenly
from penname.generate.conditioning import Condition
from penname.generate.decode import Decoder
from penname.generate.engines import open_decoder
from penname.generate.synthesize import RecordWriter, check_all_parsed
from penname.model.adapter import merge_adapter
from penname.model.base import load_base_model
from penname.progress import Progress
from penname.schemas import SyntheticRecord
from penname.template import RecordTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Several for each worker, so that none waits long for the last.
_SHARDS_A_WORKER = 4


@dataclass(frozen=True)
class ArmTask:
    """All that a worker needs to write an arm's texts, wherever it is."""

    config: dict[str, Any]
    arm: str
    template: RecordTemplate
    adapter: dict[str, bytes] | None
    """The adapter's files, by name. As private as the arm. None: the untrained model writes."""
    conditions: list[Condition]
    """All of the run: what is decided from the prompts must not depend on the shard."""

    @classmethod
    def gather(cls, config: Config, arm: str, template: RecordTemplate, adapter: Path | None, conditions: Sequence[Condition]) -> ArmTask:
        """Reads what workers may not be able to."""
        resolved = config.model_copy(update={"model": config.model.named_from_root()})
        files = None if adapter is None else {path.name: path.read_bytes() for path in sorted(adapter.iterdir()) if path.is_file()}
        return cls(resolved.model_dump(mode="json"), arm, template, files, list(conditions))


def write_on_workers(
    config: Config,
    arm: str,
    template: RecordTemplate,
    adapter: Path | None,
    conditions: Sequence[Condition],
    done: dict[str, SyntheticRecord],
    save: Callable[[Sequence[SyntheticRecord]], None],
    progress: Progress,
) -> None:
    """Writes the records that an arm lacks, on the workers of `engine`.

    Args:
      config: Sections `generate`, `model` and `engine`.
      arm: Whose texts.
      template: Of the records.
      adapter: The arm's folder; none for the untrained model.
      conditions: All of the run.
      done: Finished records by id; gets the new ones.
      save: Keeps finished records on disk; gets those of a shard when it is finished.
      progress: Counts finished records.
    Raises:
      PennameError: a condition has none after `max_draws_per_record` draws.
      EngineError: the cluster does not answer, or workers are lost again and again.
    """
    engine = open_engine(**config.engine.model_dump(exclude={"timeout_secs"}))
    places = [place for place, condition in enumerate(conditions) if condition.record_id not in done]
    # No fewer in a shard than are written at once: a pass over half of them takes as long.
    parts = cut_evenly(len(places), _SHARDS_A_WORKER * engine.num_workers, at_least=config.generate.batch_size)
    shards = [[places[i] for i in part] for part in parts]
    task = ArmTask.gather(config, arm, template, adapter, conditions)
    num_failed = 0
    for _, (rows, failed) in engine.map_shards(write_shard, shards, prepare=partial(open_writer, task)):
        save(rows)
        done.update({row.record_id: row for row in rows})
        progress.advance(len(rows))
        num_failed += failed
    check_all_parsed(config.generate, arm, num_failed, num_records=len(conditions))


@dataclass(frozen=True)
class OpenWriter:
    """A worker's model, ready to write."""

    writer: RecordWriter
    decoder: Decoder
    conditions: list[Condition]
    prompts: list[tuple[int, ...]]


def open_writer(task: ArmTask) -> OpenWriter:
    """A worker's state."""
    config = Config.model_validate(task.config)
    model, tokenizer = load_base_model(config.model)
    merged = model if task.adapter is None else _merge(model, task.adapter)
    writer = RecordWriter(tokenizer, task.template, config.generate, task.arm)
    prompts = [writer.encode(condition) for condition in task.conditions]
    decoder = open_decoder(config.generate, merged, tokenizer, writer.rules, prompts=prompts, scratch=Path(tempfile.gettempdir()))
    return OpenWriter(writer, decoder, task.conditions, prompts)


def _merge(model: PreTrainedModel, adapter: dict[str, bytes]) -> PreTrainedModel:
    with tempfile.TemporaryDirectory(prefix="penname-adapter-") as folder:
        for name, content in adapter.items():
            (Path(folder) / name).write_bytes(content)
        return merge_adapter(model, Path(folder))


def write_shard(state: OpenWriter, places: list[int]) -> tuple[list[SyntheticRecord], int]:
    """The records of these places, and how many of the places have none that parses."""
    rows: list[SyntheticRecord] = []
    failed = state.writer.write(state.decoder, state.conditions, state.prompts, places, rows.append)
    return sorted(rows, key=lambda row: row.record_id), len(failed)
