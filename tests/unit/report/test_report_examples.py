"""Records side by side: even distances, same rating, no record twice."""

from __future__ import annotations

import pytest

from penname.report.examples import pair_examples
from penname.report.inputs import _read_review_set
from penname.run_dir import write_rows


def row(num: int, rating: int, category: str, label: str) -> dict[str, object]:
    return {"rating": rating, "category": category, "product_title": "p", "title": "t", "text": f"{label} {num}"}


@pytest.fixture
def pair(tmp_path):
    def pair_rows(num_examples, **rows):
        paths = {arm: tmp_path / f"{arm}.jsonl" for arm in rows}
        for arm, own in rows.items():
            write_rows(paths[arm], own)
        sets = {arm: _read_review_set(path, num_examples) for arm, path in paths.items()}
        return pair_examples(sets, paths, num_examples=num_examples)

    return pair_rows


def test_partners_share_rating_and_category_and_none_is_shown_twice(pair):
    rows = {arm: [row(num, num % 5 + 1, "ab"[num % 2], arm) for num in range(40)] for arm in ("real", "no_dp", "with_dp")}
    examples = pair(20, **rows)
    assert len(examples) == 20
    for example in examples:
        for record in example.records.values():
            assert (record["rating"], record["category"]) == (example.rating, example.category)
    for arm in rows:
        texts = [example.records[arm]["text"] for example in examples]
        assert len(set(texts)) == 20
    assert [int(example.records["with_dp"]["text"].split()[1]) for example in examples] == list(range(1, 40, 2))


def test_a_partner_of_the_same_rating_stands_in_for_a_missing_category(pair):
    examples = pair(2, with_dp=[row(0, 5, "a", "with_dp"), row(1, 4, "a", "with_dp")], real=[row(0, 5, "b", "real")])
    assert examples[0].records["real"]["category"] == "b"
    assert examples[1].records["real"] is None


def test_without_synthetic_records_the_real_ones_lead(pair):
    examples = pair(3, real=[row(num, 3, "a", "real") for num in range(2)])
    assert [example.records["real"]["text"] for example in examples] == ["real 0", "real 1"]


def test_no_examples_when_none_are_asked_for(pair):
    assert pair(0, real=[row(0, 3, "a", "real")]) == []
