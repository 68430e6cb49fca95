"""Whom the attacks ask about: records that were trained on and others, canaries that were planted and others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from penname.audit.plant import open_template, read_records, read_unseen_texts
from penname.config import Config
from penname.privacy.unit import keyed_fraction
from penname.records.canaries import Canary, draw_references, make_canary_records, read_manifest
from penname.run_dir import RunDir, read_json
from penname.schemas import Record


@dataclass(frozen=True, slots=True)
class Candidate:
    """One record that is asked about. PRIVATE."""

    group: Literal["train", "heldout", "canary", "reference"]
    record: Record
    canary: Canary | None = None
    """Of a canary's record, or a reference's."""


def list_candidates(config: Config, run_dir: RunDir) -> list[Candidate]:
    """All of an audit, in an order that depends on its settings and data alone.

    Args:
      config: Sections `audit` and `records`.
      run_dir: The audit; its canaries are planted.
    Returns:
      Train, heldout, canaries, references. Of a canary the first of its records, or what that would be had it been planted. PRIVATE.
    """
    audit = config.audit
    train, heldout = (read_records(run_dir.path(f"{split}_records")) for split in ("train", "heldout"))
    canaries = read_manifest(run_dir.path("canaries"))
    references = draw_references(num_of_each=audit.num_references, kinds=audit.kinds, texts=read_unseen_texts(run_dir), seed=audit.seed)
    template, bound = open_template(config, run_dir), read_json(run_dir.path("records_counts"))["max_records_per_unit"]

    def first_record(canary: Canary) -> Record:
        return make_canary_records(canary, train, template=template, max_records_per_unit=bound, seed=audit.seed)[0]

    return [
        *(Candidate("train", record) for record in draw_units(train, max_records=audit.max_records_scored, seed=audit.seed)),
        *(Candidate("heldout", record) for record in draw_units(heldout, max_records=audit.max_records_scored, seed=audit.seed)),
        *(Candidate("canary", first_record(canary), canary) for canary in canaries),
        *(Candidate("reference", first_record(canary), canary) for canary in references),
    ]


def draw_units(records: Sequence[Record], *, max_records: int, seed: int) -> list[Record]:
    """Whole units drawn at random, as many as together have about `max_records` records.

    Args:
      records: Of one split. PRIVATE.
      max_records: The unit that reaches this number is the last.
      seed: Of the draw.
    Returns:
      list[Record]: in their old order. PRIVATE.
    """
    if len(records) <= max_records:
        return list(records)
    sizes: dict[str, int] = {}
    for record in records:
        sizes[record.unit_id] = sizes.get(record.unit_id, 0) + 1
    chosen: set[str] = set()
    num_records = 0
    for unit_id in sorted(sizes, key=lambda unit_id: keyed_fraction(seed, "audit_candidates", unit_id)):
        if num_records >= max_records:
            break
        chosen.add(unit_id)
        num_records += sizes[unit_id]
    return [record for record in records if record.unit_id in chosen]
