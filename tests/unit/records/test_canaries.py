"""Canaries: distinct secrets, fair coins, and planting that touches nothing else."""

import json
from collections import Counter
from dataclasses import replace

import pytest

from penname.config import RecordsConfig
from penname.errors import DataError, RunDirError
from penname.privacy.keystream import Keystream
from penname.records.canaries import (
    KINDS,
    ORIGINAL_STRING,
    count_canary_units,
    draw_canaries,
    draw_references,
    make_canary_records,
    make_original,
    plant_canaries,
    read_manifest,
    write_manifest,
)
from penname.schemas import Record
from penname.template import RecordTemplate

TEMPLATE = RecordTemplate.from_config(RecordsConfig(), has_products=True)
TEXTS = [f"This heldout review number {i} speaks of word{3 * i} and word{3 * i + 1} and then word{3 * i + 2} at length, to the end" for i in range(90)]


def draw(num=240, *, key=1, **kwargs):
    num_by_repetition = dict.fromkeys((1, 4, 16, 64), num // 4)
    return draw_canaries(**{"num_by_repetition": num_by_repetition, "texts": TEXTS, "seed": 5, "keystream": Keystream.from_seed(key), **kwargs})


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


def test_kinds_are_spread_evenly_and_repetitions_as_asked():
    asked = {64: 3, 1: 30, 4: 12}
    drawn = draw(num_by_repetition=asked)
    assert Counter((canary.kind, canary.num_repetitions) for canary in drawn[1:]) == {
        (kind, repetition): num // 3 for kind in KINDS for repetition, num in asked.items()
    }
    assert len({canary.canary_id for canary in drawn}) == 46
    assert replace(drawn[0], is_in=True) == make_original(64)
    for wrong in ({}, {0: 5}):
        with pytest.raises(ValueError, match="repetitions of 1 or more"):
            draw(num_by_repetition=wrong)


def test_references_are_canaries_of_the_same_kinds_that_say_other_things():
    drawn, references = draw(), draw_references(num_of_each=80, kinds=KINDS, texts=TEXTS, seed=5)
    assert Counter(canary.kind for canary in references) == dict.fromkeys(KINDS, 80)
    assert not any(canary.is_in for canary in references)
    secrets = [value for canary in (*drawn, *references) for part, value in canary.parts.items() if part in ("phone", "email", "order_id", "suffix")]
    assert len(set(secrets)) == len(secrets)
    assert references == draw_references(num_of_each=80, kinds=KINDS, texts=TEXTS, seed=5)


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
