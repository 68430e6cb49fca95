"""Training units: the records of a unit, tokenised when it is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from penname.errors import DataError
from penname.model.tokenize import TokenizedRecord, encode_record
from penname.train.layout import Unit
from penname.unit_file import UnitFile


class TrainingUnits:
    """Every unit of the training split, by index, in the order of their first records. PRIVATE."""

    def __init__(self, path: Path, tokenizer: Any, *, max_tokens: int) -> None:
        """Reads the file once, for where its records are and whose.

        Args:
          path: The artefact train_records. PRIVATE.
          tokenizer: Of the base model.
          max_tokens: A longer record is cut.
        Raises:
          RunDirError: the file is missing or damaged.
          DataError: no record of any unit fits.
        """
        self._file, self._tokenizer, self._max_tokens = UnitFile(path), tokenizer, max_tokens
        if not any(self[i] for i in range(len(self))):
            raise DataError("train: no record has room for a completion; raise train.max_record_tokens or shorten the template")

    def __len__(self) -> int:
        return len(self._file)

    def __getitem__(self, index: int) -> Unit:
        """The records of one unit that fit, in the order of the file. A unit without one stays in the draw and contributes nothing. PRIVATE."""
        encoded = (self._encode(place) for place in self._file.find_places(index))
        return [record for record in encoded if record is not None]

    def spread(self, count: int) -> list[Unit]:
        """At most `count` units from all over the file, and one of several records where there is one. PRIVATE."""
        return [self[i] for i in self._file.spread(count)]

    def _encode(self, place: int) -> TokenizedRecord | None:
        row = self._file.read_record(place)
        return encode_record(self._tokenizer, row["prompt"], row["completion"], max_tokens=self._max_tokens)
