"""Answers on disk: who judges what next, that nothing is lost, and what is said when the file cannot be used."""

import multiprocessing
import os
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from penname.evaluate.human import ratings as module
from penname.evaluate.human.errors import AnswerError, RatingsError
from penname.evaluate.human.questions import Judgement, Preference, clean_name, parse_answer
from penname.evaluate.human.ratings import Ratings
from penname.evaluate.human.sample import draw_sample

GOOD = Judgement(("good",), 4, "yes", "real")
BAD = Judgement(("repetition", "gibberish"), 1, "no", "synthetic", "it loops")


@pytest.fixture
def sample(judged_run):
    return draw_sample(judged_run, num_per_arm=4)


@pytest.fixture
def ratings(judged_run, sample):
    store = Ratings(judged_run.path("human_ratings"), sample)
    store.begin()
    return store


def test_an_answer_is_there_for_whoever_opens_the_file_next(ratings, sample):
    ratings.store("single", 3, ratings.join("Ann"), BAD)
    again = Ratings(ratings.path, sample)
    again.begin()
    (answer,) = again.read_all("single")
    assert (answer.subject, answer.rater, answer.answer) == (3, "Ann", BAD)


def test_a_changed_answer_counts_and_the_old_one_is_kept(ratings):
    ann = ratings.join("Ann")
    ratings.store("single", 3, ann, BAD)
    ratings.store("single", 3, ann, GOOD)
    assert [answer.answer for answer in ratings.read_all("single")] == [GOOD]
    with sqlite3.connect(ratings.path) as connection:
        assert connection.execute("SELECT COUNT(*) FROM answers").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_a_second_rater_is_sent_to_what_the_first_has_judged(ratings):
    ann, bob, cleo = (ratings.join(name) for name in ("Ann", "Bob", "Cleo"))
    for _ in range(3):
        ratings.store("single", ratings.next_subject("single", ann), ann, GOOD)
    bobs = []
    for _ in range(4):
        bobs.append(ratings.next_subject("single", bob))
        ratings.store("single", bobs[-1], bob, BAD)
    assert bobs == [1, 2, 3, 4]
    # 4 has one answer, 1 to 3 have two.
    assert ratings.next_subject("single", cleo) == 4


def test_raters_who_begin_together_share_a_record_by_twos(ratings):
    names = [ratings.join(name) for name in ("a", "b", "c", "d")]
    assert [ratings.next_subject("single", name) for name in names] == [1, 1, 2, 2]


def test_the_record_on_the_screen_stays_there_until_it_is_judged(ratings):
    ann = ratings.join("Ann")
    assert [ratings.next_subject("single", ann) for _ in range(3)] == [1, 1, 1]


def test_skipped_records_come_last_and_then_it_ends(ratings, sample):
    ann = ratings.join("Ann")
    ratings.store("single", ratings.next_subject("single", ann), ann, None)
    for number in range(2, len(sample.records) + 1):
        assert ratings.next_subject("single", ann) == number
        ratings.store("single", number, ann, GOOD)
    assert ratings.next_subject("single", ann) == 1
    advance = ratings.measure("single", ann)
    assert (advance.num_answered, advance.num_skipped, advance.num_subjects, advance.num_covered) == (11, 1, 12, 0)
    ratings.store("single", 1, ann, BAD)
    assert ratings.next_subject("single", ann) is None


def test_going_back_step_by_step(ratings):
    ann = ratings.join("Ann")
    assert ratings.find_before("single", ann, None) is None
    for number in (5, 2, 9):
        ratings.store("single", number, ann, GOOD)
    ratings.store("single", 4, ratings.join("Bob"), BAD)
    assert ratings.find_before("single", ann, None).subject == 9
    assert ratings.find_before("single", ann, 9).subject == 2
    assert ratings.find_before("single", ann, 2).subject == 5
    assert ratings.find_before("single", ann, 5) is None
    assert ratings.find("single", 4, ann) is None


def test_one_person_under_one_name(ratings):
    assert ratings.join("  Ada   Lovelace ") == "Ada Lovelace"
    assert ratings.join("ADA LOVELACE") == "Ada Lovelace"
    assert ratings.has_joined("Ada Lovelace")
    assert not ratings.has_joined("Bob")


@pytest.mark.parametrize("name", ["", "   ", "x" * 61, "a\u202eb", "nul\x00"])
def test_names_that_cannot_be_kept(name):
    with pytest.raises(AnswerError, match=r"^name: "):
        clean_name(name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"naturalness": "6"}, "naturalness: '6' is outside the scale"),
        ({"naturalness": ""}, "naturalness: no answer yet"),
        ({"fits": "perhaps"}, "fits: 'perhaps' is outside"),
        ({"origin": None}, "origin: no answer yet"),
        ({"categories": []}, "categories: no answer yet"),
        ({"categories": ["nice"]}, "categories: 'nice' is outside"),
        ({"categories": ["good", "gibberish"]}, "good does not go with a fault"),
        ({"note": "x" * 2001}, "note: has 2,001 characters"),
    ],
)
def test_answers_outside_the_scale(change, words):
    values = {"categories": ["good"], "naturalness": "4", "fits": "yes", "origin": "real", "note": " fine "}
    assert parse_answer("single", values) == Judgement(("good",), 4, "yes", "real", "fine")
    with pytest.raises(AnswerError, match=words):
        parse_answer("single", values | change)


