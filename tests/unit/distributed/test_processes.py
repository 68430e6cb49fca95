"""Processes: results in order, errors as they are, and none left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from penname.distributed import processes
from penname.distributed.errors import EngineError
from penname.distributed.processes import Processes, count_processes
from penname.errors import DataError
from tests.unit.distributed.process_work import Counting, fail, sleep


def is_running(pid):
    try:
        # A process that has ended and was not waited for yet is still listed.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_results_come_in_the_order_of_the_items_and_each_process_has_its_state(number):
    with Processes(number) as workers:
        workers.prepare(Counting, 7)
        assert list(workers.map(Counting.multiply, range(20))) == [7 * item for item in range(20)]
        reports = workers.ask_each(Counting.report)
    assert [report[0] for report in reports] == list(range(number))
    assert sorted(item for report in reports for item in report[2]) == list(range(20))
    assert len({os.getpid(), *(report[1] for report in reports)}) == number + 1
    assert not any(is_running(report[1]) for report in reports)


def test_items_are_read_only_as_far_as_processes_are_free():
    read = []

    def items():
        for item in range(100):
            read.append(item)
            yield item

    with Processes(2) as workers:
        workers.prepare(Counting, 1)
        for place, _ in enumerate(workers.map(Counting.multiply, items())):
            assert len(read) <= place + 4


@pytest.mark.parametrize(
    ("what", "kind", "message"),
    [
        ("clearly", DataError, "row 7: is not wanted; take it out"),
        ("by number", OSError, "[Errno 28] No space left on device"),
        ("oddly", EngineError, "part of the work failed: OddError: 1 and 2"),
        ("by exit", EngineError, "a process that did part of the work ended with 3; is there memory for 2 of them?"),
        ("by a kill", EngineError, "a process that did part of the work was killed by signal 9; is there memory for 2 of them?"),
    ],
)
def test_what_goes_wrong_in_a_process_is_told_in_one_line(what, kind, message):
    with Processes(2) as workers:
        workers.prepare(Counting, 7)
        pids = [report[1] for report in workers.ask_each(Counting.report)]
        with pytest.raises(kind) as caught:
            list(workers.map(fail, [what]))
    assert type(caught.value) is kind
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert not any(map(is_running, pids))


def test_what_cannot_be_sent_back_is_an_error():
    with Processes(1) as workers:
        workers.prepare(Counting, 7)
        with pytest.raises(Exception, match="lambda"):
            list(workers.map(fail, ["at sending"]))


def test_an_error_ends_processes_that_are_at_work(tmp_path):
    with pytest.raises(DataError, match="enough"), Processes(2) as workers:
        workers.prepare(Counting, 7)
        results = workers.map(sleep, [tmp_path / "at"] * 2)
        pids = [report[1] for report in workers.ask_each(Counting.report)]
        # What is raised while the consumer waits for nothing.
        raise DataError("enough")
    del results
    assert not any(map(is_running, pids))


PARENT = """
import sys
from pathlib import Path
from penname.distributed.processes import Processes
from tests.unit.distributed.process_work import Counting, sleep
with Processes(2) as workers:
    workers.prepare(Counting, 1)
    list(workers.map(sleep, [Path(sys.argv[1])] * 2))
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_one_that_started_it(tmp_path, signum):
    root = Path(__file__).parents[3]
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path / "at")], cwd=root, stderr=subprocess.DEVNULL)
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    pids = [int(path.suffix[1:]) for path in tmp_path.iterdir()]
    parent.send_signal(signum)
    assert parent.wait(30) != 0
    wait_until(lambda: not any(map(is_running, pids)))


@pytest.mark.parametrize(("usable", "items", "number"), [(1, 9, 1), (2, 9, 2), (2, 1, 1), (64, 99, processes.MAX_PROCESSES), (2, 0, 1)])
def test_there_are_no_more_processes_than_processors_or_items(monkeypatch, usable, items, number):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(usable)))
    assert count_processes(items) == number
