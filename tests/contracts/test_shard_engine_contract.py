"""One contract for every engine that maps shards: every shard once, in any order, the same results, a lost worker replaced, errors as they are."""

import json
import os
from functools import partial
from pathlib import Path

import pytest

from penname.config import Config
from penname.distributed.errors import EngineError
from penname.distributed.ray_cluster import open_cluster
from penname.distributed.ray_shards import RayEngine
from penname.distributed.shards import LocalEngine
from penname.errors import DataError
from penname.ingest import input_file
from penname.ingest.ingest import run_ingest
from penname.run_dir import RunDir
from tests.unit.distributed import shard_work
from tests.unit.distributed.shard_work import Mortal

SHARDS = [[place, 10 * place, -place] for place in range(9)]
EXPECTED = {place: [3 * number for number in shard] for place, shard in enumerate(SHARDS)}


@pytest.fixture(scope="module")
def ray_cluster(tmp_path_factory):
    """One for all tests of this file; an engine finds it and leaves it as it is."""
    with pytest.MonkeyPatch.context() as patch:
        # Where Ray keeps the token that lets nobody else in.
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        with open_cluster(address=None, num_workers=2, threads_per_worker=1) as ray:
            yield ray


@pytest.fixture(params=["local", "ray"])
def engine(request):
    if request.param == "ray":
        request.getfixturevalue("ray_cluster")
    return {"local": LocalEngine(), "ray": RayEngine(num_workers=2)}[request.param]


def test_the_contract_of_a_shard_engine(engine):
    drawn = []

    def draw():
        for place, shard in enumerate(SHARDS):
            drawn.append(place)
            yield shard

    results = engine.map_shards(shard_work.multiply, draw(), prepare=partial(shard_work.prepare, 3))
    first = next(results)
    # Shards are taken as workers get free, and not all at once.
    assert len(drawn) <= 2 * 2 * engine.num_workers
    found = dict([first, *results])
    assert {place: result["values"] for place, result in found.items()} == EXPECTED
    # A state is made once a worker.
    assert len({result["pid"] for result in found.values()}) <= engine.num_workers
    assert {result["num_made"] for result in found.values() if result["pid"] != os.getpid()} <= {1}
    # No shards, no state.
    assert list(engine.map_shards(shard_work.multiply, [], prepare=shard_work.prepare_badly)) == []
    with pytest.raises(DataError, match="7: is not wanted"):
        list(engine.map_shards(shard_work.refuse_seven, [[1], [2, 7], [3]], prepare=partial(shard_work.prepare, 1)))
    with pytest.raises(DataError, match=r"model\.name: there is none"):
        list(engine.map_shards(shard_work.multiply, SHARDS, prepare=shard_work.prepare_badly))


@pytest.mark.usefixtures("ray_cluster")
def test_a_lost_worker_is_replaced_and_one_that_is_lost_for_ever_is_told(tmp_path):
    engine = RayEngine(num_workers=2, max_retries=6)
    found = dict(engine.map_shards(shard_work.die_once, range(6), prepare=Mortal(tmp_path).prepare))
    assert found == {place: place * place for place in range(6)}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "4"]
    hopeless = RayEngine(num_workers=1, max_retries=0)
    with pytest.raises(EngineError, match="engine: ") as caught:
        list(hopeless.map_shards(shard_work.die_always, range(3), prepare=Mortal(tmp_path).prepare))
    assert "\n" not in str(caught.value)


def test_more_workers_than_a_cluster_has_room_for_are_refused(ray_cluster):
    with pytest.raises(EngineError, match=r"engine\.num_workers: 9 workers of 2 threads need 18 processors, the cluster has 3; set at most 1"):
        list(RayEngine(num_workers=9, threads_per_worker=2).map_shards(shard_work.multiply, SHARDS, prepare=shard_work.prepare_badly))


@pytest.mark.usefixtures("ray_cluster")
def test_a_worker_has_the_threads_that_it_is_given():
    engine = RayEngine(num_workers=1)
    assert dict(engine.map_shards(shard_work.count_threads, [0], prepare=partial(shard_work.prepare, 1))) == {0: ("1", 1)}


def ingest(folder, reviews, engine):
    run_dir = RunDir(folder)
    run_dir.create()
    columns = {"rating": "stars", "text": "body", "title": "head", "category": "kind", "user_id": "who"}
    data = {"format": "table", "reviews": str(reviews), "columns": columns, "categories": ["Caps", "Hats"], "max_malformed_frac": 0.5}
    run_ingest(Config.model_validate({"data": data, "engine": engine}), run_dir)
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.usefixtures("ray_cluster")
def test_reviews_are_cleaned_by_workers_as_by_one_process(tmp_path, monkeypatch):
    monkeypatch.setattr(input_file, "_BLOCK_BYTES", 4096)
    (tmp_path / "raw").mkdir()
    rows = [{"stars": i % 6, "body": f"<b>Good</b> {i % 70}", "head": f"Title {i}", "kind": ("Caps", "Hats")[i % 2], "who": f"u{i % 90}"} for i in range(600)]
    for number in range(3):
        lines = [json.dumps(row) for row in rows[number * 200 : number * 200 + 200]]
        (tmp_path / "raw" / f"part{number}.jsonl").write_text("\n".join([*lines[:50], "no json", *lines[50:], *lines[:9]]))
    here = ingest(tmp_path / "here", tmp_path / "raw", {"kind": "local"})
    there = ingest(tmp_path / "there", tmp_path / "raw", {"kind": "ray", "num_workers": 2})
    assert there == here
    counts = json.loads(here[Path("0_ingest/counts.json")])
    assert counts["rows_read"] == 630
    assert set(counts["rejects"]) == {"malformed_rating", "malformed_json", "duplicate"}


def test_a_machine_of_another_version_is_named(ray_cluster, monkeypatch):
    from penname.distributed import ray_cluster as module

    found = module._read_versions(ray_cluster)
    assert list(found.values()) == [vars(module.Versions.read())]
    monkeypatch.setattr(module, "__version__", "9.9")
    with pytest.raises(EngineError, match=r"engine\.address: the machine \S+ of the cluster has penname \S+, this one has 9\.9"):
        module.check_versions(module._read_versions(ray_cluster), module.Versions.read())
