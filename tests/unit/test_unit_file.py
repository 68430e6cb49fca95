"""Records found by their unit, wherever they stand in the file."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penname.errors import RunDirError
from penname.privacy.unit import group_by_unit
from penname.unit_file import UnitFile, group_equal


def write_rows(path, unit_ids):
    rows = [{"unit_id": unit_id, "prompt": f"é{i}", "completion": " b"} for i, unit_id in enumerate(unit_ids)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_records_of_a_unit_are_read_in_the_order_of_the_file(tmp_path):
    file = UnitFile(write_rows(tmp_path / "train.jsonl", "abacb"))
    assert len(file) == 3
    assert file.num_records == 5
    assert [file.find_places(i) for i in range(3)] == [[0, 2], [1, 4], [3]]
    assert [file.read_record(place)["prompt"] for place in file.find_places(1)] == ["é1", "é4"]
    with pytest.raises(IndexError):
        file.find_places(3)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(RunDirError, match="is missing"):
        UnitFile(tmp_path / "train.jsonl")


@given(st.lists(st.integers(0, 6)))
def test_groups_are_those_of_the_privacy_unit(names):
    order, starts = group_equal(np.array([[name % 2, name] for name in names], dtype=np.uint64).reshape(-1, 2))
    assert [order[a:b].tolist() for a, b in pairwise(starts)] == group_by_unit(map(str, names))
