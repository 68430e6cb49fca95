"""A release folder made here by the program's own parts, and everything that can be done to it."""

import hashlib
import json
import os
import shutil
import time

import pytest

from penname.privacy import certificate as certificate_module
from penname.privacy import ledger as ledger_module
from penname.privacy.accounting import MAX_STEPS, METHOD, METHOD_WITH_DRAWS, accountant_version, compute_epsilon_in_two_parts
from penname.privacy.book import Book, DataSetLedger, read_snapshot
from penname.privacy.certificate import CERTIFICATE_NAME, DATA_SET_LEDGER_NAME, LEDGER_NAME, SELF_CHECKS, build_certificate, verify_release
from penname.privacy.errors import LedgerError, PrivacyError
from penname.privacy.keystream import Keystream
from penname.privacy.ledger import COUNT_ID, HISTOGRAM_ID, TRAINING_ID, Ledger, Promise, Scope
from penname.run_dir import hash_path, write_json

MARGINAL = {"type": "gaussian", "noise_multiplier": 20.0, "l2_sensitivity": 1.0}
TRAINING = {"type": "poisson_sampled_gaussian", "noise_multiplier": 1.5, "l2_sensitivity": 1.0, "sampling_prob": 0.1, "num_steps": 10}
EVENTS = {COUNT_ID: MARGINAL, TRAINING_ID: TRAINING, HISTOGRAM_ID: MARGINAL}
CHECKS = [{"name": name, "passed": True, "detail": "as it should be"} for name in SELF_CHECKS]
VERSIONS = {"penname": "0.1.0", "python": "3.11.1", "torch": "2.5.1", "dp-accounting": accountant_version()}
KEY = Keystream.from_seed(1)


def make_promise(noise_source="operating_system"):
    return Promise(2.0, 1e-5, "user", "ADD_OR_REMOVE_ONE", noise_source)


def make_ledger(path, *, noise_source="operating_system", events=EVENTS):
    ledger = Ledger.open(path, make_promise(noise_source))
    for name, event in events.items():
        ledger.spend(name, event, keystream=KEY, inputs_sha256="aa")
    return ledger


def certify(folder, *, self_checks=CHECKS, ledger=None, data_set=None):
    files = {path.relative_to(folder).as_posix(): hash_path(path) for path in sorted(folder.rglob("*")) if path.is_file() and path.name != CERTIFICATE_NAME}
    made = build_certificate(
        ledger or Ledger.read(folder / LEDGER_NAME),
        data_set=data_set,
        assumed_public=["the ratings 1 to 5"],
        files=files,
        self_checks=self_checks,
        versions=VERSIONS,
        machine="Linux",
    )
    write_json(folder / CERTIFICATE_NAME, made)
    return made


def make_release(folder, **changes):
    (folder / "adapter").mkdir(parents=True)
    (folder / "synthetic.jsonl").write_text('{"text": "A case that yellows."}\n')
    (folder / "adapter" / "weights.safetensors").write_bytes(bytes(range(64)))
    make_ledger(folder / LEDGER_NAME, **changes)
    return certify(folder)


