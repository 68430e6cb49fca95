"""The command line as a process: it answers at once, imports nothing heavy, and every error is one line."""

import errno
import subprocess
import sys

import pytest

from penname import __version__, cli
from penname.errors import DataError, ModelError, RunDirError, UsageError
from penname.privacy.errors import BudgetExceededError

COMMANDS = ("run", "plan", "ingest", "records", "train", "generate", "evaluate", "report", "audit", "verify", "serve", "ratings", "sample-data", "fetch")


def call(*arguments, code="from penname.cli import main; main()"):
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_version_and_help():
    assert call("--version").stdout == f"penname {__version__}\n"
    done = call("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    for command in COMMANDS:
        assert command in done.stdout


def test_help_imports_nothing_heavy():
    heavy = ("torch", "transformers", "peft", "sklearn", "scipy", "matplotlib", "pyarrow", "faker", "dp_accounting", "numpy")
    code = (
        "import sys\nfrom penname.cli import app\n"
        "try:\n    app(['run', '--help'], standalone_mode=False)\nfinally:\n"
        f"    print('HEAVY', [name for name in {heavy} if name in sys.modules])"
    )
    assert call(code=code).stdout.splitlines()[-1] == "HEAVY []"


def test_no_command_shows_the_commands_and_exits_2():
    done = call()
    assert done.returncode == 2
    assert "sample-data" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def run_main(monkeypatch, capsys, raised):
    """`main` around a program that ends in this way: exit code and standard error."""

    def app(standalone_mode):
        if isinstance(raised, BaseException):
            raise raised
        return raised

    monkeypatch.setattr(cli, "app", app)
    code = 0
    try:
        cli.main()
    except SystemExit as stop:
        code = stop.code
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (None, 0, None),
        (UsageError("bad\n  config"), 2, "penname: bad config"),
        (DataError("r.csv:3: is cut"), 1, "penname: r.csv:3: is cut"),
        (ModelError("no model"), 1, "penname: no model"),
        (RunDirError("is a file"), 1, "penname: is a file"),
        (BudgetExceededError("too much"), 1, "penname: too much"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), 1, "penname: /x/y: the disk is full"),
        (OSError(errno.EDQUOT, "Quota"), 1, "penname: the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 1, "penname: /x: Permission denied"),
        (KeyboardInterrupt(), 130, "penname: interrupted"),
        (130, 130, "penname: interrupted"),
        (MemoryError(), 1, "penname: out of memory; make generate.batch_size"),
        (ModuleNotFoundError("No module named 'wandb'"), 1, "penname: No module named 'wandb'; install it"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, None),
    ],
)
def test_every_ending_is_one_line_and_a_code(monkeypatch, capsys, raised, code, words):
    found, err = run_main(monkeypatch, capsys, raised)
    assert found == code
    if words is None:
        assert err == ""
    else:
        assert err.startswith(words)
        assert err.count("\n") == 1


def test_a_bug_of_ours_is_one_line_and_a_file_with_the_details(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(cli.tempfile, "tempdir", str(tmp_path))
    code, err = run_main(monkeypatch, capsys, ZeroDivisionError("division by zero"))
    assert code == 1
    assert err.count("\n") == 1
    assert "this is a bug" in err
    (log,) = tmp_path.iterdir()
    assert str(log) in err
    assert "Traceback" in log.read_text()
    assert "ZeroDivisionError" in log.read_text()


@pytest.mark.parametrize("words", [["a.yaml", "b.yaml"], ["privacy.delta=1e-6", "a.yaml"]])
def test_one_config_file_before_the_settings(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text("privacy: {delta: 1.0e-6}\n")
    with pytest.raises(UsageError, match="only one config file"):
        cli._load(words)


def test_a_misspelt_metric_is_found_before_anything_runs():
    with pytest.raises(UsageError, match="did you mean well_formed_frac"):
        cli._load(["evaluate.metrics=[well_formed_fracs]"])


def test_sample_data_prints_its_files(tmp_path):
    done = call("sample-data", str(tmp_path / "d"), "--reviews", "20", "--seed", "3")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == sorted(str(path) for path in (tmp_path / "d").iterdir())
    assert len(done.stdout.split()) == 3
