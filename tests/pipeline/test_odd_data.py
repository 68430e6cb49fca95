"""Data that is not wrong, and not what the defaults were made for: another language, a category of three rows, texts of two thousand words."""

import csv
import json

import pytest

from penname.schemas import RATINGS
from tests.pipeline.conftest import write_config

CATEGORIES = ["Βιβλία", "家電", "Σπάνια"]
RARE = CATEGORIES[2]
NUM_ROWS, NUM_RARE, EVERY_LONG = 240, 3, 12
WORDS = {"Βιβλία": "καλό βιβλίο διαβάζεται εύκολα αλλά ακριβό", "家電": "静か です とても 便利 です", RARE: "ένα σπάνιο πράγμα"}


def make_text(row, category):
    words = WORDS[category].split()
    number = 2000 if row % EVERY_LONG == 0 else 4 + row % 9
    return " ".join(words[(row + i) % len(words)] for i in range(number)) + f" {row}."


@pytest.fixture
def odd_config(tmp_path, settings):
    path = tmp_path / "odd.csv"
    with open(path, "w", encoding="utf-8", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(["rating", "text", "title", "category"])
        for row in range(NUM_ROWS):
            category = RARE if row < NUM_RARE else CATEGORIES[row % 2]
            rows.writerow([1 + row % 5, make_text(row, category), f"Τίτλος {row}", category])
    columns = {name: name for name in ("rating", "text", "title", "category")}
    data = {"format": "table", "reviews": str(path), "columns": columns, "categories": CATEGORIES}
    records = {"prompt_template": "{category} {rating}:", "completion_template": " {title}|{text}"}
    metrics = ["well_formed_frac", "jensen_shannon_divergence", "language_total_variation_distance", "rating_category_total_variation_distance"]
    return write_config(tmp_path / "odd.yaml", settings | {"data": data, "records": records, "evaluate": settings["evaluate"] | {"metrics": metrics}})


def test_another_language_a_rare_category_and_long_texts_go_through(penname, odd_config, tmp_path):
    root = tmp_path / "run"
    outcome = penname.succeed("run", odd_config, "--out", root)
    assert "Traceback" not in outcome.stderr
    counts = json.loads((root / "0_ingest/counts.json").read_text(encoding="utf-8"))
    assert (counts["kept"], counts["categories"]) == (NUM_ROWS, CATEGORIES)
    # The cells are the config's whole domain: how many rows a category has decides its noisy share, and not whether it is there.
    cells = json.loads((root / "3_generate/conditioning.json").read_text(encoding="utf-8"))["cells"]
    assert {(cell["rating"], cell["category"]) for cell in cells} == {(rating, category) for rating in RATINGS for category in CATEGORIES}
    # A long text is cut where the config says, and trains.
    lengths = [len(json.loads(line)["text"].split()) for line in (root / "1_records/train.jsonl").read_text(encoding="utf-8").splitlines()]
    assert max(lengths) > 2000
    steps = [json.loads(line) for line in (root / "2_train/with_dp/metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert all(step["tokens"] <= step["num_records"] * 160 for step in steps)
    assert "VERIFIED" in penname.succeed("verify", root).stdout
