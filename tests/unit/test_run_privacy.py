"""The book of a run: a ledger that was lost, cut or swapped is noticed before anything is charged under it, and before anything is released."""

import json
import shutil

import pytest

from penname.config import Config
from penname.privacy import budget as budget_module
from penname.privacy import ledger as ledger_module
from penname.privacy import marginals, mechanism
from penname.privacy.errors import LedgerError
from penname.privacy.ledger import COUNT_ID, HISTOGRAM_ID, TRAINING_ID, Ledger, Scope
from penname.privacy.marginals import release_unit_count
from penname.privacy.mechanism import DpSgd
from penname.run_dir import RunDir, write_json
from penname.run_privacy import DP_SOURCE, check_nothing_lost, find_event_faults, hash_data_set, open_book, open_keystream, plan_budget, plan_training

INPUTS = "aa"


@pytest.fixture(scope="module", autouse=True)
def _answers_are_remembered():
    """The accountant is asked the same things over and over here; it answers the same, in seconds each time."""
    known = {}

    def remember(module, name):
        function = getattr(module, name)

        def ask(events, *rest, **more):
            key = json.dumps([name, events(1.0) if callable(events) else events, *rest, more])
            if key not in known:
                known[key] = function(events, *rest, **more)
            return known[key]

        patch.setattr(module, name, ask)

    with pytest.MonkeyPatch.context() as patch:
        for module, name in (
            (marginals, "calibrate_noise"),
            (mechanism, "calibrate_noise"),
            (budget_module, "compute_epsilon"),
            (ledger_module, "_compute_epsilon"),
        ):
            remember(module, name)
        yield


def make_config(**privacy):
    return Config.model_validate({"privacy": {"noise_seed": 3, **privacy}, "train": {"num_steps": 5, "expected_batch_size": 8}})


def make_run(folder, config, *, reviews_sha256="c" * 64):
    """A run folder as train and generate leave it, without a model."""
    run_dir = RunDir(folder)
    write_json(run_dir.path("records_counts"), {"privacy_unit": "user", "unit_column": None, "max_records_per_unit": 2})
    sources = [{"role": "reviews", "sha256": reviews_sha256}, {"role": "catalogue", "sha256": "d" * 64}]
    write_json(run_dir.path("ingest_counts"), {"sources": sources})
    keystream = open_keystream(config, run_dir)
    budget = plan_budget(config, run_dir, keystream)
    book = open_book(config, run_dir, budget)
    noisy = release_unit_count(budget.unit_count.charge(book, COUNT_ID, inputs_sha256=INPUTS), num_units=100)
    write_json(run_dir.path("unit_count"), {"noisy_num_units": noisy, "key_commitment": keystream.commitment})
    plan_training(config, budget, noisy_num_units=noisy).charge(book, TRAINING_ID, inputs_sha256=INPUTS)
    run_dir.path("adapter_with_dp").mkdir()
    budget.histogram.charge(book, HISTOGRAM_ID, inputs_sha256=INPUTS)
    write_json(run_dir.path("conditioning"), {"source": DP_SOURCE, "cells": []})
    return run_dir


@pytest.fixture(scope="module")
def _made(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"), make_config()).root


@pytest.fixture
def run_dir(_made, tmp_path):
    return RunDir(shutil.copytree(_made, tmp_path / "run"))


def keep_lines(run_dir, num_lines):
    path = run_dir.path("ledger")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:num_lines]))


def test_a_whole_run_has_no_fault_and_is_charged_once(run_dir):
    config = make_config()
    ledger = Ledger.read(run_dir.path("ledger"))
    assert find_event_faults(config, run_dir, ledger) == []
    check_nothing_lost(run_dir)
    before = run_dir.path("ledger").read_bytes()
    budget = plan_budget(config, run_dir, open_keystream(config, run_dir))
    budget.unit_count.charge(open_book(config, run_dir, budget), COUNT_ID, inputs_sha256=INPUTS)
    assert run_dir.path("ledger").read_bytes() == before


