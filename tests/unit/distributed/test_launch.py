"""Where a process stands among others, as torchrun says it."""

import pytest

from penname.distributed.errors import EngineError
from penname.distributed.launch import Launch, read_launch

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@pytest.fixture
def environment(monkeypatch):
    def set_all(**values):
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_all


def test_a_process_by_itself_leads_nobody(environment):
    environment()
    assert read_launch() == Launch(0, 1, 0, 1)
    assert not read_launch().is_follower


def test_what_torchrun_says(environment):
    environment(RANK="5", WORLD_SIZE="8", LOCAL_RANK="1", LOCAL_WORLD_SIZE="4")
    assert read_launch() == Launch(5, 8, 1, 4)
    assert read_launch().is_follower
    environment(RANK="0", WORLD_SIZE="2")
    assert read_launch() == Launch(0, 2, 0, 2)


@pytest.mark.parametrize(
    "values",
    [
        {"RANK": "0"},
        {"WORLD_SIZE": "2"},
        {"RANK": "two", "WORLD_SIZE": "2"},
        {"RANK": "2", "WORLD_SIZE": "2"},
        {"RANK": "-1", "WORLD_SIZE": "2"},
        {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "3"},
        {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "3"},
    ],
)
def test_what_does_not_fit_together_is_one_line(environment, values):
    environment(**values)
    with pytest.raises(EngineError, match="RANK, WORLD_SIZE: ") as caught:
        read_launch()
    assert "\n" not in str(caught.value)
