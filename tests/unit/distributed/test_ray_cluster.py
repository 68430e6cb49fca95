"""A cluster that does not answer, or has other versions, is told in a line and in time. Ray itself is not started here."""

import socket
import sys
import time

import pytest

from penname.distributed.errors import EngineError
from penname.distributed.ray_cluster import Versions, check_versions, open_cluster

OURS = Versions("0.1.0", "3.11.7", "2.13.0")


def connect(address):
    with open_cluster(address=address, num_workers=1, threads_per_worker=1):
        raise AssertionError("connected to nothing")


def test_a_missing_ray_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match=r"engine\.kind: ray is not installed; install penname\[ray\]"):
        connect(None)


def test_a_port_where_nobody_listens_is_told_within_20_seconds(monkeypatch):
    monkeypatch.setattr("penname.distributed.ray_cluster._KNOCK_SECS", 0.6)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    began = time.monotonic()
    with pytest.raises(EngineError, match=rf"engine\.address: no Ray cluster answers at {address} \(Connection refused\)"):
        connect(address)
    assert time.monotonic() - began < 20


def test_a_host_that_has_no_address_is_told(monkeypatch):
    def resolve(*args, **more):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", resolve)
    with pytest.raises(EngineError, match=r"no Ray cluster answers at nowhere:6379 \(Name or service not known\)"):
        connect("nowhere:6379")


def test_a_port_that_takes_the_call_and_says_nothing_is_told_within_20_seconds(monkeypatch):
    monkeypatch.setattr("penname.distributed.ray_cluster.ANSWER_SECS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(EngineError, match=rf"no Ray cluster answers at {address} \(nothing came within 1 s\)"):
            connect(address)


def test_the_time_to_answer_is_within_20_seconds():
    from penname.distributed import ray_cluster

    assert ray_cluster._KNOCK_SECS + ray_cluster.ANSWER_SECS < 20


@pytest.mark.parametrize("name", ["penname", "python", "torch"])
def test_another_version_is_named_with_its_machine(name):
    found = {"10.0.0.1": vars(OURS), "10.0.0.2": {**vars(OURS), name: "7"}}
    with pytest.raises(EngineError, match=rf"the machine 10\.0\.0\.2 of the cluster has {name} 7, this one has {vars(OURS)[name]}"):
        check_versions(found, OURS)


def test_a_machine_without_penname_is_named():
    with pytest.raises(EngineError, match=r"the machine 10\.0\.0\.9 of the cluster cannot run penname \(No module named 'penname'\); install penname 0\.1\.0"):
        check_versions({"10.0.0.1": vars(OURS), "10.0.0.9": "No module named 'penname'"}, OURS)


def test_the_same_versions_are_well():
    check_versions({"10.0.0.1": vars(OURS)}, OURS)
    assert Versions.read().torch.count("+") == 0
