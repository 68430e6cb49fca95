"""release/: the one folder that may be given away, and the certificate that says why."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penname import __version__
from penname.config import Config
from penname.privacy.book import read_snapshot
from penname.privacy.certificate import CERTIFICATE_NAME, DATA_SET_LEDGER_NAME, LEDGER_NAME, build_certificate, list_files
from penname.privacy.ledger import Ledger
from penname.report.cards import make_dataset_card, make_model_card
from penname.run_dir import RunDir, hash_path, read_json, read_rows, replace_folder, write_json
from penname.run_privacy import check_nothing_lost, find_event_faults

_LIBRARIES = ("torch", "transformers", "peft", "dp-accounting", "numpy")


@dataclass(frozen=True)
class _Account:
    """What a release is certified from: the run's ledger, and its data set's as it was at one moment."""

    ledger: Ledger | None
    data_set: Ledger | None = None
    snapshot: bytes | None = None
    obstacles: Sequence[str] = ()


def write_release(config: Config, run_dir: RunDir) -> dict[str, Any]:
    """Fills release/ with what the private arm made and certifies it; where it may not be released, there is no release/.

    Args:
      config: For what is assumed public, and for the events that the ledger must hold.
      run_dir: Holds the ledger, the private arm's adapter and its synthetic records.
    Returns:
      The certificate, which is written to the report's folder in either case.
    Raises:
      LedgerError: a ledger is damaged or lost.
    """
    account = _read_account(config, run_dir)
    target, certificate = run_dir.path("release"), _certify(config, run_dir, account)
    if certificate["releasable"]:
        with replace_folder(target) as folder:
            _copy_releasable(run_dir, account, folder)
            _write_cards(config, run_dir, certificate, folder)
            files = {path.relative_to(folder).as_posix(): hash_path(path) for path in sorted(folder.rglob("*")) if path.is_file()}
            certificate = list_files(certificate, files)
            write_json(folder / CERTIFICATE_NAME, certificate)
    elif target.exists():
        shutil.rmtree(target)
    write_json(run_dir.path("certificate"), certificate)
    return certificate


def _read_account(config: Config, run_dir: RunDir) -> _Account:
    if "with_dp" not in config.train.arms:
        return _Account(None)
    check_nothing_lost(run_dir)
    ledger = Ledger.read(run_dir.path("ledger"))
    obstacles = find_event_faults(config, run_dir, ledger)
    if config.privacy.ledger is None:
        return _Account(ledger, obstacles=obstacles)
    path = Path(config.privacy.ledger)
    snapshot = read_snapshot(path)
    return _Account(ledger, Ledger.parse(path, snapshot), snapshot, obstacles)


def _copy_releasable(run_dir: RunDir, account: _Account, folder: Path) -> None:
    synthetic = run_dir.path("synthetic_with_dp")
    shutil.copyfile(synthetic, folder / synthetic.name)
    population = run_dir.path("population_with_dp")
    if population.is_file():
        shutil.copyfile(population, folder / population.name)
    else:
        shutil.copytree(run_dir.path("adapter_with_dp"), folder / "adapter")
    shutil.copyfile(run_dir.path("ledger"), folder / LEDGER_NAME)
    if account.snapshot is not None:
        (folder / DATA_SET_LEDGER_NAME).write_bytes(account.snapshot)


def _write_cards(config: Config, run_dir: RunDir, certificate: dict[str, Any], folder: Path) -> None:
    records = run_dir.path("synthetic_with_dp")
    card = make_dataset_card(config, certificate, records=records.name, num_records=sum(1 for _ in read_rows(records)))
    (folder / "README.md").write_text(card, encoding="utf-8")
    if not (folder / "adapter").is_dir():
        return
    has_products = bool(read_json(run_dir.path("ingest_counts"))["num_products"])
    (folder / "adapter" / "README.md").write_text(make_model_card(config, certificate, has_products=has_products), encoding="utf-8")


def _certify(config: Config, run_dir: RunDir, account: _Account) -> dict[str, Any]:
    path = run_dir.path("self_checks")
    return build_certificate(
        account.ledger,
        data_set=account.data_set,
        obstacles=account.obstacles,
        assumed_public=describe_assumptions(config, run_dir),
        files={},
        self_checks=read_json(path) if account.ledger is not None else [],
        versions={"penname": __version__, "python": platform.python_version(), **{n: importlib.metadata.version(n) for n in _LIBRARIES}},
        machine=f"{platform.system()} {platform.machine()}",
    )


def describe_assumptions(config: Config, run_dir: RunDir) -> list[str]:
    """What the guarantee takes as public, in sentences."""
    counts = read_json(run_dir.path("ingest_counts"))
    domain = "the config" if counts["categories_source"] == "config" else "the catalogue"
    assumed = [
        "The layout of the data, the template of prompts and completions, and every setting of this run.",
        f"The base model {config.model.name} and what it was pre-trained on.",
        *_describe_encoder(config),
        *_describe_start(run_dir),
        f"The list of categories, taken from {domain}, and the ratings 1 to 5.",
        "The settings: that they were not chosen by looking at this data, or at what earlier runs on it released.",
    ]
    if counts["catalogue"] is not None:
        assumed.append("The catalogue of products with titles and categories.")
    elif config.data.products_are_public:
        assumed.append("The product titles: the config declares the titles in the table public (data.products_are_public).")
    assumed.append("The number of units is NOT assumed public: it is released with noise and charged.")
    return assumed


def _describe_start(run_dir: RunDir) -> list[str]:
    """What training started from, by its hash: its path is nobody's business."""
    path = run_dir.path("start_adapter")
    if not path.is_file():
        return []
    sha256 = read_json(path)["start_adapter"]
    return [f"The adapter that training started from (SHA-256 of its folder {sha256}) and what it was made from: the config declares it public."]


def _describe_encoder(config: Config) -> list[str]:
    """What else is public where candidates are voted for."""
    if config.train.method != "private_evolution":
        return []
    return [f"The embedding model {config.evolve.embedding_model}, by which records find the candidates most like them, and what it was pre-trained on."]
