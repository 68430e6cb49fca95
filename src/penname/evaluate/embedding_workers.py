"""Embeddings computed by several workers, in the very batches that one process would compute, so that they are the same."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from penname.distributed.shards import ShardEngine
from penname.distributed.shares import cut_evenly
from penname.model.embedding import load_embedder

_SHARDS_A_WORKER = 4


class WorkerEmbed:
    """Texts to embeddings on an engine's workers."""

    def __init__(self, name: str, dtype: str, engine: ShardEngine) -> None:
        # Workers stand elsewhere.
        folder_or_name = str(Path(name).resolve()) if Path(name).is_dir() else name
        self._load, self._engine = partial(load_embedder, folder_or_name, dtype=dtype), engine

    def __call__(self, texts: list[str]) -> np.ndarray:
        """(n, D) float32, unit length; as `Embedder.embed`.

        Args:
          texts: PRIVATE when real.
        Raises:
          ModelError: the embedding model is not there, here or at a worker.
          EngineError: the cluster does not answer, or workers are lost again and again.
        """
        embedder = self._load()
        batches = embedder.cut(texts)
        shards = [batches[part.start : part.stop] for part in cut_evenly(len(batches), _SHARDS_A_WORKER * self._engine.num_workers)]
        vectors = np.zeros((len(texts), embedder.width), dtype=np.float32)
        for place, parts in self._engine.map_shards(embed_shard, shards, prepare=self._load):
            for batch, own in zip(shards[place], parts, strict=True):
                vectors[batch.places] = own
        return vectors


def embed_shard(embedder: Any, batches: list[Any]) -> list[np.ndarray]:
    """What a worker computes."""
    return [embedder.embed_batch(batch) for batch in batches]
