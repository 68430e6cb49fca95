"""Canaries: distinct secrets, fair coins, and planting that touches nothing else."""

import json
from collections import Counter
from dataclasses import asdict, replace

import pytest

from penname.config import RecordsConfig
from penname.errors import DataError, RunDirError
from penname.privacy.keystream import Keystream
from penname.records.canaries import (
    ORIGINAL_SHARES,
    ORIGINAL_STRING,
    REPETITIONS,
    count_canary_units,
    draw_canaries,
    make_canary_records,
    plant_canaries,
    plant_original,
    read_manifest,
    write_manifest,
    write_original_experiment,
)
from penname.schemas import Record
from penname.template import RecordTemplate

TEMPLATE = RecordTemplate.from_config(RecordsConfig(), has_products=True)
TEXTS = [f"This heldout review number {i} speaks of word{3 * i} and word{3 * i + 1} and then word{3 * i + 2} at length, to the end" for i in range(90)]


def draw(num=240, *, key=1, **kwargs):
    return draw_canaries(**{"num_canaries": num, "texts": TEXTS, "seed": 5, "keystream": Keystream.from_seed(key), **kwargs})


def make_records(num=200):
    fields = {"prompt": "P", "rating": 4, "category": "Cases", "product_title": "Acme", "title": "T"}
    texts = [f"text of {i}" for i in range(num)]
    return [
        Record(record_id=f"r{i}", unit_id=f"u{i // 2}", completion=TEMPLATE.fill_completion(title="T", text=text), text=text, **fields)
        for i, text in enumerate(texts)
    ]


def plant(records, canaries, bound=4):
    return plant_canaries(records, canaries, template=TEMPLATE, max_records_per_unit=bound, seed=2)


def test_the_original_string_is_letter_for_letter_the_originals():
    assert ORIGINAL_STRING == "My name is Alex Johnson, I live in 4567 Maple Avenue, 555-234-5678."
    original = draw(0)[0]
    assert original.whole == ORIGINAL_STRING
    assert original.parts == {"name": "Alex Johnson", "street": "4567 Maple Avenue", "phone": "555-234-5678", "whole": ORIGINAL_STRING}
    assert original.prefix == "My name is Alex Johnson, I live in"


def test_kinds_and_repetitions_are_spread_evenly():
    drawn = draw()[1:]
    assert Counter((canary.kind, canary.num_repetitions) for canary in drawn) == {
        (kind, repetition): 20 for kind in ("persona", "high_perplexity", "random_letters") for repetition in REPETITIONS
    }
    assert len({canary.canary_id for canary in drawn}) == 240


def test_no_two_canaries_share_a_secret_and_each_holds_its_parts():
    drawn = draw(300)
    parts = [(part, value) for canary in drawn for part, value in canary.parts.items()]
    assert len(set(parts)) == len(parts)
    for canary in drawn:
        assert all(value in canary.whole for value in canary.parts.values())
        assert canary.whole.startswith(canary.prefix)
        assert canary.suffix
        assert not any(value in canary.prefix for part, value in canary.parts.items() if part not in ("name", "order_id", "whole"))
    carriers = {canary.whole.split()[0] for canary in drawn if canary.kind == "persona"}
    assert len(carriers) >= 5


def test_the_prefix_of_high_perplexity_is_real_and_its_suffix_is_not():
    drawn = [canary for canary in draw() if canary.kind == "high_perplexity"]
    assert all(any(text.startswith(canary.prefix) for text in TEXTS) for canary in drawn)
    assert not any(canary.suffix.rstrip(".") in text for canary in drawn for text in TEXTS)
    with pytest.raises(DataError, match="have 3 distinct words, high_perplexity needs 200"):
        draw(texts=["only three words"])


def test_coins_are_fair_come_from_the_key_and_from_nothing_else():
    first, again, other = draw(300), draw(300), draw(300, key=2)
    assert first == again
    assert [replace(canary, is_in=False) for canary in first] == [replace(canary, is_in=False) for canary in other]
    coins, others = ([canary.is_in for canary in drawn] for drawn in (first, other))
    assert 115 < sum(coins) < 185
    assert 115 < sum(a == b for a, b in zip(coins, others, strict=True)) < 185
    reseeded = draw(300, seed=6)
    assert [canary.is_in for canary in reseeded] == coins
    assert reseeded[1].whole != first[1].whole


def test_planting_adds_the_canaries_that_are_in_and_leaves_the_rest():
    records, canaries = make_records(), draw(60)
    planted = plant(records, canaries)
    assert planted[: len(records)] == records
    added = planted[len(records) :]
    assert Counter(record.text for record in added) == {canary.whole: canary.num_repetitions for canary in canaries if canary.is_in}
    assert len({record.record_id for record in planted}) == len(planted)
    assert all(record.text in record.completion for record in added)
    assert not {record.unit_id for record in added} & {record.unit_id for record in records}
    assert not any(record.title in {"T"} for record in added)


def test_turning_one_coin_adds_or_removes_its_records_and_changes_nothing_else():
    records, canaries = make_records(), draw(40)
    for place in (3, 17):
        turned = [replace(canary, is_in=canary.is_in ^ (i == place)) for i, canary in enumerate(canaries)]
        before, after = plant(records, canaries), plant(records, turned)
        canary = replace(canaries[place], is_in=True)
        own = make_canary_records(canary, records, template=TEMPLATE, max_records_per_unit=4, seed=2)
        larger, smaller = (before, after) if len(before) > len(after) else (after, before)
        assert [record for record in larger if record not in own] == smaller
        assert len(larger) - len(smaller) == canary.num_repetitions


@pytest.mark.parametrize(("repetitions", "bound", "units"), [(1, 1, 1), (64, 1, 64), (64, 10, 7), (4, 10, 1)])
def test_the_contribution_bound_holds_for_canaries_too(repetitions, bound, units):
    canary = replace(draw(0)[0], num_repetitions=repetitions)
    own = make_canary_records(canary, make_records(), template=TEMPLATE, max_records_per_unit=bound, seed=2)
    counts = Counter(record.unit_id for record in own)
    assert len(counts) == count_canary_units(canary, max_records_per_unit=bound) == units
    assert max(counts.values()) <= bound
    assert len(own) == repetitions


def test_planting_twice_or_in_nothing_is_refused():
    canaries = [replace(canary, is_in=True) for canary in draw(3)]
    with pytest.raises(DataError, match="hold canaries already"):
        plant(plant(make_records(), canaries), canaries)
    with pytest.raises(DataError, match="no training records"):
        plant([], canaries)


def test_the_manifest_comes_back_as_it_was(tmp_path):
    canaries, path = draw(30), tmp_path / "canaries.jsonl"
    write_manifest(path, canaries)
    assert read_manifest(path) == canaries
    row = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    for damaged in ({"canary_id": "x"}, {**row, "is_in": "yes"}, {**row, "more": 1}):
        path.write_text(json.dumps(damaged) + "\n", encoding="utf-8")
        with pytest.raises(RunDirError, match=r"canaries\.jsonl: is no manifest"):
            read_manifest(path)


def test_the_originals_experiment_puts_the_string_in_front_of_its_shares(tmp_path):
    records = make_records(200)
    assert write_original_experiment(tmp_path, records, template=TEMPLATE, seed=2) == dict(zip(ORIGINAL_SHARES, (2, 20, 200), strict=True))
    holders = []
    for name in ("amazon_train_canary_1.jsonl", "amazon_train_canary_10.jsonl", "amazon_train_canary_100.jsonl"):
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
