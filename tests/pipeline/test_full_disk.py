"""A disk that fills up: one line, nothing half written, and the same command goes on once there is room."""

import errno
import os
import shutil
import subprocess

import pytest

from penname.config import Config
from penname.errors import PennameError
from penname.pipeline import run_stages
from penname.privacy import ledger as ledger_module
from penname.privacy.ledger import Ledger, Promise
from penname.run_dir import RunDir, hash_path, read_rows

PROMISE = Promise(8.0, 1e-5, "user", "ADD_OR_REMOVE_ONE", "seed")


def _mounted(command, path, size):
    arguments = {"mount": ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], "grow": ["mount", "-o", f"remount,size={size}", str(path)]}
    return subprocess.run(arguments[command], capture_output=True, check=False).returncode == 0


@pytest.fixture
def small_disk(tmp_path):
    """Makes a folder of so many kilobytes; skips where this user may not."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(kilobytes):
        if shutil.which("mount") is None or not _mounted("mount", folder, f"{kilobytes}k"):
            pytest.skip("needs the right to mount a tmpfs")
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], capture_output=True, check=False)


@pytest.mark.parametrize("kilobytes", [40, 420])
def test_the_program_on_a_small_disk(penname, config_file, small_disk, kilobytes):
    disk = small_disk(kilobytes)
    root = disk / "run"
    for stage in ("ingest", "records", "train"):
        outcome = penname(stage, config_file, "--out", root)
        if outcome.code:
            break
    outcome.fails(1)
    assert "disk is full" in outcome.last_line or "No space left" in outcome.last_line
    assert not list(disk.rglob("*.tmp"))
    assert _mounted("grow", disk, "60m")
    for stage in ("ingest", "records"):
        penname.succeed(stage, config_file, "--out", root)
    assert len(list(read_rows(root / "1_records/train.jsonl"))) > 100


@pytest.mark.parametrize("fails_at", [1, 2, 4, 6, 8])
def test_the_nth_file_that_is_written_fails(settings, tmp_path, monkeypatch, fails_at):
    """Ingest and records, in this process: a file system that says so only when the file is flushed."""
    config, root, whole = Config.model_validate(settings), tmp_path / "run", tmp_path / "whole"
    stages = ("ingest", "records")
    count = 0
    really = os.fsync

    def fsync(handle):
        nonlocal count
        count += 1
        if count == fails_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        really(handle)

    with monkeypatch.context() as patch:
        patch.setattr("penname.run_dir.os.fsync", fsync)
        with pytest.raises((OSError, PennameError), match="No space left"):
            run_stages(config, root, stages)
    assert not list(root.rglob("*.tmp"))
    run_stages(config, root, stages)
    run_stages(config, whole, stages)
    for name in ("train_records", "heldout_records", "test_records", "reviews", "rejects"):
        assert hash_path(RunDir(root).path(name)) == hash_path(RunDir(whole).path(name))


def test_half_a_line_of_the_ledger_is_an_error_and_not_an_event(tmp_path, monkeypatch):
    """A full disk takes a part of a line without an error; nothing may be computed under it."""
    really = os.write
    path = tmp_path / "ledger.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr(ledger_module.os, "write", lambda handle, data: really(handle, data[: len(data) // 2]))
        with pytest.raises(OSError, match="No space left"):
            Ledger.open(path, PROMISE)
    assert path.read_bytes()
    assert Ledger.open(path, PROMISE).entries == []
    assert Ledger.read(path).promise == PROMISE
