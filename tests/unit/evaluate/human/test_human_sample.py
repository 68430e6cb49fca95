"""The sample: balanced, shuffled, the same for the same seed, and tied to the records it was drawn from."""

from collections import Counter
from dataclasses import asdict

import pytest

from penname.errors import RunDirError
from penname.evaluate.human.sample import draw_sample, open_sample, read_sample
from penname.run_dir import read_json, write_json, write_rows
from tests.unit.evaluate.human.conftest import make_rows


def test_as_many_of_every_arm_in_every_stretch(judged_run):
    sample = draw_sample(judged_run, num_per_arm=20, seed=3)
    assert [record.number for record in sample.records] == list(range(1, 61))
    assert Counter(record.arm for record in sample.records) == {"real": 20, "no_dp": 20, "with_dp": 20}
    for start in range(0, 60, 12):
        assert set(Counter(record.arm for record in sample.records[start : start + 12]).values()) == {4}
    orders = {tuple(record.arm for record in sample.records[start : start + 12]) for start in range(0, 60, 12)}
    assert len(orders) > 1
    assert len({(record.arm, record.record_id) for record in sample.records}) == 60


def test_the_seed_decides(judged_run):
    first, again, other = (draw_sample(judged_run, num_per_arm=20, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.sha256 == again.sha256
    assert first.sha256 != other.sha256


def test_a_small_set_makes_the_sample_small(judged_run):
    sample = draw_sample(judged_run)
    assert (sample.wanted_per_arm, sample.num_per_arm) == (500, 24)


def test_pairs_are_of_two_arms_and_one_rating_and_both_sides_occur(judged_run):
    sample = draw_sample(judged_run)
    assert sample.pairs
    combinations = Counter()
    for pair in sample.pairs:
        left, right = sample.records[pair.left - 1], sample.records[pair.right - 1]
        assert left.rating == right.rating
        combinations[left.arm, right.arm] += 1
    assert len(combinations) == 6
    for arms in {frozenset(names) for names in combinations}:
        sides = [number for pair in sample.pairs for number in (pair.left, pair.right) if {sample.records[n - 1].arm for n in (pair.left, pair.right)} == arms]
        assert len(sides) == len(set(sides))


def test_a_sample_is_kept_and_read_again(judged_run):
    sample = open_sample(judged_run, num_per_arm=5)
    assert open_sample(judged_run, num_per_arm=9) == sample == read_sample(judged_run)


def test_records_that_changed_since_are_noticed(judged_run):
    open_sample(judged_run, num_per_arm=5)
    write_rows(judged_run.path("synthetic_with_dp"), make_rows("with_dp", 23))
    with pytest.raises(RunDirError, match=r"with_dp.*has changed since people began to judge.*Move that folder away"):
        read_sample(judged_run)


@pytest.mark.parametrize("change", [{"schema_version": 9}, {"seed": None}, {"records": []}, {"pairs": [{"number": 1}]}])
def test_a_damaged_sample_is_one_line(judged_run, change):
    open_sample(judged_run, num_per_arm=5)
    path = judged_run.path("human_sample")
    write_json(path, read_json(path) | change)
    with pytest.raises(RunDirError, match="damaged, or of another version"):
        read_sample(judged_run)


def test_a_run_without_synthetic_records_has_nothing_to_judge(judged_run):
    for arm in ("no_dp", "with_dp"):
        judged_run.path(f"synthetic_{arm}").unlink()
    with pytest.raises(RunDirError, match="no synthetic records to judge yet"):
        draw_sample(judged_run)


def test_one_arm_is_enough(judged_run):
    judged_run.path("synthetic_no_dp").unlink()
    sample = draw_sample(judged_run)
    assert sample.arms == ["real", "with_dp"]
    assert asdict(sample.records[0]).keys() >= {"text", "arm", "rating"}


@pytest.mark.parametrize("row", [{"rating": 5}, make_rows("x", 1)[0] | {"rating": "five"}])
def test_a_row_without_its_parts_names_the_set(judged_run, row):
    write_rows(judged_run.path("synthetic_no_dp"), [row])
    with pytest.raises(RunDirError, match="synthetic_no_dp lacks rating"):
        draw_sample(judged_run)


def test_an_empty_set_is_named(judged_run):
    judged_run.path("synthetic_no_dp").write_text("")
    with pytest.raises(RunDirError, match=r"no_dp\.jsonl: has no records to judge"):
        draw_sample(judged_run)