@pytest.mark.parametrize("left", [None, b"", b'{"cut'])
def test_a_ledger_that_is_gone_is_not_begun_again(run_dir, left):
    config, path = make_config(), run_dir.path("ledger")
    path.unlink()
    if left is not None:
        path.write_bytes(left)
    with pytest.raises(LedgerError, match=r"unit_count\.json was made under it|holds no promise"):
        open_book(config, run_dir, plan_budget(config, run_dir, open_keystream(config, run_dir)))
    assert (path.read_bytes() if path.exists() else None) == left


@pytest.mark.parametrize(
    ("traces", "num_lines", "lacking"),
    [
        (["unit_count"], 1, COUNT_ID),
        (["adapter_with_dp"], 2, TRAINING_ID),
        (["train_metrics_with_dp"], 2, TRAINING_ID),
        (["checkpoint"], 2, TRAINING_ID),
        (["conditioning"], 3, HISTOGRAM_ID),
    ],
)
def test_a_ledger_that_was_cut_is_noticed_by_each_result(run_dir, traces, num_lines, lacking):
    places = {name: run_dir.path(name) for name in ("unit_count", "adapter_with_dp", "train_metrics_with_dp", "conditioning")}
    places["checkpoint"] = places["adapter_with_dp"].parent / "checkpoint"
    for name, path in places.items():
        if name in traces and not path.exists():
            path.mkdir()
        elif name not in traces and path.is_dir():
            path.rmdir()
        elif name not in traces:
            path.unlink(missing_ok=True)
    check_nothing_lost(run_dir)
    keep_lines(run_dir, num_lines)
    with pytest.raises(LedgerError, match=f"lacks {lacking}, but .* was made under it"):
        check_nothing_lost(run_dir)


def test_a_run_without_results_may_begin_and_exact_shares_are_no_result(tmp_path):
    run_dir = RunDir(tmp_path)
    check_nothing_lost(run_dir)
    write_json(run_dir.path("conditioning"), {"source": "exact counts, PRIVATE", "cells": []})
    check_nothing_lost(run_dir)


def test_the_ledger_of_another_run_is_noticed(run_dir, tmp_path):
    other = make_run(tmp_path / "other", make_config(noise_seed=4))
    shutil.copyfile(other.path("ledger"), run_dir.path("ledger"))
    with pytest.raises(LedgerError, match="is the ledger of another run"):
        check_nothing_lost(run_dir)


def charge_anew(run_dir, change):
    """Writes the run's ledger again with one of its three charges changed, as a program with a fault would have written it."""
    config = make_config()
    path = run_dir.path("ledger")
    entries = Ledger.read(path).entries
    path.unlink()
    keystream = open_keystream(config, run_dir)
    ledger = Ledger.open(path, plan_budget(config, run_dir, keystream).promise)
    for event_id, event in change([(entry["event_id"], entry["event"]) for entry in entries]):
        ledger.spend(event_id, event, keystream=keystream, inputs_sha256=INPUTS)
    return find_event_faults(config, run_dir, Ledger.read(path))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda events: events[:2], f"{HISTOGRAM_ID} is charged 0 times"),
        (lambda events: [events[0], (TRAINING_ID, {**events[1][1], "num_steps": 4}), events[2]], f"{TRAINING_ID} is not charged as this config computes it"),
        (lambda events: [events[0], (TRAINING_ID, {**events[1][1], "noise_multiplier": 9.0}), events[2]], f"{TRAINING_ID} is not charged as"),
        (lambda events: [events[0], (TRAINING_ID, {**events[1][1], "l2_sensitivity": 9.0}), events[2]], f"{TRAINING_ID} is not charged as"),
        (lambda events: [(COUNT_ID, {**events[0][1], "noise_multiplier": 90.0}), *events[1:]], f"{COUNT_ID} is not charged as"),
        (lambda events: [*events, ("more", {"type": "gaussian", "noise_multiplier": 1e4, "l2_sensitivity": 1.0})], "more is charged and not planned"),
    ],
)
def test_a_ledger_that_is_not_what_the_config_computes_is_not_released(run_dir, change, fault):
    faults = charge_anew(run_dir, change)
    assert len(faults) == 1
    assert fault in faults[0]


