"""Which records people judge: as many of every arm and of the real test set, shuffled, so that nothing says where one comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from penname.errors import RunDirError
from penname.evaluate.human.questions import Kind
from penname.evaluate.samples import seeded_generator
from penname.run_dir import ARTEFACTS, RunDir, hash_path, hash_value, read_json, read_rows, write_json

SAMPLE_VERSION = 1
NUM_PER_ARM = 500
"""As many as the system that penname set out from had judged of each arm."""
SOURCES = {"real": "test_records", "no_dp": "synthetic_no_dp", "with_dp": "synthetic_with_dp"}
_BLOCK_RECORDS_PER_ARM = 4
"""In every stretch of this many records an arm, all arms are there equally often: who stops early has judged all of them alike. A stretch of one
each would let the last of it be guessed."""


@dataclass(frozen=True, slots=True)
class SampledRecord:
    """One record that people judge. PRIVATE; its arm is never shown to a rater."""

    number: int
    arm: str
    record_id: str
    rating: int
    category: str
    product_title: str
    title: str
    text: str
    finish_reason: str


@dataclass(frozen=True, slots=True)
class SampledPair:
    """Two records of two arms and of one rating, by their numbers."""

    number: int
    left: int
    right: int


@dataclass(frozen=True)
class RatingSample:
    """What people judge in a run. PRIVATE."""

    seed: int
    wanted_per_arm: int
    num_per_arm: int
    sources: dict[str, str]
    """arm -> hash of the file that it was drawn from."""
    records: tuple[SampledRecord, ...]
    pairs: tuple[SampledPair, ...]

    @property
    def sha256(self) -> str:
        """What answers are tied to: the hash of every record, its place and its pair."""
        return hash_value([SAMPLE_VERSION, [asdict(record) for record in self.records], [asdict(pair) for pair in self.pairs]])

    @property
    def arms(self) -> list[str]:
        """The arms that are judged, real first."""
        present = {record.arm for record in self.records}
        return [arm for arm in SOURCES if arm in present]

    def num_subjects(self, kind: Kind) -> int:
        """Of records, or of pairs; they are numbered from 1."""
        return len(self.records) if kind == "single" else len(self.pairs)


def draw_sample(run_dir: RunDir, *, num_per_arm: int = NUM_PER_ARM, seed: int = 1) -> RatingSample:
    """Draws equally many records of each synthetic set and of the real test set, and pairs of equal rating.

    Args:
      run_dir: Holds test_records and at least one synthetic set. PRIVATE.
      num_per_arm: At most this many of each; fewer where a set has fewer.
      seed: The same seed draws the same records in the same order.
    Raises:
      RunDirError: there is nothing to judge yet, or a file is damaged.
    """
    paths = {arm: run_dir.root / ARTEFACTS[name].path for arm, name in SOURCES.items()}
    paths = {arm: path for arm, path in paths.items() if path.is_file()}
    if "real" not in paths or len(paths) < 2:
        raise RunDirError(f"{run_dir.root}: has no synthetic records to judge yet; run `penname generate` (or `penname run`) first")
    sizes = {arm: sum(1 for _ in read_rows(path)) for arm, path in paths.items()}
    num = min(num_per_arm, *sizes.values())
    if num < 1:
        empty = next(path for arm, path in paths.items() if not sizes[arm])
        raise RunDirError(f"{empty}: has no records to judge")
    drawn = {arm: list(_draw_rows(path, sizes[arm], num, seeded_generator(seed, f"human/{arm}"))) for arm, path in paths.items()}
    records = _number_records(drawn, num, seeded_generator(seed, "human/order"))
    pairs = _pair_records(records, list(paths), num // 2, seeded_generator(seed, "human/pairs"))
    return RatingSample(seed, num_per_arm, num, {arm: hash_path(path) for arm, path in paths.items()}, records, pairs)


def _draw_rows(path: Path, size: int, num: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """`num` rows in a random order; of the others none stays in memory."""
    chosen = rng.permutation(size)[:num]
    wanted = set(chosen.tolist())
    kept = {place: row for place, row in enumerate(read_rows(path)) if place in wanted}
    return (kept[place] for place in chosen.tolist())


def _number_records(drawn: dict[str, list[dict[str, Any]]], num: int, rng: np.random.Generator) -> tuple[SampledRecord, ...]:
    records: list[SampledRecord] = []
    for start in range(0, num, _BLOCK_RECORDS_PER_ARM):
        block = [(arm, row) for arm, rows in drawn.items() for row in rows[start : start + _BLOCK_RECORDS_PER_ARM]]
        for place in rng.permutation(len(block)).tolist():
            arm, row = block[place]
            records.append(_read_record(len(records) + 1, arm, row))
    return tuple(records)


def _read_record(number: int, arm: str, row: dict[str, Any]) -> SampledRecord:
    try:
        texts = {name: str(row[name]) for name in ("record_id", "category", "product_title", "title", "text")}
        return SampledRecord(number=number, arm=arm, rating=int(row["rating"]), finish_reason=str(row.get("finish_reason", "")), **texts)
    except (KeyError, TypeError, ValueError):
        raise RunDirError(f"a record of {SOURCES[arm]} lacks rating, title, text or category; run the stage that writes it again") from None


def _pair_records(records: tuple[SampledRecord, ...], arms: list[str], num: int, rng: np.random.Generator) -> tuple[SampledPair, ...]:
    """For every two arms up to `num` pairs of one rating, and of one category where there are any; a record is in one pair of two arms at most."""
    found: list[tuple[int, int]] = []
    for place, first in enumerate(arms):
        for second in arms[place + 1 :]:
            left, right = ([record for record in records if record.arm == arm] for arm in (first, second))
            found += _match(left, right)[:num]
    pairs = [(left, right) if rng.random() < 0.5 else (right, left) for left, right in found]
    order = rng.permutation(len(pairs)).tolist()
    return tuple(SampledPair(number, *pairs[place]) for number, place in enumerate(order, 1))


def _match(left: list[SampledRecord], right: list[SampledRecord]) -> list[tuple[int, int]]:
    pairs: list[tuple[int, int]] = []
    waiting, free = list(left), list(right)
    for key in (lambda r: (r.rating, r.category), lambda r: (r.rating, "")):
        pools: dict[tuple[int, str], list[SampledRecord]] = {}
        for record in free:
            pools.setdefault(key(record), []).append(record)
        still = []
        for record in waiting:
            pool = pools.get(key(record))
            if pool:
                pairs.append((record.number, pool.pop(0).number))
            else:
                still.append(record)
        waiting, free = still, [record for pool in pools.values() for record in pool]
    return pairs


def open_sample(run_dir: RunDir, *, num_per_arm: int = NUM_PER_ARM, seed: int = 1) -> RatingSample:
    """The sample of this run: the one that was drawn before, else a new one, which is kept.

    Raises:
      RunDirError: nothing to judge yet; the kept sample is damaged, or the run's records have changed since it was drawn.
    """
    sample = read_sample(run_dir)
    if sample is not None:
        return sample
    sample = draw_sample(run_dir, num_per_arm=num_per_arm, seed=seed)
    write_json(run_dir.path("human_sample"), {"schema_version": SAMPLE_VERSION, "sha256": sample.sha256, **asdict(sample)})
    return sample


def read_sample(run_dir: RunDir) -> RatingSample | None:
    """The sample that was drawn in this run; None where there is none yet.

    Raises:
      RunDirError: it is damaged, or its records are not the run's any more.
    """
    path = run_dir.root / ARTEFACTS["human_sample"].path
    if not path.is_file():
        return None
    value = read_json(path)
    try:
        sample = RatingSample(
            seed=int(value["seed"]),
            wanted_per_arm=int(value["wanted_per_arm"]),
            num_per_arm=int(value["num_per_arm"]),
            sources=dict(value["sources"]),
            records=tuple(SampledRecord(**row) for row in value["records"]),
            pairs=tuple(SampledPair(**row) for row in value["pairs"]),
        )
        if value["schema_version"] != SAMPLE_VERSION or value["sha256"] != sample.sha256:
            raise ValueError("its hash is another")
    except (KeyError, TypeError, ValueError):
        raise RunDirError(f"{path}: is damaged, or of another version; put it back, or move the folder {path.parent.name}/ away to begin anew") from None
    check_is_current(run_dir, sample)
    return sample


def check_is_current(run_dir: RunDir, sample: RatingSample) -> None:
    """Checks that the run still holds the records that the sample was drawn from.

    Raises:
      RunDirError: a set has changed, or is gone.
    """
    for arm, sha256 in sample.sources.items():
        path = run_dir.root / ARTEFACTS[SOURCES[arm]].path
        if not path.is_file() or hash_path(path) != sha256:
            folder = (run_dir.root / ARTEFACTS["human_sample"].path).parent
            raise RunDirError(
                f"{path}: has changed since people began to judge it; their answers are kept in {folder}. Move that folder away to judge the new records"
            )
