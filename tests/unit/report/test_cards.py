import re

import pytest
import yaml

from penname.config import Config
from penname.privacy.certificate import NOT_COVERED
from penname.report.cards import make_dataset_card, make_model_card
from penname.schemas import SyntheticRecord

CERTIFICATE = {
    "promise": {"target_epsilon": 4.0, "delta": 1e-6},
    "unit_definition": "one value of the column a|b: every record that carries it",
    "neighboring_relation": "ADD_OR_REMOVE_ONE",
    "epsilon_spent": 3.98765,
    "events": [
        {"name": "count_units", "mechanism": {"type": "gaussian", "noise_multiplier": 20.0, "l2_sensitivity": 1.0}},
        {
            "name": "train/with_dp",
            "mechanism": {"type": "poisson_sampled_gaussian", "noise_multiplier": 0.75, "l2_sensitivity": 0.1, "sampling_prob": 0.0125, "num_steps": 40},
        },
    ],
    "data_set": None,
    "assumed_public": ["The layout of the data.", "The list of\ncategories."],
    "not_covered": list(NOT_COVERED),
}


def read_card(card):
    """Front matter and body."""
    _, front, body = card.split("---\n", 2)
    return yaml.safe_load(front), body


def dataset_card(**changes):
    return read_card(make_dataset_card(Config(), {**CERTIFICATE, **changes}, records="made.jsonl", num_records=1234))


def model_card(config=None):
    return read_card(make_model_card(config or Config(), CERTIFICATE, has_products=True))


def test_the_card_of_the_records_says_what_hubs_ask_for_and_what_was_promised():
    front, body = dataset_card()
    assert front["size_categories"] == ["1K<n<10K"]
    assert front["configs"] == [{"config_name": "default", "data_files": "made.jsonl"}]
    assert "differential-privacy" in front["tags"]
    assert "license" not in front
    for words in ("1,234 reviews", "4 promised, 3.988 spent", "| delta | 1e-06 |", "40 steps", "| noise multiplier | 0.75 |", "penname verify ."):
        assert words in body
    # Nothing can break out of its cell or its bullet.
    assert "one value of the column a/b" in body
    assert "- The list of categories." in body
    assert all(f"- {words}" in body for words in NOT_COVERED)


def test_every_field_of_a_row_is_explained():
    _, body = dataset_card()
    assert re.findall(r"^\| `(\w+)` \|", body, re.MULTILINE) == list(SyntheticRecord.__dataclass_fields__)


@pytest.mark.parametrize(("num_records", "size"), [(1, "n<1K"), (999_999, "100K<n<1M"), (10**7, "n>10M")])
def test_sizes(num_records, size):
    front, _ = read_card(make_dataset_card(Config(), CERTIFICATE, records="made.jsonl", num_records=num_records))
    assert front["size_categories"] == [size]


def test_a_shared_ledger_is_listed():
    assert "data_set_ledger.jsonl" not in dataset_card()[1]
    assert "data_set_ledger.jsonl" in dataset_card(data_set={"num_events": 6})[1]


def test_the_card_of_the_adapter_says_how_to_use_it():
    front, body = model_card()
    assert front["base_model"] == Config().model.name
    assert (front["library_name"], front["pipeline_tag"]) == ("peft", "text-generation")
    assert f"from_pretrained({Config().model.name!r})" in body
    assert "Product: {product_title}" in body
    assert Config().records.completion_template in body
    assert "rank 8" in body


def test_an_adapter_that_was_trained_on_four_bits_says_so_and_how_to_load_them():
    _, body = model_card(Config.model_validate({"model": {"quantization": "nf4"}}))
    assert "in four bits (NF4) while it trained" in body
    assert 'BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)' in body
    assert "quantization_config=nf4" in body
    assert "quantization" not in model_card()[1]


def test_a_folder_is_no_name_of_a_base_model_and_a_template_cannot_end_its_block(tmp_path):
    template = "Category: {category}\n```\n# not a heading\nRating: {rating}\nTitle:"
    config = Config.model_validate({"model": {"name": str(tmp_path)}, "records": {"prompt_template": template}})
    front, body = model_card(config)
    assert "base_model" not in front
    assert f"````\n{template}\n````" in body


def test_cards_hold_nothing_of_the_data():
    # They are functions of settings and certificate alone; the settings name files, and those are left out.
    columns = {"rating": "Stars", "text": "Body", "title": "Head", "category": "Kind"}
    config = Config.model_validate({"data": {"format": "table", "reviews": "/home/somebody/secret.csv", "columns": columns, "categories": ["Shoes"]}})
    for card in (make_dataset_card(config, CERTIFICATE, records="made.jsonl", num_records=3), make_model_card(config, CERTIFICATE, has_products=False)):
        assert "secret" not in card
        assert "Stars" not in card
