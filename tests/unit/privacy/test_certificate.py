"""A release folder made here by the program's own parts, and everything that can be done to it."""

import hashlib
import json
import os

import pytest

from penname.privacy import certificate as certificate_module
from penname.privacy.certificate import CERTIFICATE_NAME, LEDGER_NAME, SELF_CHECKS, build_certificate, verify_release
from penname.privacy.errors import PrivacyError
from penname.privacy.keystream import Keystream
from penname.privacy.ledger import Ledger, Promise
from penname.run_dir import hash_path, write_json

EVENT = {"type": "gaussian", "noise_multiplier": 2.5, "l2_sensitivity": 1.0}
CHECKS = [{"name": name, "passed": True, "detail": "as it should be"} for name in SELF_CHECKS]


def make_ledger(path, *, noise_source="operating_system", events=(EVENT,)):
    ledger = Ledger.open(path, Promise(2.0, 1e-5, "user", "ADD_OR_REMOVE_ONE", noise_source))
    for i, event in enumerate(events):
        ledger.spend(f"release-{i}", event, keystream=Keystream.from_seed(1), inputs_sha256="aa")
    return ledger


def certify(folder, *, self_checks=CHECKS, ledger=None):
    files = {path.relative_to(folder).as_posix(): hash_path(path) for path in sorted(folder.rglob("*")) if path.is_file() and path.name != CERTIFICATE_NAME}
    made = build_certificate(
        ledger or Ledger.read(folder / LEDGER_NAME),
        assumed_public=["the ratings 1 to 5"],
        files=files,
        self_checks=self_checks,
        versions={"penname": "0.1.0"},
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


@pytest.fixture
def release(tmp_path):
    make_release(tmp_path / "release")
    return tmp_path / "release"


def forge(release, **changes):
    """Changes the certificate as somebody would who knows how its hash is made."""
    path = release / CERTIFICATE_NAME
    value = json.loads(path.read_text()) | changes
    value["sha256"] = certificate_module._hash(value)
    write_json(path, value)


def test_a_release_verifies(release):
    said = verify_release(release)
    assert "3 files: epsilon 1." in said
    assert "of 2 at delta 1e-05, ADD_OR_REMOVE_ONE, for one user" in said


def test_the_certificate_says_what_the_ledger_says(release):
    value = json.loads((release / CERTIFICATE_NAME).read_text())
    assert value["releasable"] is True
    assert value["events"] == [{"name": "release-0", "mechanism": EVENT}]
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
    ({"self_checks": ["noise"]}, "did not pass"),
    ({"self_checks": {}}, "lacks fields"),
    ({"files": []}, "lacks fields"),
    ({"files": {}}, "not in the certificate"),
    ({"schema_version": 2}, "schema version 2"),
]


@pytest.mark.parametrize(("changes", "message"), FORGERIES)
def test_a_forged_certificate_is_found(release, changes, message):
    forge(release, **changes)
    with pytest.raises(PrivacyError, match=message):
        verify_release(release)


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", "{", "[" * 20_000, '{"schema_version": 1}', "\ufeff{}"])
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
    made = make_release(tmp_path / "release", events=())
    assert made["not_releasable_because"] == ["nothing was charged to the ledger"]
    forge(tmp_path / "release", releasable=True, not_releasable_because=[])
    with pytest.raises(PrivacyError, match="spends epsilon 0"):
        verify_release(tmp_path / "release")


def test_more_spent_than_promised_is_found(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("penname.privacy.ledger.compute_epsilon", lambda events, delta: 0.0)
        make_release(tmp_path / "release", events=(EVENT, EVENT, EVENT))
    made = certify(tmp_path / "release")
    assert made["not_releasable_because"] == ["more was spent than promised"]
    forge(tmp_path / "release", releasable=True, not_releasable_because=[])
    with pytest.raises(PrivacyError, match=r"spends epsilon 2\.\d+, promised is 2"):
        verify_release(tmp_path / "release")


@pytest.mark.parametrize(
    ("self_checks", "reason"),
    [([], "self-check only_adapters_train was not made"), ([*CHECKS[:-1], {**CHECKS[-1], "passed": False}], "self-check adapters_moved failed")],
)
def test_without_its_self_checks_nothing_is_releasable(release, self_checks, reason):
    assert reason in certify(release, self_checks=self_checks)["not_releasable_because"]


def test_a_run_without_the_private_arm_promises_nothing():
    made = build_certificate(None, assumed_public=[], files={}, self_checks=[], versions={}, machine="")
    assert (made["releasable"], made["promise"], made["events"], made["epsilon_spent"]) == (False, None, [], None)


def test_an_empty_folder_says_what_is_missing(tmp_path):
    with pytest.raises(PrivacyError, match="holds no certificate"):
        verify_release(tmp_path)
