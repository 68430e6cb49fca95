"""Tracking: nothing by default, Weights & Biases when asked, one line when it is missing."""

import sys

import pytest

from penname.config import load_config
from penname.errors import UsageError
from penname.train.tracking import track_steps

ROW = {"step": 0, "loss": 1.5, "clipped_frac": None}


def test_no_tracking_writes_nothing(tmp_path):
    with track_steps(load_config(), arm="with_dp", folder=tmp_path) as track:
        track(ROW)
    assert list(tmp_path.iterdir()) == []


def test_wandb_offline_keeps_the_run_in_the_folder(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    with track_steps(load_config(overrides=["tracking=wandb"]), arm="no_dp", folder=tmp_path) as track:
        track(ROW)
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


def test_a_missing_wandb_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    config = load_config(overrides=["tracking=wandb"])
    with pytest.raises(UsageError, match=r"penname\[tracking\]"), track_steps(config, arm="no_dp", folder=tmp_path):
        pass
