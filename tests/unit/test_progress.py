"""Progress: standard error alone, a line now and then where there is no terminal."""

import pytest

from penname import progress as module
from penname.progress import format_secs, say, show_progress


@pytest.mark.parametrize(
    ("secs", "words"), [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (3599.7, "1 h 00 min"), (7500, "2 h 05 min")]
)
def test_seconds_as_a_person_says_them(secs, words):
    assert format_secs(secs) == words


def test_no_terminal_gets_a_line_now_and_then(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    with show_progress("train", 10) as bar:
        for _ in range(10):
            clock[0] += 4.0
            bar.advance(1, "loss 2.000")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "train: 4 of 10 (40 %), about 24 s left  loss 2.000",
        "train: 8 of 10 (80 %), about 8 s left  loss 2.000",
    ]


def test_time_left_counts_from_where_this_process_began(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    with show_progress("train", 100, done=90) as bar:
        clock[0] = 20.0
        bar.advance(2)
    assert "92 of 100 (92 %), about 1 min 20 s left" in capsys.readouterr().err


def test_an_unknown_total_shows_what_is_done(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    with show_progress("read") as bar:
        clock[0] = 16.0
        bar.advance(1234)
    assert capsys.readouterr().err == "read: 1,234\n"


def test_a_terminal_gets_a_bar_that_is_closed_on_error(monkeypatch, capsys):
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: True, raising=False)
    bars = []

    def work():
        with show_progress("train", 3) as bar:
            bar.advance(1, "loss 1")
            bars.append(bar._bar)
            assert bars[0].live.is_started
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        work()
    assert not bars[0].live.is_started
    assert capsys.readouterr().out == ""


def test_say_is_one_line_on_standard_error(capsys):
    say("hello")
    assert capsys.readouterr() == ("", "hello\n")
