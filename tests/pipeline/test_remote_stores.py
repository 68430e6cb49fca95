"""A run whose data lies in S3 and whose folder is kept there, begun on one machine and gone on with on another."""

import gzip

import pytest

from penname.ingest.sample_data import write_sample_data
from tests.pipeline.conftest import write_config
from tests.s3_server import Bucket, keys_for, serve_s3

REVIEWS = "Cell_Phones_and_Accessories.jsonl"


@pytest.fixture
def bucket(monkeypatch):
    with serve_s3() as endpoint:
        for name, value in keys_for(endpoint).items():
            monkeypatch.setenv(name, value)
        yield Bucket(endpoint), endpoint


def test_begun_here_and_gone_on_with_there(penname, settings, bucket, tmp_path):
    store, endpoint = bucket
    write_sample_data(tmp_path / "sample", num_reviews=300, seed=1)
    store.put("in/reviews.jsonl.gz", gzip.compress((tmp_path / "sample" / REVIEWS).read_bytes()))
    store.put("in/products.jsonl", (tmp_path / "sample" / f"meta_{REVIEWS}").read_bytes())
    data = {"format": "amazon_reviews_2023", "reviews": "s3://reviews/in/reviews.jsonl.gz", "catalogue": "s3://reviews/in/products.jsonl"}
    config = write_config(tmp_path / "s3.yaml", settings | {"data": data})
    out = ("--out", "s3://reviews/runs/a")

    def machine(name):
        return keys_for(endpoint) | {"PENNAME_CACHE": str(tmp_path / name)}

    penname.succeed("ingest", config, *out, env=machine("one"))
    assert {"runs/a/run.json", "runs/a/0_ingest/counts.json"} <= set(store.names())
    done = penname.succeed("records", config, *out, env=machine("two"))
    assert "taking" in done.stderr
    names = store.names()
    assert "runs/a/1_records/train.jsonl" in names
    assert not [name for name in names if "/." in name or name.endswith((".part", ".key", ".tmp"))]
    # What is done needs the store of the data no more.
    again = penname.succeed("records", config, *out, env=machine("one"))
    assert again.stdout.startswith("Nothing to do")
