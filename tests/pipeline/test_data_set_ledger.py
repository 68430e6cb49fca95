"""One budget for one data set, with the real program: two runs fit, the third is turned away, and so is a run on other data."""

import json
import shutil

import pytest

from penname.privacy.ledger import COUNT_ID, HISTOGRAM_ID, TRAINING_ID, Ledger
from tests.pipeline.conftest import write_config

pytestmark = pytest.mark.slow

# A run alone spends 0.2, two like these 0.26 to 0.29, as their noisy counts of units fall (a sampling probability of 0.01 to 1). One of 0.33 alone all but
# fills the budget, so it does not fit beside them, and one of 0.03 does.
TARGET_EPSILON, SMALLER_EPSILON, LARGER_EPSILON, LEDGER_EPSILON = 0.2, 0.03, 0.33, 0.335


@pytest.fixture(scope="module")
def shared_home(penname, settings, tmp_path_factory):
    """Two runs that share a ledger, under keys of their own; the second leaves the budget out."""
    home = tmp_path_factory.mktemp("shared")
    privacy = {**settings["privacy"], "ledger": "budget/reviews.jsonl", "ledger_epsilon": LEDGER_EPSILON, "target_epsilon": TARGET_EPSILON}
    one = {**settings, "privacy": privacy, "train": {**settings["train"], "arms": ["with_dp"]}}
    two = {**one, "privacy": {**privacy, "ledger_epsilon": None}}
    for name, config in (("one", one), ("two", two)):
        penname.succeed("run", write_config(home / f"{name}.yaml", config), "--out", home / name)
    return home


@pytest.fixture
def home(shared_home, tmp_path):
    """A copy; the path of the ledger counts from the config file, so it comes along."""
    return shutil.copytree(shared_home, tmp_path / "home")


def test_two_runs_are_charged_to_the_ledger_and_the_release_of_the_second_tells_of_both(penname, home):
    shared = Ledger.read(home / "budget/reviews.jsonl")
    assert [entry["event_id"] for entry in shared.entries] == [COUNT_ID, TRAINING_ID, HISTOGRAM_ID] * 2
    assert len({entry["key_commitment"] for entry in shared.entries}) == 2
    own = Ledger.read(home / "two/ledger.jsonl")
    assert [entry["inputs_commitment"] for entry in own.entries] == [entry["inputs_commitment"] for entry in shared.entries[3:]]
    assert own.epsilon_spent() <= TARGET_EPSILON < shared.epsilon_spent() <= LEDGER_EPSILON
    certificate = json.loads((home / "two/release/certificate.json").read_text())
    assert certificate["data_set"] == {"target_epsilon": LEDGER_EPSILON, "delta": 1e-5, "epsilon_spent": shared.epsilon_spent(), "num_events": 6}
    assert (home / "two/release/data_set_ledger.jsonl").read_bytes() == (home / "budget/reviews.jsonl").read_bytes()
    assert "data_set_ledger.jsonl" in (home / "two/release/README.md").read_text()
    said = penname.succeed("verify", home / "two").stdout
    assert f"the data set so far, 6 events of all runs: epsilon {shared.epsilon_spent():.4g} of {LEDGER_EPSILON:g}" in said
    assert "the data set so far, 3 events" in penname.succeed("verify", home / "one").stdout
    assert not any(path.name.endswith(".key") for path in (home / "two").rglob("*"))


def test_a_third_run_is_turned_away_and_neither_ledger_changes(penname, home):
    before = (home / "budget/reviews.jsonl").read_bytes()
    outcome = penname("run", home / "two.yaml", f"privacy.target_epsilon={LARGER_EPSILON}", "--out", home / "three")
    outcome.fails(1, "privacy.ledger", "no room for this run", f"its budget is {LEDGER_EPSILON:g}")
    assert (home / "budget/reviews.jsonl").read_bytes() == before
    assert Ledger.read(home / "three/ledger.jsonl").entries == []
    assert not (home / "three/2_train/unit_count.json").exists()
    # One that asks for less still fits.
    for stage in ("ingest", "records", "train"):
        penname.succeed(stage, home / "two.yaml", f"privacy.target_epsilon={SMALLER_EPSILON}", "--out", home / "four")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["data.sample_num_reviews=301"], ["privacy.ledger", "belongs to another data set"]),
        (["privacy.delta=1e-6"], ["privacy.ledger", "was begun with delta 1e-05"]),
        (["privacy.unit=record"], ["privacy.ledger", "was begun with privacy_unit user, this run has record"]),
        (["privacy.noise_seed=1"], ["privacy.ledger", "was begun with noise_source operating_system, this run has seed"]),
        (["privacy.ledger_epsilon=50"], ["privacy.ledger_epsilon", f"was begun with {LEDGER_EPSILON:g}"]),
    ],
)
def test_other_data_and_another_promise_are_turned_away(penname, home, changes, words):
    before = (home / "budget/reviews.jsonl").read_bytes()
    for stage in ("ingest", "records"):
        penname.succeed(stage, home / "two.yaml", *changes, "--out", home / "other")
    penname("train", home / "two.yaml", *changes, "--out", home / "other").fails(1, *words)
    assert (home / "budget/reviews.jsonl").read_bytes() == before
    assert not (home / "other/ledger.jsonl").exists()


def at_home(home):
    """The ledger's path as the finished runs know it: a run keeps its settings."""
    return f"privacy.ledger={home / 'budget/reviews.jsonl'}"


def test_a_run_without_its_ledger_or_its_data_sets_key_stops(penname, home, shared_home):
    (home / "one/5_report/certificate.json").unlink()
    (home / "one/ledger.jsonl").rename(home / "kept.jsonl")
    penname("report", home / "one.yaml", at_home(shared_home), "--out", home / "one").fails(1, "ledger.jsonl", "is missing or empty")
    (home / "kept.jsonl").rename(home / "one/ledger.jsonl")
    (home / "budget/reviews.jsonl.key").unlink()
    penname("run", home / "two.yaml", "--out", home / "three").fails(1, "reviews.jsonl.key", "is missing")


def test_a_run_whose_ledger_lost_an_event_has_no_release(penname, home, shared_home):
    path = home / "two/ledger.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    (home / "two/5_report/certificate.json").unlink()
    penname("report", home / "two.yaml", at_home(shared_home), "--out", home / "two").fails(1, "lacks histogram/rating_category", "conditioning.json")


def test_a_ledger_setting_without_its_file_is_a_usage_error(penname, settings, tmp_path):
    config = write_config(tmp_path / "c.yaml", {**settings, "privacy": {"ledger_epsilon": 3.0}})
    penname("run", config, "--out", tmp_path / "run").fails(2, "privacy.ledger_epsilon", "name that file too")
    config = write_config(tmp_path / "d.yaml", {**settings, "privacy": {"ledger": "budget.jsonl"}})
    penname("run", config, "--out", tmp_path / "run").fails(1, "privacy.ledger_epsilon", "is not begun yet")
