"""However many processors there are, ingest and records write the same files and say the same errors."""

import errno
import json
import os
from pathlib import Path

import pytest

from penname.config import Config
from penname.distributed import processes
from penname.distributed.errors import EngineError
from penname.errors import DataError, RunDirError
from penname.ingest import input_file, review_workers, spill
from penname.ingest.ingest import run_ingest
from penname.records import part_workers
from penname.records.records import run_records
from penname.run_dir import RunDir

SEVERAL = pytest.mark.parametrize("num_processes", [2, 3], indirect=True)
COLUMNS = {"rating": "stars", "text": "body", "title": "head", "category": "kind", "user_id": "who"}


@pytest.fixture(params=[1, 2, 3])
def num_processes(request, monkeypatch):
    """So many for any input, and an input in many parts."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(processes, "MAX_PROCESSES", request.param)
    monkeypatch.setattr(part_workers, "LEAST_BYTES", 0)
    monkeypatch.setattr(review_workers, "LEAST_BYTES", 0)
    monkeypatch.setattr(review_workers, "_CHUNK_BYTES", 4096)
    return request.param


@pytest.fixture(autouse=True)
def many_parts(monkeypatch):
    monkeypatch.setattr(spill, "PART_BYTES", 8000)
    monkeypatch.setattr(input_file, "_BLOCK_BYTES", 4096)


@pytest.fixture
def raw(tmp_path):
    """Two files with copies, in each other too, and rows of every kind."""
    folder = tmp_path / "raw"
    folder.mkdir()
    rows = [
        {"stars": i % 6, "body": f"<b>Good</b> {i % 290}", "head": f"Title {i % 7}", "kind": ("Caps", "Hats")[i % 2], "who": f"u{i % 90}"} for i in range(900)
    ]
    for number in range(2):
        lines = [json.dumps(row) for row in rows[number * 400 : number * 400 + 500]]
        (folder / f"part{number}.jsonl").write_text("\n".join([*lines[:50], "no json", *lines[50:], *lines[:9]]))
    return folder


def configure(raw, privacy_unit="user", **more):
    data = {"format": "table", "reviews": str(raw), "columns": COLUMNS, "categories": ["Caps", "Hats"], "max_malformed_frac": 0.5, **more}
    return Config.model_validate({"data": data, "privacy": {"unit": privacy_unit}})


def run(root, raw, privacy_unit):
    """The files of both stages."""
    run_dir, config = RunDir(root), configure(raw, privacy_unit)
    run_ingest(config, run_dir)
    run_records(config, run_dir)
    return read_all(root)


def read_all(root):
    return {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("unit", ["user", "record"])
def test_the_files_are_the_same(tmp_path, raw, monkeypatch, num_processes, unit):
    many = run(tmp_path / "many", raw, unit)
    monkeypatch.setattr(processes, "MAX_PROCESSES", 1)
    assert run(tmp_path / "one", raw, unit) == many
    assert sum(path.suffix == ".parquet" for path in many) > 3
    assert len(many[Path("1_records/train.jsonl")].splitlines()) > 100
    assert set(json.loads(many[Path("0_ingest/counts.json")])["rejects"]) == {"malformed_rating", "malformed_json", "duplicate"}


def test_a_unit_in_two_parts_stops_the_run(tmp_path, raw, num_processes):
    """Its contribution would be bounded twice."""
    run_dir = RunDir(tmp_path / "run")
    run(run_dir.root, raw, "user")
    before = sorted(run_dir.root.rglob("*"))
    first, *_, last = sorted(run_dir.path("reviews").iterdir())
    last.write_bytes(first.read_bytes())
    with pytest.raises(DataError, match=rf"{last.name}: the reviews of one unit do not stand together; ingest again"):
        run_records(Config(), run_dir)
    assert sorted(run_dir.root.rglob("*")) == before


@SEVERAL
def test_a_lost_process_is_one_line_and_leaves_nothing(tmp_path, raw, monkeypatch, num_processes):
    run_dir = RunDir(tmp_path / "run")
    whole = run(run_dir.root, raw, "user")
    monkeypatch.setattr(processes, "_CODE", processes._CODE.replace("serve({handle})", "import os; os.read({handle}, 1); os.kill(os.getpid(), 9)"))
    with pytest.raises(EngineError, match="was killed by signal 9; is there memory for"):
        run_records(Config(), run_dir)
    with pytest.raises(EngineError, match="was killed by signal 9; is there memory for"):
        run_ingest(configure(raw), run_dir)
    assert read_all(run_dir.root) == whole


@SEVERAL
@pytest.mark.parametrize("failing", [1, 2], ids=["the first time", "later"])
def test_a_disk_that_fails_while_it_takes_the_records_is_heard(tmp_path, raw, monkeypatch, num_processes, failing):
    """The system says so once, to whoever asks first."""
    run_dir, calls = RunDir(tmp_path / "run"), []
    whole = run(run_dir.root, raw, "user")
    flush = part_workers._flush_all

    def fail(handles):
        calls.append(len(calls))
        if len(calls) == failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        flush(handles)

    monkeypatch.setattr(part_workers, "_flush_all", fail)
    with pytest.raises(OSError, match="Input/output error"):
        run_records(Config(), run_dir)
    assert read_all(run_dir.root) == whole


def test_too_many_bad_rows_are_one_line_and_leave_nothing(tmp_path, raw, num_processes):
    with pytest.raises(DataError, match=r"part0\.jsonl:1: malformed_rating; \d+ of the first 1,00\d rows") as caught:
        run_ingest(configure(raw, max_malformed_frac=0.01), RunDir(tmp_path / "run"))
    assert "\n" not in str(caught.value)
    assert read_all(tmp_path / "run") == {}


@SEVERAL
def test_a_full_disk_is_told_as_it_is(tmp_path, raw, num_processes):
    """A process that cannot write where it should."""
    run_dir = RunDir(tmp_path / "run")
    whole = run(run_dir.root, raw, "user")
    limit = min(len(data) for path, data in whole.items() if path.suffix == ".parquet") - 100
    code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "_CODE", f"{code}; {processes._CODE}")
        with pytest.raises(RunDirError, match="cannot be written: File too large; make room"):
            run_ingest(configure(raw), run_dir)
    assert read_all(run_dir.root) == whole
