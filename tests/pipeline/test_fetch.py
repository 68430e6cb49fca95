"""`penname fetch` as a person uses it, and what it fetched as the data of a run."""

import gzip
import signal
import threading

import pytest

from penname.run_dir import RunDir, read_json
from tests.file_server import Turn, serve_files
from tests.pipeline.conftest import wait_until

CATEGORY = "Cell_Phones_and_Accessories"


@pytest.fixture(scope="module")
def marketplace(tmp_path_factory):
    """The fictional one, gzipped, under the paths of the real one."""
    from penname.ingest.sample_data import write_sample_data

    folder = tmp_path_factory.mktemp("sample")
    write_sample_data(folder, num_reviews=300, seed=1)
    names = {f"/review_categories/{CATEGORY}.jsonl.gz": f"{CATEGORY}.jsonl", f"/meta_categories/meta_{CATEGORY}.jsonl.gz": f"meta_{CATEGORY}.jsonl"}
    return {path: gzip.compress((folder / name).read_bytes(), mtime=0) for path, name in names.items()}


@pytest.fixture
def server(marketplace):
    with serve_files() as server:
        server.files = dict(marketplace)
        yield server


@pytest.fixture
def fetch(penname, server, tmp_path):
    def run(*options, category=CATEGORY, start=False):
        words = ("fetch", "amazon-reviews-2023", category, "--out", tmp_path / "data", "--base-url", server.url, *options)
        return (penname.start if start else penname)(*words, env={"NO_PROXY": "127.0.0.1"})

    return run


def test_interrupted_fetched_and_ingested(fetch, server, penname, tmp_path):
    data, release = tmp_path / "data", threading.Event()
    reviews = data / f"{CATEGORY}.jsonl.gz"
    part = reviews.with_name(f"{reviews.name}.part")
    # The second piece of the file keeps the program waiting until it is told to stop.
    server.turns = [Turn(sends=5000), Turn(before=lambda: release.wait(30))]
    running = fetch(start=True)
    wait_until(lambda: len(server.gets()) == 2)
    running.send(signal.SIGINT)
    stopped = running.wait()
    release.set()
    stopped.fails(130, "interrupted")
    assert f"stopped; {part} keeps what has come" in stopped.stderr
    assert part.stat().st_size == 5000
    assert not reviews.exists()

    done = fetch()
    assert done.code == 0, done.stderr
    assert done.stdout.split() == [str(reviews), str(data / f"meta_{CATEGORY}.jsonl.gz")]
    assert "5.0 kB are here already" in done.stderr
    assert reviews.read_bytes() == server.files[f"/review_categories/{CATEGORY}.jsonl.gz"]
    again = fetch()
    assert again.stdout.startswith("Nothing to do")

    run = tmp_path / "run"
    settings = ["data.format=amazon_reviews_2023", f"data.reviews={reviews}", f"data.catalogue={data}/meta_{CATEGORY}.jsonl.gz"]
    penname.succeed("ingest", *settings, "--out", run)
    assert read_json(RunDir(run).path("ingest_counts"))["kept"] > 250


def test_errors_are_one_line(fetch, server):
    fetch(category="Cell_Phones_and_Acessories").fails(2, "no such category", CATEGORY)
    server.head_turns = [Turn(status=403)]
    fetch().fails(1, "HTTP 403", "--mirror")
    fetch("--base-url", "ftp://nowhere").fails(2, "no http or https address")
