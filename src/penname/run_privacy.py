"""The privacy of one run: its key, its promise, its shares and its book, from the config and the run folder. Train and generate charge it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from penname.config import Config
from penname.privacy.book import Book, DataSetLedger
from penname.privacy.budget import Budget
from penname.privacy.errors import LedgerError
from penname.privacy.exponential import ExponentialDraws
from penname.privacy.keystream import Keystream
from penname.privacy.ledger import COUNT_ID, HISTOGRAM_ID, TRAINING_ID, Ledger, Promise, Scope
from penname.privacy.marginals import release_unit_count
from penname.privacy.mechanism import DpSgd, GaussianRelease
from penname.privacy.unit import NEIGHBORING_RELATION
from penname.progress import say
from penname.run_dir import RunDir, hash_path, hash_value, read_json, write_json

_Learning = TypeVar("_Learning", DpSgd, ExponentialDraws)

VOTE_NORM = 1.0
"""Private evolution: a unit has one vote, whatever the number of its records: a vector of L1 norm 1, and so of L2 norm at most 1."""


def open_keystream(config: Config, run_dir: RunDir) -> Keystream:
    """The randomness of this run: a key from the operating system, or the seed that the config names."""
    if config.privacy.noise_seed is not None:
        return Keystream.from_seed(config.privacy.noise_seed)
    return Keystream.from_key_file(run_dir.path("noise_key"))


def plan_budget(config: Config, run_dir: RunDir, keystream: Keystream) -> Budget:
    """The promise of this run and its shares; deterministic, so every stage that asks gets the same."""
    counts = read_json(run_dir.path("records_counts"))
    promise = Promise(
        target_epsilon=config.privacy.target_epsilon,
        delta=config.privacy.delta,
        privacy_unit=counts["privacy_unit"],
        neighboring_relation=NEIGHBORING_RELATION,
        noise_source=keystream.source,
        unit_column=counts["unit_column"],
    )
    bound = counts["max_records_per_unit"]
    return Budget.plan(promise, marginals_frac=config.privacy.marginals_frac, max_records_per_unit=bound, keystream=keystream)


def plan_training(config: Config, budget: Budget, *, noisy_num_units: int) -> DpSgd:
    """The training of the arm with DP, not charged yet; deterministic, given the released count of units."""
    return budget.plan_training(
        num_units=noisy_num_units,
        expected_batch_size=config.train.expected_batch_size,
        num_steps=config.train.num_steps,
        l2_clip_norm=VOTE_NORM if config.train.method == "private_evolution" else config.privacy.l2_clip_norm,
        keystream=budget.unit_count.keystream,
    )


def plan_draws(config: Config, budget: Budget) -> ExponentialDraws:
    """The draws of words of private prediction in the arm with DP, not charged yet; deterministic."""
    predict = config.predict
    return budget.plan_draws(temperature=predict.temperature, num_draws=predict.max_new_tokens, keystream=budget.unit_count.keystream)


def charge_run(config: Config, run_dir: RunDir, keystream: Keystream, *, num_units: int, inputs_sha256: str) -> DpSgd:
    """Charges everything that a run that trains or votes will spend, and releases the count of units. Returns what the arm with DP is made with.

    Args:
      config: Sections `privacy` and `train`.
      run_dir: Holds records_counts; gets the ledger and unit_count.
      keystream: Of the run.
      num_units: In the training split. PRIVATE.
      inputs_sha256: Of everything that the training reads.
    Raises:
      PrivacyError: the promise cannot be kept; nothing is charged then.
    """
    budget = plan_budget(config, run_dir, keystream)
    book = open_book(config, run_dir, budget)
    budget.check_room(book, num_steps=config.train.num_steps)

    def plan(noisy_num_units: int) -> DpSgd:
        return plan_training(config, budget, noisy_num_units=noisy_num_units)

    mechanism = _charge(run_dir, budget, book, plan, num_units=num_units, inputs_sha256=inputs_sha256)
    say(
        f"{_describe_promise(config, budget)}: noise multiplier {mechanism.noise_multiplier:.4f}, sampling probability {mechanism.sampling_prob:.4f}, "
        f"{mechanism.num_steps} steps"
    )
    return mechanism


def charge_draws(config: Config, run_dir: RunDir, keystream: Keystream, *, num_units: int, inputs_sha256: str) -> ExponentialDraws:
    """The same for a run of private prediction.

    Raises:
      PrivacyError: the promise cannot be kept; nothing is charged then.
    """
    budget = plan_budget(config, run_dir, keystream)
    book = open_book(config, run_dir, budget)
    draws = plan_draws(config, budget)
    budget.check_room_for(book, draws)
    mechanism = _charge(run_dir, budget, book, lambda _: draws, num_units=num_units, inputs_sha256=inputs_sha256)
    say(
        f"{_describe_promise(config, budget)}: a unit moves the score of a word by at most {mechanism.linf_sensitivity:.4f}, at temperature "
        f"{mechanism.temperature:g}, in at most {mechanism.num_draws} words of one text"
    )
    return mechanism


def _charge(run_dir: RunDir, budget: Budget, book: Book, plan: Callable[[int], _Learning], *, num_units: int, inputs_sha256: str) -> _Learning:
    """Charges count, training and histogram; the training is planned when the count is released."""
    unit_count = budget.unit_count.charge(book, COUNT_ID, inputs_sha256=inputs_sha256)
    noisy_num_units = release_unit_count(unit_count, num_units=num_units)
    write_json(run_dir.path("unit_count"), {"noisy_num_units": noisy_num_units, "key_commitment": budget.unit_count.keystream.commitment})
    training = plan(noisy_num_units)
    budget.check_room_for_rest(book, training)
    mechanism = training.charge(book, TRAINING_ID, inputs_sha256=inputs_sha256)
    # Computed after the training and charged with it: an hour of training is not lost because another run took what the histogram needs.
    charge_histogram(run_dir, budget, book)
    return mechanism


def _describe_promise(config: Config, budget: Budget) -> str:
    return f"privacy: epsilon {config.privacy.target_epsilon:g}, delta {config.privacy.delta:g} for one {budget.promise.privacy_unit}"


def open_book(config: Config, run_dir: RunDir, budget: Budget) -> Book:
    """The run's ledger, and its data set's where `privacy.ledger` names one; both begun when there are none.

    Raises:
      LedgerError: a ledger is damaged, lost or cut, or belongs to another run or to other data. Nothing is charged then.
    """
    check_nothing_lost(run_dir)
    data_set = None
    if config.privacy.ledger is not None:
        path, target_epsilon = Path(config.privacy.ledger), config.privacy.ledger_epsilon
        data_set = DataSetLedger.open(path, budget.promise, target_epsilon=target_epsilon, data_sha256=hash_data_set(run_dir))
    scope = Scope(data_set_ledger=data_set.heading_sha256 if data_set else None)
    return Book(Ledger.open(run_dir.path("ledger"), budget.promise, scope), data_set)


def charge_histogram(run_dir: RunDir, budget: Budget, book: Book) -> GaussianRelease:
    """The histogram of rating x category, charged once: with the training, and found charged when it is released."""
    return budget.histogram.charge(book, HISTOGRAM_ID, inputs_sha256=hash_path(run_dir.path("train_records")))


def hash_data_set(run_dir: RunDir) -> str:
    """Hash of the private files that the run was made from. PRIVATE."""
    sources = read_json(run_dir.path("ingest_counts"))["sources"]
    return hash_value(sorted(source["sha256"] for source in sources if source["role"] == "reviews"))


def check_nothing_lost(run_dir: RunDir) -> None:
    """Checks that the run's ledger holds every event of which the run folder shows a result.

    Raises:
      LedgerError: the ledger is lost, cut or of another run; what was spent would be forgotten.
    """
    path, results = run_dir.path("ledger"), _find_results(run_dir)
    if not results:
        return
    example = next(iter(results.values())).relative_to(run_dir.root)
    if not path.exists() or path.stat().st_size == 0:
        raise LedgerError(f"{path}: is missing or empty, but {example} was made under it; put the ledger back, or start a run in a new folder for --out")
    entries = Ledger.read(path).entries
    for event_id, result in results.items():
        if all(entry["event_id"] != event_id for entry in entries):
            raise LedgerError(
                f"{path}: lacks {event_id}, but {result.relative_to(run_dir.root)} was made under it; "
                "the ledger was cut or is of another run. Put it back, or start a run in a new folder for --out"
            )
    if COUNT_ID in results and read_json(results[COUNT_ID]).get("key_commitment") not in _keys_of(entries, COUNT_ID):
        raise LedgerError(f"{path}: is the ledger of another run: {example} was made under another key. Put the ledger of this run back")


def _keys_of(entries: list[dict[str, Any]], event_id: str) -> list[str]:
    return [entry["key_commitment"] for entry in entries if entry["event_id"] == event_id]


def _find_results(run_dir: RunDir) -> dict[str, Path]:
    """What was computed under each event, as far as it is still there."""
    adapter, conditioning = run_dir.path("adapter_with_dp"), run_dir.path("conditioning")
    learned = [adapter, run_dir.path("population_with_dp"), run_dir.path("train_metrics_with_dp")]
    begun = [adapter.parent / name for name in ("checkpoint", "rounds")]
    traces = {COUNT_ID: [run_dir.path("unit_count")], TRAINING_ID: [*learned, *begun]}
    if conditioning.exists() and read_json(conditioning)["source"] == DP_SOURCE:
        traces[HISTOGRAM_ID] = [conditioning]
    found = {event_id: [path for path in paths if path.exists()] for event_id, paths in traces.items()}
    return {event_id: paths[0] for event_id, paths in found.items() if paths}


DP_SOURCE = "dp_histogram"
"""What conditioning.json says of shares that come from the charged histogram."""


def find_event_faults(config: Config, run_dir: RunDir, ledger: Ledger) -> list[str]:
    """Where the ledger is not what this config and this run folder charge: each planned event once, with its very mechanism, and no other.

    Returns:
      Reasons not to release, in sentences; empty when all is as planned.
    """
    # The noise depends on no key, and the run's own is gone once everything is released; this one only fills the place.
    source = "operating_system" if config.privacy.noise_seed is None else "seed"
    budget = plan_budget(config, run_dir, Keystream(bytes(32), source=source))
    count = read_json(run_dir.path("unit_count"))
    if config.train.method == "private_prediction":
        training = plan_draws(config, budget)
    else:
        training = plan_training(config, budget, noisy_num_units=count["noisy_num_units"])
    planned = {COUNT_ID: budget.unit_count.event, TRAINING_ID: training.event, HISTOGRAM_ID: budget.histogram.event}
    faults: list[str] = []
    if run_dir.read_kind() != "run":
        faults.append("the folder is of an audit: canaries are planted in its training records")
    if ledger.promise != budget.promise:
        faults.append("the ledger's promise is not that of the config")
    for event_id, event in planned.items():
        charged = [entry["event"] for entry in ledger.entries if entry["event_id"] == event_id]
        if len(charged) != 1:
            faults.append(f"{event_id} is charged {len(charged)} times, not once")
        elif json.dumps(charged[0], sort_keys=True) != json.dumps(event, sort_keys=True):
            faults.append(f"{event_id} is not charged as this config computes it")
    faults.extend(f"{entry['event_id']} is charged and not planned" for entry in ledger.entries if entry["event_id"] not in planned)
    if read_json(run_dir.path("conditioning"))["source"] != DP_SOURCE:
        faults.append("conditioning.json does not come from the histogram that is charged")
    if any(entry["key_commitment"] != count["key_commitment"] for entry in ledger.entries):
        faults.append("the ledger holds events of another key than this run's")
    return faults