@pytest.fixture(scope="module")
def _release(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "release"
    make_release(folder)
    return folder


@pytest.fixture
def release(_release, tmp_path):
    return shutil.copytree(_release, tmp_path / "release")


def forge(release, *, without=(), **changes):
    """Changes the certificate as somebody would who knows how its hash is made."""
    path = release / CERTIFICATE_NAME
    value = {name: old for name, old in (json.loads(path.read_text()) | changes).items() if name not in without}
    value["sha256"] = certificate_module._hash(value)
    write_json(path, value)


def test_a_release_verifies(release):
    said = verify_release(release)
    assert said.startswith("3 files: epsilon 1.")
    assert said.endswith("of 2 at delta 1e-05, ADD_OR_REMOVE_ONE, for one user: everything that one user id wrote")


def test_the_certificate_says_what_the_ledger_says(release):
    value = json.loads((release / CERTIFICATE_NAME).read_text())
    assert value["releasable"] is True
    assert value["events"] == [{"name": name, "mechanism": event} for name, event in EVENTS.items()]
    assert value["data_set"] is None
    assert any("other runs" in sentence.lower() for sentence in value["not_covered"])
    assert value["promise"] == {"target_epsilon": 2.0, "delta": 1e-5}
    assert value["epsilon_spent"] < value["epsilon_rdp"]
    assert set(value["files"]) == {"adapter/weights.safetensors", LEDGER_NAME, "synthetic.jsonl"}


def test_every_single_byte_change_is_found(release):
    for path in sorted(p for p in release.rglob("*") if p.is_file()):
        raw = path.read_bytes()
        step = max(1, len(raw) // 60)
        for position in [*range(0, len(raw), step), len(raw) - 1]:
            for flip in (0x01, 0x2A):
                edited = bytearray(raw)
                edited[position] ^= flip
                path.write_bytes(bytes(edited))
                with pytest.raises(PrivacyError):
                    verify_release(release)
        path.write_bytes(raw[:-1])
        with pytest.raises(PrivacyError):
            verify_release(release)
        path.write_bytes(raw + b"\n")
        with pytest.raises(PrivacyError):
            verify_release(release)
        path.write_bytes(raw)
    verify_release(release)


FORGERIES = [
    ({"epsilon_spent": 1.0}, "epsilon_spent is 1.0"),
    ({"epsilon_spent": None}, "epsilon_spent"),
    ({"epsilon_spent": "1.5"}, "epsilon_spent"),
    ({"epsilon_rdp": 1.0}, "epsilon_rdp"),
    ({"promise": {"target_epsilon": 8.0, "delta": 1e-5}}, "promise is not what the ledger says"),
    ({"promise": None}, "promise is not what the ledger says"),
    ({"privacy_unit": "record"}, "privacy_unit"),
    ({"unit_definition": "a household"}, "unit_definition"),
    ({"neighboring_relation": "REPLACE_ONE"}, "neighboring_relation"),
    ({"noise_source": "seed"}, "noise_source"),
    ({"events": []}, "events"),
    ({"releasable": False}, "not releasable"),
    ({"releasable": 1}, "not releasable"),
    ({"not_releasable_because": ["more was spent"]}, "more was spent"),
    ({"not_releasable_because": None}, "not releasable"),
    ({"self_checks": []}, "self-check only_adapters_train was not made"),
    ({"self_checks": CHECKS[:-1]}, "self-check adapters_moved was not made"),
    ({"self_checks": [*CHECKS[:-1], {**CHECKS[-1], "passed": "true"}]}, "did not pass"),
    ({"self_checks": ["noise"]}, "is not name, passed, detail"),
    ({"self_checks": {}}, "is not name, passed, detail"),
    ({"self_checks": None}, "is not name, passed, detail"),
    ({"self_checks": [*CHECKS, CHECKS[0]]}, "is in the list twice"),
    ({"self_checks": [*CHECKS, {**CHECKS[0], "name": "luck"}]}, "not known"),
    ({"self_checks": [*CHECKS[:-1], {**CHECKS[-1], "when": "today"}]}, "is not name, passed, detail"),
    ({"self_checks": [*CHECKS[:-1], {"name": "adapters_moved", "passed": True}]}, "is not name, passed, detail"),
    ({"self_checks": [*CHECKS[:-1], {**CHECKS[-1], "detail": None}]}, "is not name, passed, detail"),
    ({"files": []}, "files does not have the form"),
    ({"files": {"synthetic.jsonl": "abc"}}, "files does not have the form"),
    ({"files": {"synthetic.jsonl": None}}, "files does not have the form"),
    ({"files": {}}, "not in the certificate"),
    *(({"schema_version": value}, "schema version") for value in (1, 3, 2.0, True, "2", None)),
    ({"unit_column": "household_id"}, "unit_column"),
    ({"promise": {"target_epsilon": 2, "delta": 1e-5}}, "promise is not what the ledger says"),
    ({"epsilon_spent": True}, "epsilon_spent is True"),
    ({"epsilon_spent": 10**300}, "epsilon_spent is 1000"),
    ({"epsilon_method": "by eye"}, "epsilon_method"),
    ({"accountant": {"name": "dp-accounting"}}, "accountant"),
    ({"accountant": {"name": "abacus", "version": "1"}}, "accountant"),
    ({"accountant": {"name": "dp-accounting", "version": ""}}, "accountant"),
    ({"accountant": {"name": "dp-accounting", "version": "9.9"}}, "two versions of dp-accounting"),
    ({"data_set": {"target_epsilon": 8.0, "delta": 1e-5, "epsilon_spent": 1.0, "num_events": 3}}, "data_set has figures, but there is no"),
    ({"data_set": {}}, "data_set has figures"),
    ({"assumed_public": []}, "assumed_public"),
    ({"assumed_public": "nothing"}, "assumed_public"),
    ({"assumed_public": ["a", 3]}, "assumed_public"),
    ({"not_covered": []}, "not_covered"),
    ({"not_covered": None}, "not_covered"),
    ({"versions": {}}, "versions"),
    *(({"versions": {name: value for name, value in VERSIONS.items() if name != gone}}, "versions") for gone in VERSIONS),
    *(({"versions": {**VERSIONS, "torch": value}}, "versions") for value in ("", " ", None, 2)),
    ({"machine": ""}, "machine"),
    ({"machine": 7}, "machine"),
    ({"machine": "Linux\x1b[2J"}, "machine"),
    ({"a_new_key": 1}, "'a_new_key' is no field"),
    ({"\x1b[2J": 1}, "is no field"),
]


@pytest.mark.parametrize(("changes", "message"), FORGERIES)
def test_a_forged_certificate_is_found(release, changes, message):
    forge(release, **changes)
    with pytest.raises(PrivacyError, match=message) as caught:
        verify_release(release)
    assert str(caught.value).isprintable()


def test_every_key_is_needed(release):
    names = list(json.loads((release / CERTIFICATE_NAME).read_text()))
    assert len(names) == 22
    raw = (release / CERTIFICATE_NAME).read_bytes()
    for name in names:
        forge(release, without=[name])
        if name != "sha256":
            with pytest.raises(PrivacyError, match=r"lacks fields|not releasable|schema version"):
                verify_release(release)
        (release / CERTIFICATE_NAME).write_bytes(raw)
    verify_release(release)


def test_another_version_of_the_accountant_is_told_and_the_recomputed_figure_decides(release):
    value = json.loads((release / CERTIFICATE_NAME).read_text())
    other = {"accountant": {"name": "dp-accounting", "version": "0.3"}, "versions": {**VERSIONS, "dp-accounting": "0.3"}}
    forge(release, **other, epsilon_spent=1.01 * value["epsilon_spent"])
    assert verify_release(release).endswith(f"; recomputed with dp-accounting {accountant_version()}, certified with 0.3")
    forge(release, **other, epsilon_spent=1.2 * value["epsilon_spent"])
    with pytest.raises(PrivacyError, match="epsilon_spent"):
        verify_release(release)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{}", "{", "[" * 20_000, '{"schema_version": 2}', "\ufeff{}", "1" * 5000, '{"a":' * 900 + "1" + "}" * 900, " " * 5_000_000]
)
def test_a_certificate_that_is_none_is_found(release, text):
    (release / CERTIFICATE_NAME).write_text(text)
    with pytest.raises(PrivacyError, match=CERTIFICATE_NAME):
        verify_release(release)


def test_a_key_that_stands_twice_is_found(release):
    path = release / CERTIFICATE_NAME
    path.write_text(path.read_text().replace("{\n", '{\n  "epsilon_spent": 0.1,\n', 1))
    with pytest.raises(PrivacyError, match="was edited"):
        verify_release(release)


@pytest.mark.parametrize("name", ["extra.txt", ".hidden", "adapter/train.jsonl", "more/deep.txt"])
def test_an_extra_file_is_found(release, name):
    (release / name).parent.mkdir(exist_ok=True)
    (release / name).write_text("private")
    with pytest.raises(PrivacyError, match="is not in the certificate"):
        verify_release(release)


def test_an_extra_empty_folder_is_found(release):
    (release / "Alex Johnson").mkdir()
    with pytest.raises(PrivacyError, match="is not in the certificate"):
        verify_release(release)


@pytest.mark.parametrize("name", ["synthetic.jsonl", LEDGER_NAME, "adapter/weights.safetensors"])
def test_a_missing_file_is_found(release, name):
    (release / name).unlink()
    with pytest.raises(PrivacyError, match="missing from the folder"):
        verify_release(release)


@pytest.mark.parametrize("name", ["synthetic.jsonl", LEDGER_NAME, CERTIFICATE_NAME])
def test_a_link_in_place_of_a_file_is_found(release, tmp_path, name):
    outside = tmp_path / f"outside-{name}"
    os.replace(release / name, outside)
    (release / name).symlink_to(outside)
    with pytest.raises(PrivacyError, match="is a link"):
        verify_release(release)


def test_links_to_folders_and_to_nothing_and_pipes_are_found(release, tmp_path):
    private = tmp_path / "private"
    private.mkdir()
    (private / "train.jsonl").write_text("private")
    for make in (lambda p: p.symlink_to(private), lambda p: p.symlink_to(tmp_path / "nothing"), os.mkfifo):
        make(release / "extra")
        with pytest.raises(PrivacyError, match="is a link or a special file"):
            verify_release(release)
        (release / "extra").unlink()


@pytest.mark.parametrize("form", ["../{}", "adapter/../../{}", "{absolute}"])
def test_a_path_that_leaves_the_folder_is_found(release, tmp_path, form):
    outside = tmp_path / "outside.txt"
    outside.write_text("private")
    name = form.format("outside.txt", absolute=outside)
    value = json.loads((release / CERTIFICATE_NAME).read_text())
    forge(release, files={**value["files"], name: hashlib.sha256(b"private").hexdigest()})
    with pytest.raises(PrivacyError, match="missing from the folder"):
        verify_release(release)


def test_seeded_noise_is_not_releasable(tmp_path):
    made = make_release(tmp_path / "release", noise_source="seed")
    assert made["releasable"] is False
    assert "seed" in made["not_releasable_because"][0]
    with pytest.raises(PrivacyError, match="not releasable: sampling and noise come from a seed"):
        verify_release(tmp_path / "release")
    forge(tmp_path / "release", releasable=True, not_releasable_because=[])
    with pytest.raises(PrivacyError, match="comes from a seed"):
        verify_release(tmp_path / "release")


def test_a_ledger_without_events_is_not_releasable(tmp_path):
    made = make_release(tmp_path / "release", events={})
    assert made["not_releasable_because"][0] == "nothing was charged to the ledger"
    assert "each once and nothing else" in made["not_releasable_because"][1]
    forge(tmp_path / "release", releasable=True, not_releasable_because=[])
    with pytest.raises(PrivacyError, match="each once and nothing else"):
        verify_release(tmp_path / "release")


def test_more_spent_than_promised_is_found(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("penname.privacy.ledger._compute_epsilon", lambda events, delta, by=None: 0.0)
        make_release(tmp_path / "release", events={**EVENTS, TRAINING_ID: {**TRAINING, "num_steps": 60}})
    made = certify(tmp_path / "release")
    assert made["not_releasable_because"] == ["more was spent than promised"]
    forge(tmp_path / "release", releasable=True, not_releasable_because=[])
    with pytest.raises(PrivacyError, match=r"spend epsilon [2-9]\.\d+, promised is 2"):
        verify_release(tmp_path / "release")


def rewrite(folder, edit):
    """Edits a release's ledger and certifies it anew, with hashes and figures that are right: what a careful forger can do."""
    path = folder / LEDGER_NAME
    lines = edit([json.loads(line) for line in path.read_bytes().splitlines()])
    previous, out = None, b""
    for line in lines:
        line.pop("sha256")
        if previous is not None:
            line["previous_sha256"] = previous
        out += ledger_module._seal(line)
        previous = json.loads(out.splitlines()[-1])["sha256"]
    path.write_bytes(out)
    ledger = Ledger.read(path)
    spent = {"epsilon_spent": ledger.epsilon_spent(), "epsilon_rdp": ledger.epsilon_rdp()}
    files = json.loads((folder / CERTIFICATE_NAME).read_text())["files"] | {LEDGER_NAME: hash_path(path)}
    forge(folder, **certificate_module._state_promise(ledger), **spent, files=files)


@pytest.mark.parametrize(
    "edit",
    [
        lambda lines: lines[:-1],
        lambda lines: lines[:1] + lines[2:],
        lambda lines: [*lines, {**lines[-1]}],
        lambda lines: [*lines[:-1], {**lines[-1], "event_id": "histogram"}],
        lambda lines: [*lines[:2], {**lines[2], "event": MARGINAL}, lines[3]],
        lambda lines: [*lines[:-1], {**lines[-1], "key_commitment": "a" * 64}],
        lambda lines: [{**lines[0], "data_set_ledger": "a" * 64}, *lines[1:]],
        lambda lines: [{**lines[0], "data_commitment": "a" * 64}, *lines[1:]],
        lambda lines: [{**lines[0], "noise_source": "seed"}, *lines[1:]],
    ],
)
def test_a_ledger_that_was_written_anew_without_an_event_is_found(release, edit):
    rewrite(release, edit)
    with pytest.raises(PrivacyError, match="is not releasable"):
        verify_release(release)


@pytest.mark.parametrize("change", [{"num_steps": 10**15}, {"num_steps": 10**400}, {"noise_multiplier": 10**400}, {"sampling_prob": 1e-400}])
def test_a_hostile_event_is_refused_at_once(release, change):
    lines = [json.loads(line) for line in (release / LEDGER_NAME).read_bytes().splitlines()]
    entry = {**lines[2], "event": {**TRAINING, **change}}
    del entry["sha256"]
    raw = (release / LEDGER_NAME).read_bytes().splitlines(keepends=True)
    (release / LEDGER_NAME).write_bytes(b"".join([*raw[:2], ledger_module._seal(entry), *raw[3:]]))
    files = json.loads((release / CERTIFICATE_NAME).read_text())["files"]
    forge(release, files={**files, LEDGER_NAME: hash_path(release / LEDGER_NAME)})
    began = time.process_time()
    with pytest.raises(LedgerError, match=r"ledger\.jsonl:3: event"):
        verify_release(release)
    assert time.process_time() - began < 5


def test_the_dearest_ledger_that_is_read_is_verified_in_a_minute(release):
    rewrite(release, lambda lines: [*lines[:2], {**lines[2], "event": {**TRAINING, "num_steps": MAX_STEPS, "noise_multiplier": 100.0}}, lines[3]])
    began = time.process_time()
    with pytest.raises(PrivacyError, match="spend epsilon"):
        verify_release(release)
    assert time.process_time() - began < 60


@pytest.mark.parametrize(
    ("self_checks", "reason"),
    [([], "self-check only_adapters_train was not made"), ([*CHECKS[:-1], {**CHECKS[-1], "passed": False}], "self-check adapters_moved failed")],
)
def test_without_its_self_checks_nothing_is_releasable(release, self_checks, reason):
    assert reason in certify(release, self_checks=self_checks)["not_releasable_because"]


def test_a_run_without_the_private_arm_promises_nothing():
    made = build_certificate(None, assumed_public=[], files={}, self_checks=[], versions={}, machine="")
    assert (made["releasable"], made["promise"], made["events"], made["epsilon_spent"]) == (False, None, [], None)


def test_a_certificate_has_the_same_keys_whatever_it_says(release):
    none = build_certificate(None, assumed_public=[], files={}, self_checks=[], versions={}, machine="")
    assert list(none) == list(json.loads((release / CERTIFICATE_NAME).read_text()))


def test_a_reason_of_the_run_folder_is_a_reason(release):
    made = build_certificate(
        Ledger.read(release / LEDGER_NAME),
        obstacles=["the training is charged twice"],
        assumed_public=[],
        files={},
        self_checks=CHECKS,
        versions={},
        machine="",
    )
    assert made["not_releasable_because"] == ["the training is charged twice"]


# --- the data set's ledger ------------------------------------------------------------------------------------------------


def make_shared_release(folder, home, *, seeds=(1, 2)):
    """The release of the last of several runs that share a data set's ledger."""
    (folder / "adapter").mkdir(parents=True)
    (folder / "synthetic.jsonl").write_text("{}\n")
    (folder / "adapter" / "weights.safetensors").write_bytes(b"w")
    for seed in seeds:
        shared = DataSetLedger.open(home / "shared.jsonl", make_promise(), target_epsilon=3.0, data_sha256="d")
        book = Book(Ledger.open(home / f"{seed}.jsonl", make_promise(), Scope(data_set_ledger=shared.heading_sha256)), shared)
        for name, event in EVENTS.items():
            book.spend(name, event, keystream=Keystream.from_seed(seed), inputs_sha256="aa")
    shutil.copyfile(home / f"{seeds[-1]}.jsonl", folder / LEDGER_NAME)
    (folder / DATA_SET_LEDGER_NAME).write_bytes(read_snapshot(home / "shared.jsonl"))
    return certify(folder, data_set=Ledger.read(folder / DATA_SET_LEDGER_NAME))


@pytest.fixture(scope="module")
def _shared_release(tmp_path_factory):
    home = tmp_path_factory.mktemp("shared")
    make_shared_release(home / "release", home)
    return home / "release"


@pytest.fixture
def shared_release(_shared_release, tmp_path):
    return shutil.copytree(_shared_release, tmp_path / "release")


def test_a_release_tells_what_all_runs_on_the_data_spent(shared_release):
    value = json.loads((shared_release / CERTIFICATE_NAME).read_text())
    both = compute_epsilon_in_two_parts([MARGINAL] * 2, [TRAINING, MARGINAL] * 2, delta=1e-5)
    assert value["releasable"] is True
    assert value["data_set"] == {"target_epsilon": 3.0, "delta": 1e-5, "epsilon_spent": both, "num_events": 6}
    assert value["epsilon_spent"] < both
    assert not any("accounted alone" in sentence for sentence in value["not_covered"])
    assert f"the data set so far, 6 events of all runs: epsilon {both:.4g} of 3" in verify_release(shared_release)


@pytest.mark.parametrize(
    "data_set",
    [
        None,
        {},
        {"target_epsilon": 3.0, "delta": 1e-5, "epsilon_spent": 1.0, "num_events": 6},
        {"target_epsilon": 30.0, "delta": 1e-5, "num_events": 6},
        {"target_epsilon": 3.0, "delta": 1e-6, "num_events": 6},
        {"target_epsilon": 3.0, "delta": 1e-5, "num_events": 3},
        {"target_epsilon": 3.0, "delta": 1e-5, "num_events": 6, "more": 1},
    ],
)
def test_forged_figures_of_the_data_set_are_found(shared_release, data_set):
    right = json.loads((shared_release / CERTIFICATE_NAME).read_text())["data_set"]["epsilon_spent"]
    forge(shared_release, data_set={"epsilon_spent": right, **data_set} if data_set else data_set)
    with pytest.raises(PrivacyError, match="data_set"):
        verify_release(shared_release)


def change_snapshot(release, raw):
    """Puts another ledger in the place of the data set's, with figures and hashes that are right."""
    path = release / DATA_SET_LEDGER_NAME
    if raw is None:
        path.unlink()
    else:
        path.write_bytes(raw)
    files = json.loads((release / CERTIFICATE_NAME).read_text())["files"]
    files.pop(DATA_SET_LEDGER_NAME)
    described = None
    if raw is not None:
        files[DATA_SET_LEDGER_NAME] = hash_path(path)
        data_set = Ledger.read(path)
        described = certificate_module._describe_data_set(data_set, data_set.epsilon_spent())
    not_covered = certificate_module._list_not_covered(has_data_set=raw is not None)
    forge(release, files=files, data_set=described, not_covered=not_covered)


def test_a_snapshot_without_this_runs_events_is_found(shared_release):
    lines = (shared_release / DATA_SET_LEDGER_NAME).read_bytes().splitlines(keepends=True)
    for num_lines, lacking in ((1, COUNT_ID), (4, COUNT_ID), (5, TRAINING_ID), (6, HISTOGRAM_ID)):
        change_snapshot(shared_release, b"".join(lines[:num_lines]))
        with pytest.raises(PrivacyError, match=f"the ledger of the data set lacks {lacking}"):
            verify_release(shared_release)
    change_snapshot(shared_release, b"".join(lines))
    verify_release(shared_release)


def test_a_snapshot_that_was_left_out_or_is_of_another_data_set_is_found(shared_release, tmp_path):
    (tmp_path / "other").mkdir()
    make_shared_release(tmp_path / "other" / "release", tmp_path / "other", seeds=(1,))
    other = (tmp_path / "other" / "release" / DATA_SET_LEDGER_NAME).read_bytes()
    own = (shared_release / LEDGER_NAME).read_bytes()
    for raw in (None, other, own):
        folder = shutil.copytree(shared_release, tmp_path / f"copy-{hashlib.sha256(raw or b'').hexdigest()[:8]}")
        change_snapshot(folder, raw)
        with pytest.raises(PrivacyError, match="is not the one that the run's ledger names"):
            verify_release(folder)


def test_a_data_set_beyond_its_budget_is_not_releasable(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("penname.privacy.ledger._compute_epsilon", lambda events, delta, by=None: 0.0)
        make_shared_release(tmp_path / "release", tmp_path, seeds=(1, 2, 3, 4, 5))
    made = certify(tmp_path / "release", data_set=Ledger.read(tmp_path / "release" / DATA_SET_LEDGER_NAME))
    assert made["not_releasable_because"] == ["all runs together spent more than the budget of the data set"]
    forge(tmp_path / "release", releasable=True, not_releasable_because=[])
    with pytest.raises(PrivacyError, match=r"data_set_ledger\.jsonl: its events spend epsilon 3\.\d+, promised is 3"):
        verify_release(tmp_path / "release")


def test_an_empty_folder_says_what_is_missing(tmp_path):
    with pytest.raises(PrivacyError, match="holds no certificate"):
        verify_release(tmp_path)


DRAWS = {"type": "exponential", "temperature": 0.9, "linf_sensitivity": 0.02, "num_draws": 96}


def test_a_release_of_drawn_words_verifies_and_says_how_they_are_accounted_for(tmp_path):
    certificate = make_release(tmp_path / "release", events={**EVENTS, TRAINING_ID: DRAWS})
    assert certificate["epsilon_method"] == METHOD_WITH_DRAWS
    assert certificate["epsilon_spent"] == pytest.approx(compute_epsilon_in_two_parts([MARGINAL], [DRAWS, MARGINAL], delta=1e-5))
    assert "epsilon" in verify_release(tmp_path / "release")
    forge(tmp_path / "release", epsilon_method=METHOD)
    with pytest.raises(PrivacyError, match="epsilon_method"):
        verify_release(tmp_path / "release")


def test_draws_in_the_place_of_a_marginal_are_no_release(tmp_path):
    certificate = make_release(tmp_path / "release", events={**EVENTS, HISTOGRAM_ID: DRAWS})
    assert not certificate["releasable"]
    with pytest.raises(PrivacyError, match="not releasable"):
        verify_release(tmp_path / "release")
