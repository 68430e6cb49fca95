"""The commands around ratings: out, in, summed up, and one line for what cannot be."""

import sqlite3

import pytest

from penname import cli
from penname.evaluate.human.questions import Judgement
from penname.evaluate.human.ratings import Ratings
from penname.evaluate.human.sample import open_sample
from penname.run_dir import ARTEFACTS, read_json
from tests.web_run import write_web_run


@pytest.fixture
def run(tmp_path):
    return write_web_run(tmp_path / "run", num=6)


def judge(run):
    sample = open_sample(run, num_per_arm=4)
    ratings = Ratings(run.path("human_ratings"), sample)
    ratings.begin()
    for name in ("Ann", "Bob"):
        for record in sample.records:
            ratings.store("single", record.number, ratings.join(name), Judgement(("good",), 1 + record.number % 5, "yes", "real"))


def call(monkeypatch, capsys, *words):
    """`penname` with these words: exit code, standard output, the line of an error."""
    monkeypatch.setattr(cli.sys, "argv", ["penname", *map(str, words)])
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    code = 0
    try:
        cli.main()
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err


def test_out_in_and_summed_up(monkeypatch, capsys, run, tmp_path):
    judge(run)
    for ending in ("csv", "jsonl"):
        code, out, _ = call(monkeypatch, capsys, "ratings", "export", run.root, "--out", tmp_path / f"a.{ending}")
        assert (code, out) == (0, f"PRIVATE     {tmp_path / f'a.{ending}'}  (24 answers)\n")
    for path in (run.root / "4_evaluate/human").glob("ratings.sqlite*"):
        path.unlink()
    assert call(monkeypatch, capsys, "ratings", "import", run.root, tmp_path / "a.csv")[1].startswith("24 answers added; 0 left alone")
    assert call(monkeypatch, capsys, "ratings", "import", run.root, tmp_path / "a.jsonl")[1].startswith("0 answers added; 24 left alone")
    code, out, _ = call(monkeypatch, capsys, "ratings", "summarise", run.root)
    assert code == 0
    assert "with_dp   4 records: 4 good, 0 non text" in out
    assert "human_krippendorff_alpha_naturalness: 1.000" in out
    assert {row["family"] for row in read_json(run.path("human_metrics"))} == {"human"}


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (("summarise", "{run}"), 1, "nobody has judged a record of this run yet; open its page with `penname serve`"),
        (("export", "{run}", "--out", "{tmp}/a.csv"), 1, "nobody has judged"),
        (("export", "{run}", "--out", "{tmp}/a.xls"), 2, "ends with neither .csv nor .jsonl"),
        (("import", "{run}", "{tmp}/none.csv"), 1, "none.csv: cannot be read"),
        (("summarise", "{tmp}"), 1, "holds no penname run"),
    ],
)
def test_one_line_for_what_cannot_be(monkeypatch, capsys, run, tmp_path, words, code, line):
    found, _, err = call(monkeypatch, capsys, "ratings", *(word.format(run=run.root, tmp=tmp_path) for word in words))
    assert found == code
    assert err.startswith("penname: ")
    assert err.count("\n") == 1
    assert line in err


def test_an_audit_has_no_ratings(monkeypatch, capsys, run):
    run.write_manifest(run.read_manifest() | {"kind": "audit"})
    code, _, err = call(monkeypatch, capsys, "ratings", "summarise", run.root)
    assert (code, err.count("\n")) == (2, 1)
    assert "is of an audit" in err


def test_a_damaged_file_is_kept_and_said(monkeypatch, capsys, run):
    judge(run)
    path = run.root / ARTEFACTS["human_ratings"].path
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    path.write_bytes(b"not a database " * 500)
    code, _, err = call(monkeypatch, capsys, "ratings", "summarise", run.root)
    assert code == 1
    assert "is damaged; keep a copy" in err
    assert path.read_bytes().startswith(b"not a database")


def test_serve_says_what_is_wrong_with_its_folder(monkeypatch, capsys, tmp_path):
    code, _, err = call(monkeypatch, capsys, "serve", tmp_path)
    assert (code, err.count("\n")) == (2, 1)
    assert "holds no penname run" in err