def test_preferences():
    assert parse_answer("pair", {"preferred": "tie"}) == Preference("tie")
    with pytest.raises(AnswerError, match="preferred: 'both' is outside"):
        parse_answer("pair", {"preferred": "both"})


def test_records_that_are_not_in_the_sample(ratings):
    for number in (0, 13):
        with pytest.raises(RatingsError, match=f"there is no record {number}"):
            ratings.store("single", number, "Ann", GOOD)
    assert ratings.read_all("single") == []


def test_twenty_raters_at_once_lose_nothing(ratings, sample):
    def judge(name: str) -> int:
        rater = ratings.join(name)
        for place in range(3):
            ratings.store("single", ratings.next_subject("single", rater), rater, GOOD if place % 2 else BAD)
        return 3

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(judge, [f"rater {num}" for num in range(20)])) == 60
    answers = ratings.read_all("single")
    assert len(answers) == len({(answer.subject, answer.rater) for answer in answers}) == 60


def _judge_for_ever(path, sample, said):
    store = Ratings(path, sample)
    rater = store.join("Ann")
    while True:
        for number in range(1, len(sample.records) + 1):
            store.store("single", number, rater, GOOD)
            said.value += 1


def test_a_killed_process_loses_no_answer_that_was_taken(ratings, sample):
    context = multiprocessing.get_context("fork")
    said = context.Value("i", 0)
    process = context.Process(target=_judge_for_ever, args=(ratings.path, sample, said))
    process.start()
    while said.value < 20:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    ratings.begin()
    with sqlite3.connect(ratings.path) as connection:
        assert connection.execute("SELECT COUNT(*) FROM answers").fetchone()[0] >= said.value
    connection.close()


def test_answers_to_another_sample_are_not_mixed_in(ratings, judged_run):
    other = Ratings(ratings.path, draw_sample(judged_run, num_per_arm=4, seed=2))
    with pytest.raises(RatingsError, match="holds answers to another sample"):
        other.begin()


def test_a_locked_file_is_one_line_and_keeps_what_it_has(ratings, monkeypatch):
    ratings.store("single", 1, ratings.join("Ann"), GOOD)
    monkeypatch.setattr(module, "LOCK_SECS", 0.05)
    other = sqlite3.connect(ratings.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(RatingsError, match="is locked by another program; nothing was stored, try again"):
        ratings.store("single", 2, "Ann", BAD)
    other.execute("ROLLBACK")
    other.close()
    assert len(ratings.read_all("single")) == 1


def test_writers_of_one_process_wait_for_their_turn_and_readers_do_not(ratings, sample, monkeypatch):
    monkeypatch.setattr(module, "LOCK_SECS", 0.1)
    # Another object for the same file, as every request opens one.
    with ratings._take_turn():
        other = Ratings(ratings.path, sample)
        with pytest.raises(RatingsError, match="is locked"):
            other.join("Ann")
        assert not other.has_joined("Ann")
    assert other.join("Ann") == "Ann"
    # What fails in its turn ends it.
    with pytest.raises(RatingsError, match="there is no record"):
        other.store("single", 999, "Ann", GOOD)
    other.store("single", 1, "Ann", GOOD)


@pytest.mark.parametrize("damage", [b"this is no database at all, it is a text that is long enough to be looked at" * 20, None])
def test_a_damaged_file_is_one_line(ratings, damage):
    for number in range(1, 13):
        ratings.store("single", number, "Ann", BAD)
    whole = ratings.path.read_bytes()
    for path in ratings.path.parent.glob("ratings.sqlite-*"):
        path.unlink()
    # Whole header, other pages overwritten: SQLite opens it and finds out later.
    ratings.path.write_bytes(damage or whole[:4096] + b"\xff" * (len(whole) - 4096))
    with pytest.raises(RatingsError, match=r"is damaged; keep a copy.*penname ratings import"):
        ratings.begin()


def test_a_folder_that_cannot_be_written(judged_run, sample, monkeypatch):
    # Root may write anywhere, so a file stands where the folder should be.
    blocked = judged_run.root / "file"
    blocked.write_text("")
    with pytest.raises(RatingsError, match="cannot be made"):
        Ratings(blocked / "ratings.sqlite", sample).begin()


def test_what_sqlite_says_becomes_what_to_do(tmp_path):
    path = tmp_path / "r.sqlite"
    for text, words in (("attempt to write a readonly database", "permissions"), ("database or disk is full", "the disk is full"), ("odd", r"\(odd\)")):
        with pytest.raises(RatingsError, match=words):
            raise RatingsError(module._explain(path, sqlite3.OperationalError(text)))
