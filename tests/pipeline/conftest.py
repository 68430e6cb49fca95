"""The real program on a tiny model. A server that has the heavy libraries loaded forks one process a command, so that a command takes no
ten seconds of imports; what runs in the fork is `penname.cli.main`, with its own argv, exit code, standard error and signals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

TARGET_EPSILON = 0.1
# A command takes seconds. One that hangs is given up on, one that is slow on a busy machine is not.
PATIENCE_SECS = 600.0

_SERVER = r"""
import importlib, json, os, sys, time, traceback
for name in sys.argv[1:]:
    importlib.import_module(name)

def work(request):
    for number, key in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(request[key], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = ["penname", *request["argv"]]
    from penname.cli import main
    try:
        main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            pass
    os._exit(code)

def answer(value):
    print(json.dumps(value), flush=True)

answer("ready")
for line in sys.stdin:
    request = json.loads(line)
    if "wait" in request:
        deadline = time.monotonic() + request["secs"]
        while True:
            pid, status = os.waitpid(request["wait"], os.WNOHANG)
            if pid or time.monotonic() > deadline:
                break
            time.sleep(0.005)
        answer(os.waitstatus_to_exitcode(status) if pid else None)
        continue
    pid = os.fork()
    if pid == 0:
        work(request)
    answer(pid)
"""

_PRELOADED = (
    "torch", "transformers.models.llama.modeling_llama", "transformers.models.auto.modeling_auto", "peft", "dp_accounting.pld.pld_privacy_accountant",
    "sklearn.linear_model", "sklearn.feature_extraction.text", "scipy.stats", "matplotlib.pyplot", "pyarrow.parquet", "faker", "jinja2", "orjson",
    "penname.cli", "penname.pipeline", "penname.ingest.ingest", "penname.ingest.sample_data", "penname.records.records", "penname.train.train",
    "penname.generate.synthesize", "penname.evaluate.evaluate", "penname.report.report", "penname.privacy.certificate",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str

    @property
    def last_line(self) -> str:
        return self.stderr.splitlines()[-1] if self.stderr else ""

    def fails(self, code: int, *words: str) -> str:
        """Asserts the contract of an error: its exit code, one line at the end, no traceback. Returns that line."""
        assert self.code == code, self
        assert "Traceback" not in self.stderr
        assert self.last_line.startswith("penname: "), self.stderr
        assert [line for line in self.stderr.splitlines() if line.startswith("penname: ")] == [self.last_line]
        assert "unexpected error" not in self.last_line
        for word in words:
            assert word in self.last_line
        return self.last_line


class Started:
    """A command that is running."""

    def __init__(self, program: Program, pid: int, number: int) -> None:
        self.program, self.pid, self.number = program, pid, number

    def send(self, signum: int) -> None:
        os.kill(self.pid, signum)

    def stderr(self) -> str:
        path = self.program.folder / f"{self.number}.err"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def wait(self, secs: float = PATIENCE_SECS) -> Outcome:
        code = self.program.ask({"wait": self.pid, "secs": secs})
        if code is None:
            os.kill(self.pid, signal.SIGKILL)
            self.program.ask({"wait": self.pid, "secs": 10})
            raise AssertionError(f"still running after {secs} s:\n{self.stderr()}")
        stdout = (self.program.folder / f"{self.number}.out").read_text(encoding="utf-8", errors="replace")
        return Outcome(code, stdout, self.stderr())


class Program:
    """Starts commands."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._count = folder, 0
        # One thread, as tests/conftest.py has it: a process with several cannot be forked safely.
        env = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        arguments = [sys.executable, "-c", _SERVER, *_PRELOADED]
        self._server = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        assert self._server.stdout
        assert json.loads(self._server.stdout.readline()) == "ready"

    def ask(self, request: dict[str, Any]) -> Any:
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def start(self, *argv: object, env: dict[str, str] | None = None, cwd: Path | None = None) -> Started:
        self._count += 1
        files = {"stdout": str(self.folder / f"{self._count}.out"), "stderr": str(self.folder / f"{self._count}.err")}
        request = {"argv": [str(word) for word in argv], "env": env or {}, "cwd": str(cwd or self.folder), **files}
        return Started(self, self.ask(request), self._count)

    def __call__(self, *argv: object, env: dict[str, str] | None = None, cwd: Path | None = None, secs: float = PATIENCE_SECS) -> Outcome:
        return self.start(*argv, env=env, cwd=cwd).wait(secs)

    def succeed(self, *argv: object, **options: Any) -> Outcome:
        outcome = self(*argv, **options)
        assert outcome.code == 0, outcome.stderr
        return outcome

    def close(self) -> None:
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.close()
        self._server.wait(60)
        self._server.stdout.close()


@pytest.fixture(scope="session")
def penname(tmp_path_factory: pytest.TempPathFactory):
    program = Program(tmp_path_factory.mktemp("program"))
    yield program
    program.close()


@pytest.fixture(scope="session")
def settings(letter_model_dir: Path) -> dict[str, Any]:
    """A whole run in a few seconds: a small promise, so much noise, for which the accountant's grid is small."""
    return {
        "data": {"format": "sample", "sample_num_reviews": 300},
        "records": {"prompt_template": "{product_title}\n{category} {rating}:", "completion_template": " {title}|{text}"},
        "model": {"name": str(letter_model_dir), "dtype": "float32", "lora_rank": 2},
        "privacy": {"target_epsilon": TARGET_EPSILON, "marginals_frac": 0.5},
        "train": {"expected_batch_size": 8, "num_steps": 6, "max_record_tokens": 160, "physical_batch_tokens": 1024, "learning_rate": 1e-3},
        "generate": {"num_records": 10, "max_new_tokens": 48, "max_draws_per_record": 40, "batch_size": 64, "redraw_faults": []},
        "evaluate": {"num_bootstrap": 20, "max_records": 40, "metrics": ["well_formed_frac", "jensen_shannon_divergence", "tstr_accuracy_score"]},
    }


def write_config(path: Path, settings: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def config_file(settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_config(tmp_path_factory.mktemp("config") / "tiny.yaml", settings)


@pytest.fixture(scope="session")
def _first_run(penname, config_file, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    root = tmp_path_factory.mktemp("first") / "run"
    return root, penname.succeed("run", config_file, "--out", root)


@pytest.fixture(scope="session")
def first_outcome(_first_run) -> Outcome:
    return _first_run[1]


@pytest.fixture
def finished_run(_first_run, tmp_path) -> Path:
    """A copy of a finished run, times of change included."""
    return Path(shutil.copytree(_first_run[0], tmp_path / "run"))


def snapshot(root: Path) -> dict[str, tuple[int, int, int]]:
    """Inode, time of change and size of every file: what differs was written."""
    stats = {path.relative_to(root).as_posix(): path.stat() for path in root.rglob("*") if path.is_file() and path.name != ".lock"}
    return {name: (stat.st_ino, stat.st_mtime_ns, stat.st_size) for name, stat in stats.items()}


def wait_until(condition, *, secs: float = 30.0) -> None:
    deadline = time.monotonic() + secs
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)
