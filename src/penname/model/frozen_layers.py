"""The layers below the lowest adapter: what they make of a record is computed once and kept in a file.

They are the same in every step, so a record that is drawn again need not go through them again. What is in memory does not grow with the data;
the file, which is PRIVATE as the records are, has no name and ends with the process at the latest.
"""

from __future__ import annotations

import copy
import hashlib
import os
import tempfile
import weakref
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from penname.model.base import split_head
from penname.model.packing import PackedRows, decode_rows
from penname.model.tokenize import TokenizedRecord

_PROBE_ROWS = (11, 5)
_DIGEST_BYTES = 16


class FrozenLayers:
    """Hidden states of records after the layers that no adapter is on."""

    def __init__(self, decoder: Any, num_layers: int, folder: Path, *, tile_tokens: int, pad_id: int) -> None:
        self._lower = _cut(decoder, slice(num_layers), is_last=False)
        self.upper = _cut(decoder, slice(num_layers, None), is_last=True)
        """The rest of the decoder; it takes hidden states in place of embeddings."""
        self.num_layers, self._pad_id = num_layers, pad_id
        self._device: torch.device = decoder.get_input_embeddings().weight.device
        self.tile_tokens = tile_tokens
        """Of a pass through the frozen layers."""
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)
        weakref.finalize(self, self._file.close)
        # By the tokens themselves: records with the same ones have the same states, and a record that is read again from its file is a new object.
        self._places: dict[bytes, int] = {}
        self._end = 0

    def compute(self, records: Sequence[TokenizedRecord]) -> None:
        """Makes sure that the states of all records are kept.

        Guarantee: a record's states are the same bits whatever it is computed with: every pass has the tokens of a tile, or, for a record
        that is longer, of as many as it needs.

        Args:
          records: PRIVATE.
        """
        by_tokens = {_digest(record): record for record in records}
        missing = [record for digest, record in by_tokens.items() if digest not in self._places]
        waiting = sorted(missing, key=lambda record: len(record.token_ids), reverse=True)
        batch: list[TokenizedRecord] = []
        room = self.tile_tokens
        for record in waiting:
            if batch and len(record.token_ids) > room:
                self._compute_tile(batch)
                batch, room = [], self.tile_tokens
            batch.append(record)
            room -= len(record.token_ids)
        if batch:
            self._compute_tile(batch)

    def forget(self) -> None:
        """Drops what is kept, so that the next `compute` computes every record anew, beside the others that it is given."""
        self._places.clear()
        self._end = 0

    def read(self, records: Sequence[TokenizedRecord]) -> torch.Tensor:
        """The kept states of records, end to end, (sum of T, D), on the processor. PRIVATE."""
        return torch.cat([self._read(record) for record in records])

    @torch.no_grad()
    def _compute_tile(self, batch: Sequence[TokenizedRecord]) -> None:
        num_tokens = sum(len(record.token_ids) for record in batch)
        num_tiles = -(-num_tokens // self.tile_tokens)
        rows = PackedRows.pack(batch, num_tokens=self.tile_tokens * num_tiles, pad_id=self._pad_id, device=self._device)
        states = decode_rows(self._lower, rows).cpu()
        for record, own in zip(batch, states[:num_tokens].split(list(rows.row_lengths)), strict=True):
            written = own.contiguous().view(torch.uint8).numpy().tobytes()
            self._file.seek(self._end)
            self._file.write(written)
            self._places[_digest(record)] = self._end
            self._end += len(written)
        self._file.flush()

    def _read(self, record: TokenizedRecord) -> torch.Tensor:
        embedding = self._lower.get_input_embeddings().weight
        size = len(record.token_ids) * embedding.shape[1] * embedding.element_size()
        raw = bytearray(os.pread(self._file.fileno(), size, self._places[_digest(record)]))
        return torch.frombuffer(raw, dtype=embedding.dtype).view(-1, embedding.shape[1])


def _digest(record: TokenizedRecord) -> bytes:
    return hashlib.blake2b(array("q", record.token_ids).tobytes(), digest_size=_DIGEST_BYTES).digest()


def keep_frozen_layers(model: Any, folder: Path, *, tile_tokens: int, pad_id: int) -> FrozenLayers | None:
    """What the frozen lower layers of an adapted model make of records, where there are such layers and the model can be cut.

    Args:
      model: With adapters, on packed rows (see `enable_packing`).
      folder: Where the file lies; it needs two bytes a hidden unit and token in bfloat16.
      tile_tokens: Of a pass.
      pad_id: Token of the filling.
    Returns:
      None where no layer is frozen, or where the two parts of the model, measured on public tokens, are not the whole.
    """
    decoder, _ = split_head(model)
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        return None
    is_adapted = [any(parameter.requires_grad for parameter in layer.parameters()) for layer in layers]
    # Whatever else trains lies outside of the layers, and then nothing can be said of what is below.
    outside = sum(p.requires_grad for p in model.parameters()) - sum(p.requires_grad for layer in layers for p in layer.parameters())
    num_layers = is_adapted.index(True) if any(is_adapted) else 0
    if num_layers == 0 or outside:
        return None
    frozen = FrozenLayers(decoder, num_layers, folder, tile_tokens=tile_tokens, pad_id=pad_id)
    return frozen if _is_whole(decoder, frozen, tile_tokens=tile_tokens) else None


def _cut(decoder: Any, which: slice, *, is_last: bool) -> Any:
    """The decoder with some of its layers; the layers themselves are shared."""
    part = copy.copy(decoder)
    part._modules = dict(decoder._modules)
    part._modules["layers"] = nn.ModuleList(list(decoder.layers)[which])
    if not is_last:
        part._modules["norm"] = nn.Identity()
    return part


@torch.no_grad()
def _is_whole(decoder: Any, frozen: FrozenLayers, *, tile_tokens: int) -> bool:
    records = [TokenizedRecord([(7 * i + length) % 200 for i in range(length)], 1) for length in _PROBE_ROWS]
    num_tokens = max(tile_tokens, sum(_PROBE_ROWS))
    rows = PackedRows.pack(records, num_tokens=num_tokens, pad_id=0, device=decoder.get_input_embeddings().weight.device)
    try:
        frozen.compute(records)
        cut = decode_rows(frozen.upper, rows.with_states(frozen.read(records)))
        whole = decode_rows(decoder, rows)
    except (AttributeError, TypeError, ValueError, RuntimeError, KeyError):
        return False
    own = slice(sum(_PROBE_ROWS))
    return torch.equal(cut[own], whole[own])
