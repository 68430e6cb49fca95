"""One arm alone, and a table by mapping with the record as the unit: each from end to end."""

import csv
import json
import random

import pytest

from penname.privacy.ledger import Ledger
from penname.run_dir import read_rows
from tests.pipeline.conftest import snapshot, write_config

pytestmark = pytest.mark.slow

WORDS = [
    "charger",
    "hums",
    "case",
    "yellows",
    "after",
    "three",
    "weeks",
    "screen",
    "cracked",
    "fast",
    "cheap",
    "sturdy",
    "loose",
    "cable",
    "broke",
    "blue",
    "fits",
    "well",
]


def write_table(path, *, num_rows=160):
    generator = random.Random(3)
    with open(path, "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, delimiter=";")
        writer.writerow(["Stars", "Headline", "Body", "Kind"])
        for i in range(num_rows):
            text = " ".join(generator.choices(WORDS, k=generator.randint(4, 12)))
            writer.writerow([1 + i % 5, f"Note {i}", f"{text} no. {i}", ["Cases", "Chargers"][i % 2]])
    return path


def table_settings(settings, reviews):
    columns = {"rating": "Stars", "title": "Headline", "text": "Body", "category": "Kind"}
    return settings | {
        "data": {"format": "table", "reviews": str(reviews), "delimiter": ";", "columns": columns, "categories": ["Cases", "Chargers"]},
        "records": {"prompt_template": "{category} {rating}:", "completion_template": " {title}|{text}"},
        "train": {**settings["train"], "arms": ["with_dp"]},
    }


def test_a_table_by_mapping_with_the_private_arm_alone(penname, settings, tmp_path):
    reviews = write_table(tmp_path / "notes.csv")
    config, root = write_config(tmp_path / "table.yaml", table_settings(settings, reviews)), tmp_path / "run"
    penname.succeed("run", config, "--out", root)
    counts = json.loads((root / "1_records/counts.json").read_text())
    assert counts["privacy_unit"] == "record"
    assert counts["max_records_per_unit"] == 1
    assert Ledger.read(root / "ledger.jsonl").promise.privacy_unit == "record"
    rows = list(read_rows(root / "release/generated_sequences_with_dp.jsonl"))
    assert len(rows) == 10
    assert {row["product_title"] for row in rows} == {""}
    assert {row["category"] for row in rows} <= {"Cases", "Chargers"}
    assert not (root / "2_train/no_dp/adapter").exists()
    assert not (root / "3_generate/generated_sequences_no_dp.jsonl").exists()
    assert "one record" in penname.succeed("verify", root).stdout
    assert "single reviews" in (root / "5_report/report.html").read_text()

    # Touched, the table is read again and nothing else happens; changed, it is another run and nothing is spent or lost.
    before, ledger = snapshot(root), (root / "ledger.jsonl").read_bytes()
    reviews.write_bytes(reviews.read_bytes())
    penname.succeed("run", config, "--out", root)
    rewritten = {name for name, stat in snapshot(root).items() if before.get(name) != stat}
    assert {name.split("/")[0] for name in rewritten} <= {"0_ingest", "run.json"}
    write_table(reviews, num_rows=170)
    penname("run", config, "--out", root).fails(2, "holds another run", "the data that records reads has changed")
    assert (root / "ledger.jsonl").read_bytes() == ledger
    assert (root / "2_train/with_dp/adapter/adapter_model.safetensors").is_file()


def test_the_arm_without_dp_alone_promises_nothing(penname, settings, tmp_path):
    config = write_config(tmp_path / "no_dp.yaml", settings | {"train": {**settings["train"], "arms": ["no_dp"]}})
    root = tmp_path / "run"
    penname.succeed("run", config, "--out", root)
    assert not (root / "release").exists()
    assert not (root / "ledger.jsonl").exists()
    certificate = json.loads((root / "5_report/certificate.json").read_text())
    assert certificate["releasable"] is False
    assert certificate["not_releasable_because"] == ["no arm was trained with differential privacy"]
    assert certificate["epsilon_spent"] is None
    assert len(list(read_rows(root / "3_generate/generated_sequences_no_dp.jsonl"))) == 10
    assert not (root / "3_generate/generated_sequences_with_dp.jsonl").exists()
