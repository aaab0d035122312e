"""Where data sets are looked for, and what counts as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import toy_episodes
from safetrax.data import get_task, write_hdf5
from safetrax.data.places import dataset_folder, dataset_path, find_dataset
from safetrax.errors import TaskError


def test_the_folder_is_dsrls(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("DSRL_DATASET_DIR", raising=False)
    assert dataset_folder() == Path("/home/somebody/.dsrl/datasets")
    monkeypatch.setenv("DSRL_DATASET_DIR", "")
    assert dataset_folder() == Path("/home/somebody/.dsrl/datasets")
    monkeypatch.setenv("DSRL_DATASET_DIR", "~/data")
    assert dataset_folder() == Path("/home/somebody/data")
    assert dataset_path("ballrun") == Path("/home/somebody/data/SafetyBallRun-v0-80-940.hdf5")
    assert dataset_path(get_task("BallRun"), "~/x") == Path("/home/somebody/x/SafetyBallRun-v0-80-940.hdf5")


def test_only_a_whole_data_set_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("DSRL_DATASET_DIR", str(tmp_path))
    assert find_dataset("BallRun") is None
    path = dataset_path("BallRun")
    write_hdf5(path, toy_episodes([10] * 5))
    assert find_dataset("BallRun") == path
    assert find_dataset("BallRun", tmp_path / "elsewhere") is None
    assert find_dataset("CarRun") is None

    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"<html>", b""):
        path.write_bytes(content)
        assert find_dataset("BallRun") is None
    path.rename(path.with_name(f"{path.name}.part"))
    assert find_dataset("BallRun") is None
    path.mkdir()
    assert find_dataset("BallRun") is None


def test_an_unknown_task(tmp_path):
    with pytest.raises(TaskError, match="did you mean BallRun"):
        find_dataset("BalRun", tmp_path)