def test_a_second_key_and_another_promise_are_not_released(run_dir):
    path, config = run_dir.path("ledger"), make_config()
    ledger = Ledger.read(path)
    twice = Ledger(path, ledger.promise, ledger.scope, [*ledger.entries, {**ledger.entries[0], "key_commitment": "a" * 64}], heading_sha256="", last_sha256="")
    assert find_event_faults(config, run_dir, twice) == [f"{COUNT_ID} is charged 2 times, not once", "the ledger holds events of another key than this run's"]
    faults = find_event_faults(make_config(target_epsilon=9.0), run_dir, ledger)
    assert faults[0] == "the ledger's promise is not that of the config"
    assert f"{TRAINING_ID} is not charged as this config computes it" in faults


# --- the data set's ledger ------------------------------------------------------------------------------------------------


def test_the_runs_of_one_data_set_are_charged_to_its_ledger(tmp_path):
    shared = tmp_path / "shared.jsonl"
    first = make_config(ledger=str(shared), ledger_epsilon=20.0)
    one = make_run(tmp_path / "one", first)
    two = make_run(tmp_path / "two", make_config(ledger=str(shared), noise_seed=4, target_epsilon=4.0))
    heading = Ledger.read(shared).heading_sha256
    assert [Ledger.read(run.path("ledger")).scope for run in (one, two)] == [Scope(data_set_ledger=heading)] * 2
    assert [entry["event_id"] for entry in Ledger.read(shared).entries] == [COUNT_ID, TRAINING_ID, HISTOGRAM_ID] * 2
    before = shared.read_bytes()
    with pytest.raises(LedgerError, match="belongs to another data set"):
        make_run(tmp_path / "three", make_config(ledger=str(shared)), reviews_sha256="e" * 64)
    with pytest.raises(LedgerError, match="delta"):
        make_run(tmp_path / "four", make_config(ledger=str(shared), delta=1e-6))
    assert shared.read_bytes() == before
    assert not (tmp_path / "three" / "ledger.jsonl").exists()


def test_the_data_set_is_its_reviews_and_not_its_catalogue(run_dir):
    before = hash_data_set(run_dir)
    counts = json.loads(run_dir.path("ingest_counts").read_text())
    counts["sources"][1]["sha256"] = "e" * 64
    write_json(run_dir.path("ingest_counts"), counts)
    assert hash_data_set(run_dir) == before
    counts["sources"][0]["sha256"] = "e" * 64
    write_json(run_dir.path("ingest_counts"), counts)
    assert hash_data_set(run_dir) != before


def test_a_run_may_not_leave_its_data_sets_ledger(tmp_path):
    config = make_config(ledger=str(tmp_path / "shared.jsonl"), ledger_epsilon=20.0)
    run_dir = make_run(tmp_path / "run", config)
    alone = make_config()
    with pytest.raises(LedgerError, match=r"another promise .data_set_ledger differ"):
        open_book(alone, run_dir, plan_budget(alone, run_dir, open_keystream(alone, run_dir)))


def test_the_training_is_planned_from_the_released_count(run_dir):
    config = make_config()
    budget = plan_budget(config, run_dir, open_keystream(config, run_dir))
    planned = plan_training(config, budget, noisy_num_units=80)
    assert isinstance(planned, DpSgd)
    assert (planned.sampling_prob, planned.num_steps, planned.l2_clip_norm, planned.receipt) == (0.1, 5, config.privacy.l2_clip_norm, None)


def test_shares_that_do_not_come_from_the_charged_histogram_are_a_fault(run_dir):
    write_json(run_dir.path("conditioning"), {"source": "exact counts, PRIVATE", "cells": []})
    faults = find_event_faults(make_config(), run_dir, Ledger.read(run_dir.path("ledger")))
    assert faults == ["conditioning.json does not come from the histogram that is charged"]
