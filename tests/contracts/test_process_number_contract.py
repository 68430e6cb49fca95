"""However many processors there are, ingest and records write the same files and say the same errors."""

import json
import os
from pathlib import Path

import pytest

from penname.config import Config
from penname.distributed import processes
from penname.distributed.errors import EngineError
from penname.errors import DataError
from penname.ingest import spill
from penname.ingest.ingest import run_ingest
from penname.records import part_workers
from penname.records.records import run_records
from penname.run_dir import RunDir

COLUMNS = {"rating": "stars", "text": "body", "title": "head", "category": "kind", "user_id": "who"}


@pytest.fixture(params=[1, 2, 3])
def num_processes(request, monkeypatch):
    """So many for any input, and an input in many parts."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(request.param)))
    monkeypatch.setattr(part_workers, "LEAST_BYTES", 0)
    return request.param


@pytest.fixture(autouse=True)
def many_parts(monkeypatch):
    monkeypatch.setattr(spill, "PART_BYTES", 8000)


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


def run(root, raw, privacy_unit):
    """The files of both stages."""
    run_dir = RunDir(root)
    data = {"format": "table", "reviews": str(raw), "columns": COLUMNS, "categories": ["Caps", "Hats"], "max_malformed_frac": 0.5}
    config = Config.model_validate({"data": data, "privacy": {"unit": privacy_unit}})
    run_ingest(config, run_dir)
    run_records(config, run_dir)
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


def test_a_lost_process_is_one_line_and_leaves_nothing(tmp_path, raw, monkeypatch, num_processes):
    if num_processes == 1:
        pytest.skip("there is no other process")
    run_dir = RunDir(tmp_path / "run")
    whole = run(run_dir.root, raw, "user")
    monkeypatch.setattr(processes, "_CODE", processes._CODE.replace("serve({handle})", "import os; os.read({handle}, 1); os.kill(os.getpid(), 9)"))
    with pytest.raises(EngineError, match="was killed by signal 9; is there memory for"):
        run_records(Config(), run_dir)
    assert {path.relative_to(run_dir.root): path.read_bytes() for path in sorted(run_dir.root.rglob("*")) if path.is_file()} == whole
