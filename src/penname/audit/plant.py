"""The stage: draws the canaries, and plants those whose coin fell in, in a copy of the training records."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path

from penname.audit.twins import PLANTED_NAME
from penname.config import Config
from penname.errors import RunDirError
from penname.privacy.keystream import Keystream
from penname.progress import say
from penname.records.canaries import Canary, draw_canaries, make_original, plant_canaries, write_manifest
from penname.records.original_experiment import write_original_experiment
from penname.run_dir import RunDir, read_json, read_rows, replace_folder, write_rows
from penname.schemas import Record
from penname.template import RecordTemplate


def run_plant(config: Config, run_dir: RunDir) -> None:
    """Writes the artefacts canaries and planted_records.

    Args:
      config: Sections `audit` and `records`.
      run_dir: The audit; holds train, heldout and test records. PRIVATE.
    Raises:
      DataError: there is no training record, or too few words to make canaries of.
    """
    records = read_records(run_dir.path("train_records"))
    template, seed = open_template(config, run_dir), config.audit.seed
    with replace_folder(run_dir.path("planted_records")) as folder:
        if config.audit.original_shares is not None:
            counts = write_original_experiment(folder, records, template=template, seed=seed, shares=config.audit.original_shares)
            write_manifest(run_dir.path("canaries"), [make_original(max(counts.values()))])
            for name, count in counts.items():
                say(f"plant: the original's string stands in {count:,} of {len(records):,} records of {name}")
            return
        canaries = _draw(config, run_dir)
        bound = read_json(run_dir.path("records_counts"))["max_records_per_unit"]
        planted = plant_canaries(records, canaries, template=template, max_records_per_unit=bound, seed=seed)
        write_rows(folder / f"{PLANTED_NAME}.jsonl", map(asdict, planted))
    write_manifest(run_dir.path("canaries"), canaries)
    num_of = Counter(canary.num_repetitions for canary in canaries)
    times = ", ".join(f"{num} of them {repetition} times" if repetition > 1 else f"{num} of them once" for repetition, num in sorted(num_of.items()))
    say(f"plant: {len(canaries):,} canaries, a coin each; {times} if planted; {len(planted) - len(records):,} records beside {len(records):,}")


def _draw(config: Config, run_dir: RunDir) -> list[Canary]:
    audit = config.audit
    return draw_canaries(
        num_by_repetition=audit.canaries,
        texts=read_unseen_texts(run_dir),
        seed=audit.seed,
        keystream=_open_keystream(config, run_dir),
        kinds=audit.kinds,
        with_original=audit.with_original,
    )


def _open_keystream(config: Config, run_dir: RunDir) -> Keystream:
    """A key of the audit's own: the one of the twin's training and noise says nothing about the coins."""
    if config.privacy.noise_seed is not None:
        return Keystream.from_seed(config.privacy.noise_seed)
    return Keystream.from_key_file(run_dir.path("coins_key"))


def read_unseen_texts(run_dir: RunDir) -> list[str]:
    """Real texts that are not trained on: heldout, or test where nothing is held out. PRIVATE."""
    heldout = [row["text"] for row in read_rows(run_dir.path("heldout_records"))]
    return heldout or [row["text"] for row in read_rows(run_dir.path("test_records"))]


def read_records(path: Path) -> list[Record]:
    """Records of a split. PRIVATE.

    Raises:
      RunDirError: the file is missing or damaged.
    """
    try:
        return [Record(**row) for row in read_rows(path)]
    except TypeError:
        raise RunDirError(f"{path}: is damaged (not a record); run the audit in a new folder") from None


def open_template(config: Config, run_dir: RunDir) -> RecordTemplate:
    """The template of the records."""
    return RecordTemplate.from_config(config.records, has_products=read_json(run_dir.path("ingest_counts"))["num_products"] > 0)
