"""A run in S3: worked on here, brought there, taken from there, and never two at once."""

import json
from pathlib import Path

import pytest

from penname.errors import RunDirError, StoreError, UsageError
from penname.run_dir import ARTEFACTS
from penname.stores.run_folder import open_run_folder
from penname.stores.s3 import S3Store

LOCATION = "s3://reviews/runs/a"


def work(root: Path, **files: str) -> None:
    """What a stage leaves behind; the manifest is another one each time."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "run.json").write_text(json.dumps({"files": files}))


def test_a_local_folder_is_left_alone(tmp_path):
    folder = open_run_folder(str(tmp_path / "run"), cache=tmp_path / "cache")
    folder.bring()
    assert folder.root == tmp_path / "run"
    assert list(tmp_path.iterdir()) == []


def test_what_is_finished_is_brought_and_another_machine_goes_on(bucket, tmp_path):
    here = open_run_folder(LOCATION, cache=tmp_path / "here")
    work(here.root, ingest__reviews="r1", records__train="t1", **{"part.gz": "g"})
    (here.root / ".lock").touch()
    (here.root / ".x.tmp").touch()
    here.bring()
    assert bucket.names() == ["runs/a/ingest/reviews", "runs/a/part.gz", "runs/a/records/train", "runs/a/run.json"]
    assert bucket.read("runs/a/part.gz") == b"g"

    there = open_run_folder(f"{LOCATION}/", cache=tmp_path / "there")
    assert (there.root / "records/train").read_text() == "t1"
    work(there.root, generate__texts="g1")
    (there.root / "records/train").unlink()
    there.bring()
    assert bucket.names() == ["runs/a/generate/texts", "runs/a/ingest/reviews", "runs/a/part.gz", "runs/a/run.json"]

    again = open_run_folder(LOCATION, cache=tmp_path / "here")
    assert (again.root / "generate/texts").read_text() == "g1"
    assert not (again.root / "records/train").exists()


def test_only_what_changed_is_brought_and_the_manifest_last(bucket, tmp_path, monkeypatch):
    folder = open_run_folder(LOCATION, cache=tmp_path)
    work(folder.root, a="1", z="1")
    written = []
    really = S3Store.write
    monkeypatch.setattr(S3Store, "write", lambda store, path, location: written.append(path.name) or really(store, path, location))
    folder.bring()
    assert written == ["a", "z", "run.json"]
    work(folder.root, z="22")
    folder.bring()
    assert written[3:] == ["z", "run.json"]
    folder.bring()
    assert len(written) == 5


def test_the_key_stays_here_and_nothing_goes_while_there_is_one(bucket, tmp_path, capsys):
    folder = open_run_folder(LOCATION, cache=tmp_path)
    key = folder.root / ARTEFACTS["noise_key"].path
    key.parent.mkdir(parents=True)
    key.write_bytes(b"secret")
    work(folder.root, ledger="1 event")
    folder.bring()
    assert bucket.names() == []
    assert "secret key stays on this machine" in capsys.readouterr().err
    key.unlink()
    folder.bring()
    assert bucket.names() == ["runs/a/ledger", "runs/a/run.json"]


def test_a_run_that_went_on_in_two_places_is_refused_in_both(bucket, tmp_path):
    here = open_run_folder(LOCATION, cache=tmp_path / "here")
    work(here.root, a="1")
    here.bring()
    there = open_run_folder(LOCATION, cache=tmp_path / "there")
    work(here.root, a="spent here")
    work(there.root, a="spent there")
    there.bring()
    with pytest.raises(RunDirError, match=r"went on here and on another machine.*choose another --out, or remove "):
        here.bring()
    with pytest.raises(RunDirError, match="went on here and on another machine"):
        open_run_folder(LOCATION, cache=tmp_path / "here")
    assert bucket.read("runs/a/a") == b"spent there"


def test_two_fresh_starts_do_not_overwrite_each_other(bucket, tmp_path):
    here, there = (open_run_folder(LOCATION, cache=tmp_path / name) for name in ("here", "there"))
    work(here.root, a="1")
    work(there.root, a="2")
    here.bring()
    with pytest.raises(RunDirError, match="went on here"):
        there.bring()


def test_stopped_while_bringing(bucket, tmp_path, monkeypatch):
    folder = open_run_folder(LOCATION, cache=tmp_path)
    really = S3Store.write

    def stop_at(name):
        def write(store, path, location):
            if path.name == name:
                raise KeyboardInterrupt
            really(store, path, location)

        return write

    work(folder.root, a="1", b="1")
    with monkeypatch.context() as patch:
        patch.setattr(S3Store, "write", stop_at("b"))
        with pytest.raises(KeyboardInterrupt):
            folder.bring()
    # Without a manifest it is no run: nobody takes half of it.
    assert bucket.names() == ["runs/a/a"]
    open_run_folder(LOCATION, cache=tmp_path).bring()
    assert bucket.names() == ["runs/a/a", "runs/a/b", "runs/a/run.json"]
    # After the manifest, before the note of it: the run there is the one here.
    work(folder.root, a="2")
    with monkeypatch.context() as patch:
        patch.setattr("penname.stores.run_folder._Mirror._write_note", lambda mirror: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            folder.bring()
    open_run_folder(LOCATION, cache=tmp_path).bring()
    assert bucket.read("runs/a/a") == b"2"


def test_stopped_while_taking(bucket, tmp_path, monkeypatch):
    here = open_run_folder(LOCATION, cache=tmp_path / "here")
    work(here.root, a="1", b="1")
    here.bring()
    really = S3Store.read

    def read(store, file, start):
        if file.name == "b":
            raise KeyboardInterrupt
        yield from really(store, file, start)

    with monkeypatch.context() as patch:
        patch.setattr(S3Store, "read", read)
        with pytest.raises(KeyboardInterrupt):
            open_run_folder(LOCATION, cache=tmp_path / "there")
    there = open_run_folder(LOCATION, cache=tmp_path / "there")
    assert sorted(path.name for path in there.root.iterdir()) == ["a", "b", "run.json"]


def test_a_run_that_is_gone_there_is_told(bucket, tmp_path):
    folder = open_run_folder(LOCATION, cache=tmp_path)
    work(folder.root, a="1")
    folder.bring()
    S3Store().remove(f"{LOCATION}/run.json")
    with pytest.raises(RunDirError, match="is gone"):
        open_run_folder(LOCATION, cache=tmp_path)


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("hf://datasets/o/n", "holds private data"),
        ("gs://b/x", "on this machine or at s3://"),
        ("s3://bucket", "names no folder"),
        ("s3://bucket/", "names no folder"),
    ],
)
def test_where_a_run_cannot_be_kept(tmp_path, location, words):
    with pytest.raises(UsageError, match=words):
        open_run_folder(location, cache=tmp_path)


def test_a_store_that_refuses_is_told_before_anything_is_done(refusing, tmp_path):
    refusing(403, "AccessDenied")
    with pytest.raises(StoreError, match="refuses access"):
        open_run_folder(LOCATION, cache=tmp_path)
