"""The run folder: a file is there whole or not at all, whatever goes wrong while it is written."""

import errno
import json
import multiprocessing
import os

import pytest

from penname import run_dir as module
from penname.errors import RunDirError
from penname.run_dir import ARTEFACTS, RunDir, hash_path, hash_value, read_json, read_rows, replace_folder, write_atomic, write_json, write_rows


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class Broken(Exception):
    pass


def test_write_atomic_leaves_the_old_file_and_nothing_else_on_error(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write():
        with write_atomic(target) as handle:
            handle.write("half of the new")
            handle.flush()
            assert target.read_text() == "old"
            raise Broken

    with pytest.raises(Broken):
        write()
    assert names(tmp_path) == ["a.txt"]
    assert target.read_text() == "old"


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_write_atomic_on_a_full_disk(tmp_path, monkeypatch, failing):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, failing, full)
    with pytest.raises(OSError, match="No space"):
        write_json(tmp_path / "sub" / "a.json", {"a": 1})
    assert names(tmp_path / "sub") == []


def test_write_atomic_makes_the_folder_and_a_readable_file(tmp_path):
    with write_atomic(tmp_path / "x" / "y" / "a.bin", "wb") as handle:
        handle.write(b"\0\xff")
    path = tmp_path / "x" / "y" / "a.bin"
    assert path.read_bytes() == b"\0\xff"
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_value_that_is_no_json_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert names(tmp_path) == []


def test_replace_folder_takes_the_place_of_the_old_one_whole(tmp_path):
    target = tmp_path / "figures"
    with replace_folder(target) as new:
        (new / "a").write_text("1")
    with replace_folder(target) as new:
        (new / "b").write_text("2")
        assert names(target) == ["a"]
    assert names(target) == ["b"]
    assert names(tmp_path) == ["figures"]
    assert target.stat().st_mode & 0o777 == 0o755


def test_replace_folder_leaves_the_old_one_on_error(tmp_path):
    target = tmp_path / "figures"
    target.mkdir()
    (target / "a").write_text("1")

    def write():
        with replace_folder(target) as new:
            (new / "b").write_text("2")
            raise Broken

    with pytest.raises(Broken):
        write()
    assert names(tmp_path) == ["figures"]
    assert names(target) == ["a"]


def test_rows_come_back_as_they_were(tmp_path):
    rows = [{"a": 'é\n\u2028\x85"', "b": 1}, {"a": "", "b": None}]
    assert write_rows(tmp_path / "r.jsonl", rows) == 2
    assert list(read_rows(tmp_path / "r.jsonl")) == rows


def test_a_damaged_or_missing_file_is_named_with_its_line(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(RunDirError, match=r"r\.jsonl:2: is damaged"):
        list(read_rows(path))
    with pytest.raises(RunDirError, match=r"gone\.jsonl: is missing"):
        list(read_rows(tmp_path / "gone.jsonl"))
    path.write_bytes(b"\xff\xfe{")
    with pytest.raises(RunDirError, match="is damaged"):
        read_json(path)
    with pytest.raises(RunDirError, match="is missing"):
        read_json(tmp_path / "gone.json")


def test_hash_of_a_folder_sees_names_and_contents_but_no_times(tmp_path):
    folder = tmp_path / "f"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_text("1")
    (folder / "sub" / "b").write_text("2")
    first = hash_path(folder)
    os.utime(folder / "a", (1, 1))
    assert hash_path(folder) == first
    (folder / "a").rename(folder / "c")
    renamed = hash_path(folder)
    (folder / "c").rename(folder / "a")
    (folder / "sub" / "b").write_text("3")
    assert len({first, renamed, hash_path(folder)}) == 3


def test_hash_of_a_file_is_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert hash_path(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_hash_of_a_value_does_not_depend_on_the_order_of_keys():
    assert hash_value({"a": 1, "b": [1, 2]}) == hash_value({"b": [1, 2], "a": 1})
    assert hash_value({"a": [1, 2]}) != hash_value({"a": [2, 1]})


def test_create_refuses_files_and_strangers(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirError, match="is a file"):
        RunDir(tmp_path / "file").create()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.doc").write_text("")
    with pytest.raises(RunDirError, match="holds no penname run"):
        RunDir(tmp_path / "other").create()
    assert names(tmp_path / "other") == ["thesis.doc"]


@pytest.mark.parametrize("left", [".lock", ".run.json.abc123.tmp"])
def test_create_goes_on_after_a_process_that_was_killed_at_once(tmp_path, left):
    (tmp_path / left).write_text("")
    run_dir = RunDir(tmp_path)
    run_dir.create()
    assert run_dir.read_manifest()["stages"] == {}


def test_create_keeps_the_manifest_that_is_there(tmp_path):
    run_dir = RunDir(tmp_path / "a" / "b")
    run_dir.create()
    run_dir.write_manifest({"schema_version": module.MANIFEST_VERSION, "kind": "run", "stages": {"ingest": {"status": "done"}}})
    run_dir.create()
    assert run_dir.read_manifest()["stages"] == {"ingest": {"status": "done"}}


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"schema_version": 3, "stages": 3}', '{"schema_version": 99, "stages": {}}', '{"schema_version": 3, "stages": {}}']
)
def test_a_manifest_that_is_not_ours_is_one_line(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunDirError) as caught:
        RunDir(tmp_path).read_manifest()
    assert "run.json" in str(caught.value)
    with pytest.raises(RunDirError, match="holds no penname run"):
        RunDir(tmp_path / "nowhere").read_manifest()


def _try_lock(root, answers):
    try:
        with RunDir(root).lock():
            answers.put("locked")
    except RunDirError as error:
        answers.put(str(error))


def test_one_process_at_a_time(tmp_path):
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    with RunDir(tmp_path).lock():
        other = context.Process(target=_try_lock, args=(tmp_path, answers))
        other.start()
        assert "another penname process" in answers.get(timeout=30)
        other.join()
    with RunDir(tmp_path).lock():
        pass


def test_every_artefact_says_who_may_see_it():
    assert {artefact.visibility for artefact in ARTEFACTS.values()} == {"PRIVATE", "RELEASABLE"}
    assert len({artefact.path for artefact in ARTEFACTS.values()}) == len(ARTEFACTS)
    for name, artefact in ARTEFACTS.items():
        if "no_dp" in name:
            assert artefact.visibility == "PRIVATE"


def test_json_is_for_people_too(tmp_path):
    write_json(tmp_path / "a.json", {"b": "ä", "a": 1})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "b": "ä",\n  "a": 1\n}\n'
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"a": 1, "b": "ä"}


def test_the_lock_sweeps_what_a_killed_process_left(tmp_path):
    run_dir = RunDir(tmp_path)
    run_dir.create()
    half, folder, kept = run_dir.path("reviews").with_name(".reviews.parquet.x.tmp"), run_dir.path("report").parent / ".figures.x.old", run_dir.path("rejects")
    half.write_text("half")
    folder.mkdir()
    (folder / "figure.png").write_text("old")
    kept.write_text("whole")
    with run_dir.lock():
        assert not half.exists()
        assert not folder.exists()
        assert kept.read_text() == "whole"
