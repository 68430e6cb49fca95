"""Chunks of reviews cleaned in this process or by the workers of an engine, in the order of the file either way."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from penname.distributed.ahead import map_ahead
from penname.distributed.shards import in_order, open_engine
from penname.ingest.raw_batch import Chunk
from penname.ingest.reviews import CleanBatch, ReviewRules, clean_chunk

if TYPE_CHECKING:
    from penname.config import EngineConfig


def clean_chunks(rules: ReviewRules, chunks: Iterator[Chunk], engine: EngineConfig) -> Iterator[CleanBatch]:
    """What becomes of each chunk, in their order; a few are worked on at a time.

    Args:
      rules: Public; each worker gets them once, the catalogue with them.
      chunks: PRIVATE.
      engine: Where.
    Returns:
      One batch a chunk. PRIVATE.
    Raises:
      EngineError: the cluster does not answer, or workers are lost again and again.
      DataError: what reading the chunks raises.
    """
    if engine.kind == "local":
        return map_ahead(partial(clean_chunk, rules), chunks)
    workers = open_engine(**engine.model_dump(exclude={"timeout_secs"}))
    # Another machine does not see the files.
    loaded = (chunk.load_data() for chunk in chunks)
    return in_order(workers.map_shards(clean_chunk, loaded, prepare=partial(_take, rules)))


def _take(rules: ReviewRules) -> ReviewRules:
    """What a worker starts with."""
    return rules
