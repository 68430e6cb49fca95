"""The experiment of the system that penname set out from: its one string in front of a share of the training reviews."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from penname.errors import DataError
from penname.privacy.unit import keyed_fraction
from penname.records.canaries import ORIGINAL_STRING
from penname.run_dir import write_rows
from penname.schemas import Record
from penname.template import RecordTemplate

ORIGINAL_SHARES = (0.01, 0.1, 1.0)
"""The shares of its training reviews that held the string."""


def plant_original(records: Sequence[Record], *, share: float, template: RecordTemplate, seed: int) -> list[Record]:
    """Puts the original's one string in front of a share of the training reviews, as its authors did.

    Args:
      records: The training split. PRIVATE.
      share: In (0, 1]; of smaller shares the reviews are among those of larger ones.
      template: Of the run.
      seed: Of the choice.
    Returns:
      list[Record]: as many as given, in their order. PRIVATE.
    Source: the experiment of the system that penname set out from (1 %, 10 %, 100 %).
    """
    order = sorted(range(len(records)), key=lambda i: keyed_fraction(seed, "canary_original", records[i].record_id))
    chosen = set(order[: max(1, round(share * len(records)))])
    return [_put_in_front(record, template) if i in chosen else record for i, record in enumerate(records)]


def _put_in_front(record: Record, template: RecordTemplate) -> Record:
    text = f"{ORIGINAL_STRING} {record.text}"
    return replace(record, text=text, completion=template.fill_completion(title=record.title, text=text))


def write_original_experiment(
    folder: Path, records: Sequence[Record], *, template: RecordTemplate, seed: int, shares: Sequence[float] = ORIGINAL_SHARES
) -> dict[str, int]:
    """Writes the training files of the original's experiment.

    Args:
      folder: Gets `amazon_train_canary_{1,10,100}.jsonl`, named for the shares in percent. PRIVATE.
      records: The training split. PRIVATE.
      template, seed: As in `plant_original`.
      shares: Of the training reviews.
    Returns:
      dict[str, int]: how many records of each file hold the string.
    Raises:
      DataError: there is no record.
    """
    if not records:
        raise DataError("canaries: there are no training records to plant them in")
    counts: dict[str, int] = {}
    for share in shares:
        planted: list[Record] = plant_original(records, share=share, template=template, seed=seed)
        rows: list[dict[str, Any]] = [asdict(record) for record in planted]
        name = f"amazon_train_canary_{100 * share:g}.jsonl"
        write_rows(folder / name, rows)
        counts[name] = sum(record.text.startswith(ORIGINAL_STRING) for record in planted)
    return counts
