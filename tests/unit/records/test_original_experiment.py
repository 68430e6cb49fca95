"""The original's experiment: its string in front of a share of the training reviews, and nothing else changed."""

import json
from dataclasses import asdict

import pytest

from penname.config import RecordsConfig
from penname.errors import DataError
from penname.records.canaries import ORIGINAL_STRING
from penname.records.original_experiment import plant_original, write_original_experiment
from penname.schemas import Record
from penname.template import RecordTemplate

TEMPLATE = RecordTemplate.from_config(RecordsConfig(), has_products=True)


def make_records(num=200):
    fields = {"prompt": "P", "rating": 4, "category": "Cases", "product_title": "Acme", "title": "T"}
    texts = [f"text of {i}" for i in range(num)]
    return [
        Record(record_id=f"r{i}", unit_id=f"u{i // 2}", completion=TEMPLATE.fill_completion(title="T", text=text), text=text, **fields)
        for i, text in enumerate(texts)
    ]


def test_the_originals_experiment_puts_the_string_in_front_of_its_shares(tmp_path):
    records = make_records(200)
    names = ("amazon_train_canary_1.jsonl", "amazon_train_canary_10.jsonl", "amazon_train_canary_100.jsonl")
    assert write_original_experiment(tmp_path, records, template=TEMPLATE, seed=2) == dict(zip(names, (2, 20, 200), strict=True))
    holders = []
    for name in names:
        rows = [json.loads(line) for line in (tmp_path / name).read_text(encoding="utf-8").splitlines()]
        for row, record in zip(rows, records, strict=True):
            if row["text"] == record.text:
                assert row == asdict(record)
            else:
                assert row["text"] == f"{ORIGINAL_STRING} {record.text}"
                assert row["text"] in row["completion"]
                assert {**row, "text": "", "completion": ""} == {**asdict(record), "text": "", "completion": ""}
        holders.append({row["record_id"] for row in rows if row["text"].startswith(ORIGINAL_STRING)})
    assert holders[0] < holders[1] < holders[2]
    assert sum(record.text.startswith(ORIGINAL_STRING) for record in plant_original(records[:3], share=0.01, template=TEMPLATE, seed=2)) == 1
    with pytest.raises(DataError, match="no training records"):
        write_original_experiment(tmp_path, [], template=TEMPLATE, seed=2)
