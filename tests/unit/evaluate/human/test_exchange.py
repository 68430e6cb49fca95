"""Export and import: round trips, formulas, another sample, and rows outside the scale."""

import csv
import io
import json

import pytest

from penname.errors import DataError
from penname.evaluate.human.exchange import export_ratings, import_ratings
from penname.evaluate.human.questions import Judgement, Preference
from penname.evaluate.human.ratings import Ratings
from penname.evaluate.human.sample import draw_sample

HOSTILE = "=HYPERLINK(\"x\")\n'quoted', with, commas; <b>\u202e"
GOOD = Judgement(("good",), 5, "unsure", "real", HOSTILE)
BAD = Judgement(("repetition", "gibberish"), 1, "no", "synthetic")


@pytest.fixture
def sample(judged_run):
    return draw_sample(judged_run, num_per_arm=4)


def open_ratings(folder, sample):
    store = Ratings(folder / "ratings.sqlite", sample)
    store.begin()
    return store


@pytest.fixture
def ratings(tmp_path, sample):
    store = open_ratings(tmp_path / "own", sample)
    store.store("single", 1, store.join("Ann"), GOOD)
    store.store("single", 1, store.join("-Bob"), BAD)
    store.store("single", 2, "Ann", None)
    store.store("pair", 1, "Ann", Preference("tie", "'same"))
    return store


def contents(store):
    return [(a.kind, a.subject, a.rater, a.answer, a.answered_at) for kind in ("single", "pair") for a in store.read_all(kind)]


@pytest.mark.parametrize("file_format", ["csv", "jsonl"])
def test_what_goes_out_comes_in_again(tmp_path, ratings, sample, file_format):
    path = tmp_path / f"answers.{file_format}"
    path.write_text(export_ratings(ratings, sample, file_format), encoding="utf-8", newline="")
    other = open_ratings(tmp_path / "other", sample)
    assert import_ratings(other, sample, path) == (3, 0)
    assert contents(other) == contents(ratings)
    assert import_ratings(other, sample, path) == (0, 3)


def test_a_spreadsheet_finds_no_formula(ratings, sample):
    for row in csv.reader(io.StringIO(export_ratings(ratings, sample, "csv"))):
        assert not [cell for cell in row if cell.startswith(("=", "+", "-", "@"))]


def test_the_export_says_what_was_judged(ratings, sample):
    rows = [json.loads(line) for line in export_ratings(ratings, sample, "jsonl").splitlines()]
    record = sample.records[0]
    assert {(row["arm"], row["record_id"]) for row in rows[:2]} == {(record.arm, record.record_id)}
    assert rows[2]["right_arm"] == sample.records[sample.pairs[0].right - 1].arm


def write_rows_out(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sample_sha256": "0" * 64}, "answers another sample"),
        ({"naturalness": 7}, "naturalness: '7' is outside the scale"),
        ({"number": 99}, "number: '99' is not in this sample"),
        ({"number": "²"}, "is not in this sample"),
        ({"kind": "triple"}, "kind: 'triple' is unknown"),
        ({"rater": " "}, "name: is empty"),
        ({"answered_at": "yesterday"}, "answered_at: is no time"),
        ({"categories": "good"}, "is no answer"),
    ],
)
def test_one_bad_row_and_nothing_is_added(tmp_path, ratings, sample, change, words):
    rows = [json.loads(line) for line in export_ratings(ratings, sample, "jsonl").splitlines()]
    rows[1] |= change
    other = open_ratings(tmp_path / "other", sample)
    with pytest.raises(DataError, match=f"answers.jsonl:2: .*{words}"):
        import_ratings(other, sample, write_rows_out(tmp_path / "answers.jsonl", rows))
    assert contents(other) == []


def test_answers_to_another_sample_are_refused(tmp_path, judged_run, ratings, sample):
    elsewhere = draw_sample(judged_run, num_per_arm=4, seed=2)
    other = open_ratings(tmp_path / "other", elsewhere)
    path = tmp_path / "answers.csv"
    path.write_text(export_ratings(ratings, sample, "csv"), encoding="utf-8", newline="")
    with pytest.raises(DataError, match=r"answers\.csv:2: answers another sample .*nothing was added"):
        import_ratings(other, elsewhere, path)


def test_a_later_answer_is_not_overwritten_by_an_older_one(tmp_path, ratings, sample):
    path = write_rows_out(tmp_path / "old.jsonl", [json.loads(line) for line in export_ratings(ratings, sample, "jsonl").splitlines()[:1]])
    ratings.store("single", 1, "Ann", BAD)
    assert import_ratings(ratings, sample, path) == (0, 1)
    assert ratings.find("single", 1, "Ann").answer == BAD


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"", r"is neither \.csv nor \.jsonl"),
        ("a.csv", b"rater,kind\n", "lacks the columns sample_sha256"),
        ("a.csv", b"\xff\xfe", "is not UTF-8"),
        ("a.jsonl", b"{", "a.jsonl:1: is no JSON"),
        ("a.jsonl", b"[1]", "a.jsonl:1: is no answer"),
    ],
)
def test_files_that_are_no_export(tmp_path, ratings, sample, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        import_ratings(ratings, sample, tmp_path / name)


def test_a_csv_with_a_short_row(tmp_path, ratings, sample):
    path = tmp_path / "a.csv"
    path.write_text(export_ratings(ratings, sample, "csv") + "x,y\r\n", encoding="utf-8", newline="")
    with pytest.raises(DataError, match="more or fewer cells"):
        import_ratings(ratings, sample, path)


def test_a_file_that_is_not_there(tmp_path, ratings, sample):
    with pytest.raises(DataError, match=r"none\.csv: cannot be read"):
        import_ratings(ratings, sample, tmp_path / "none.csv")
