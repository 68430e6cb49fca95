"""Units read from the file of records when they are drawn."""

import json

import pytest

from penname.errors import DataError, RunDirError
from penname.train.training_units import TrainingUnits


def make_row(number, unit_id, *, prompt="p:", completion=" words"):
    return {"record_id": f"r{number}", "unit_id": unit_id, "prompt": prompt, "completion": completion}


def open_units(folder, tokenizer, rows, *, max_tokens=20):
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return TrainingUnits(path, tokenizer, max_tokens=max_tokens)


def test_units_keep_their_place_and_records_that_do_not_fit_are_left_out(tmp_path, byte_tokenizer):
    rows = [make_row(0, "a"), make_row(1, "a", prompt="p" * 50), make_row(2, "b", prompt="q" * 50), make_row(3, "c", completion=" other")]
    units = open_units(tmp_path, byte_tokenizer, rows)
    assert [len(units[i]) for i in range(len(units))] == [1, 0, 1]
    assert units[0][0].num_prompt_tokens == 2
    assert byte_tokenizer.decode(units[2][0].token_ids, skip_special_tokens=True) == "p: other"


def test_a_units_records_are_found_wherever_they_stand(tmp_path, byte_tokenizer):
    rows = [make_row(i, "ab"[i % 2], completion=f" {'é' * i} {i}") for i in range(5)]
    units = open_units(tmp_path, byte_tokenizer, rows, max_tokens=40)
    texts = [[byte_tokenizer.decode(record.token_ids, skip_special_tokens=True) for record in units[i]] for i in range(2)]
    assert texts == [[row["prompt"] + row["completion"] for row in rows[start::2]] for start in (0, 1)]
    with pytest.raises(IndexError):
        units[2]


def test_no_record_that_fits_is_one_line(tmp_path, byte_tokenizer):
    with pytest.raises(DataError, match=r"raise train\.max_record_tokens"):
        open_units(tmp_path, byte_tokenizer, [make_row(0, "a", prompt="p" * 50)])


@pytest.mark.parametrize("line", ["{", "[]", '{"unit_id": 3, "prompt": "", "completion": ""}'])
def test_a_damaged_line_is_named(tmp_path, byte_tokenizer, line):
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(make_row(0, "a")) + "\n" + line + "\n")
    with pytest.raises(RunDirError, match=r"train\.jsonl:2: is damaged"):
        TrainingUnits(path, byte_tokenizer, max_tokens=20)


def test_a_missing_file_is_one_line(tmp_path, byte_tokenizer):
    with pytest.raises(RunDirError, match="is missing"):
        TrainingUnits(tmp_path / "train.jsonl", byte_tokenizer, max_tokens=20)


def test_a_spread_has_a_unit_of_several_records(tmp_path, byte_tokenizer):
    rows = [make_row(i, "twice" if i in (5, 6) else f"u{i}") for i in range(40)]
    units = open_units(tmp_path, byte_tokenizer, rows)
    few = units.spread(4)
    assert len(few) <= 5
    assert sorted(map(len, few))[-1] == 2
    assert len(units.spread(100)) == len(units)
