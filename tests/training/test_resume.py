"""What survives: kill -9 in either stage, Ctrl-C, another configuration, a full disk."""

import errno
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from safetrax import data
from safetrax.algorithms import BC, TraC
from safetrax.algorithms.base import Algorithm
from safetrax.cli.policy_sources import load_sources
from safetrax.errors import RunError
from safetrax.files import write_tensors
from safetrax.policies.policy import Policy
from safetrax.training import train as module
from safetrax.training.checkpoint import (
    FORMAT,
    FORMAT_VERSION,
    Position,
    load_checkpoint,
    read_position,
    save_checkpoint,
)
from safetrax.training.logs import read_metrics
from safetrax.training.program import Program
from safetrax.training.run_folder import RunFolder
from safetrax.training.train import TrainingInterruptedError, train

SCRIPT = """
import sys
from safetrax.data import load
from safetrax.algorithms import TraC
from safetrax.training.train import train
from safetrax.training import train as module
module._CHUNK_SECONDS = 0.05
algorithm = TraC(hidden=(16,), pretrain_updates=1500, updates=1500, batch_size=16, segment_ratio=0.2)
train(algorithm, load("demo"), cost_limits=(20, 40), seeds=(0,), out=sys.argv[1], resume=sys.argv[2] == "resume",
      checkpoint_seconds=0.0, log_every=50)
"""


def start(folder: Path, mode: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder), mode], stderr=subprocess.PIPE, text=True)


def wait_for_update(process: subprocess.Popen, folder: Path, update: int) -> None:
    """Until the metrics tell that so many updates are done."""
    metrics = folder / "metrics.csv"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        # the file exists a moment before its first line does
        if metrics.exists() and metrics.stat().st_size and any(row.update >= update for row in read_metrics(metrics)):
            return
        time.sleep(0.01)
    pytest.fail(f"the run did not reach update {update}: {process.stderr.read() if process.stderr else ''}")


def finish(folder: Path, mode: str) -> None:
    process = start(folder, mode)
    _, errors = process.communicate(timeout=180)
    assert process.returncode == 0, errors


def parameters(folder: Path) -> dict[str, list[np.ndarray]]:
    import jax

    return {
        file.name: [np.asarray(leaf) for leaf in jax.tree.leaves(Policy.load(file).actor)]
        for file in sorted((folder / "policies").iterdir())
    }


def test_killed_in_both_stages_and_resumed_the_result_is_bitwise_the_same(tmp_path):
    finish(tmp_path / "whole", "new")
    folder = tmp_path / "killed"
    for mode, update in (("new", 300), ("resume", 2100)):
        process = start(folder, mode)
        wait_for_update(process, folder, update)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (folder / "policies").exists()
    finish(folder, "resume")
    whole, killed = parameters(tmp_path / "whole"), parameters(folder)
    assert whole.keys() == killed.keys()
    for name in whole:
        for a, b in zip(whole[name], killed[name], strict=True):
            np.testing.assert_array_equal(a, b)
    assert (tmp_path / "whole/metrics.csv").read_text() == (folder / "metrics.csv").read_text()


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    folder = tmp_path / "run"
    process = start(folder, "new")
    wait_for_update(process, folder, 200)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert f"safetrax train --resume {folder}" in errors
    assert (folder / "checkpoint.safetensors").exists()


TINY = TraC(hidden=(8,), pretrain_updates=2, updates=2, batch_size=8)
CLONE = BC(mode="safe", hidden=(8,), updates=2, batch_size=8)

PROGRAM = functools.cache(Program)


@pytest.fixture(autouse=True)
def compiled_once(monkeypatch):
    """Trainings of one algorithm share a program; those that are killed are processes of their own."""
    monkeypatch.setattr(module, "Program", PROGRAM)


def trained(folder: Path, algorithm: Algorithm = TINY, **settings):
    defaults = {"cost_limits": (20,), "seeds": (0,)}
    return train(algorithm, data.load("demo"), **{**defaults, **settings}, out=folder)


def test_same_configuration_same_policy_bit_by_bit(tmp_path):
    import jax

    first, second = trained(tmp_path / "a"), trained(tmp_path / "b")
    for a, b in zip(jax.tree.leaves(first.policies.actor), jax.tree.leaves(second.policies.actor), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_finished_run_resumes_to_itself(tmp_path):
    first = trained(tmp_path / "a")
    again = trained(tmp_path / "a", resume=True)
    np.testing.assert_array_equal(first.policies.actor.network.weights[0], again.policies.actor.network.weights[0])


def test_an_existing_folder_is_refused(tmp_path):
    trained(tmp_path / "a")
    with pytest.raises(RunError, match="exists and is not empty"):
        trained(tmp_path / "a")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"algorithm": replace(TINY, temperature=0.5)}, "algorithm.temperature was 0.2 and is now 0.5"),
        ({"seeds": (1,)}, "runs was"),
        ({"cost_limits": (10,)}, "runs was"),
    ],
)
def test_a_checkpoint_of_another_configuration_is_refused(tmp_path, change, named):
    trained(tmp_path / "a")
    with pytest.raises(RunError, match="another configuration") as error:
        trained(tmp_path / "a", **change, resume=True)
    assert named in str(error.value)


def test_a_checkpoint_of_other_data_is_refused(tmp_path):
    trained(tmp_path / "a")
    with pytest.raises(RunError, match="data was"):
        train(TINY, data.load("demo").select(np.arange(200)), cost_limits=(20,), out=tmp_path / "a", resume=True)


def test_resuming_nothing_is_refused(tmp_path):
    with pytest.raises(RunError, match="no run folder"):
        trained(tmp_path / "nothing", resume=True)


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint at all", None])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    trained(tmp_path / "a")
    file = tmp_path / "a/checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:-100] if damage is None else damage)
    with pytest.raises(RunError, match="damaged"):
        trained(tmp_path / "a", resume=True)


@pytest.mark.parametrize("update", [-1, 0.5, None, "3"])
def test_an_odd_position_of_a_checkpoint_is_refused(tmp_path, update):
    position = json.dumps({"stage": 0, "update": update, "logged": 0})
    header = {"format": FORMAT, "version": FORMAT_VERSION, "position": position, "signature": "{}"}
    write_tensors(tmp_path / "c", {}, header)
    with pytest.raises(RunError, match=r"the checkpoint .*c is damaged \("):
        read_position(tmp_path / "c", {})


def test_two_cannot_resume_one_run_at_once(tmp_path):
    trained(tmp_path / "a")
    before = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*.*")}
    with (
        RunFolder(tmp_path / "a").locked(),
        pytest.raises(RunError, match=r"another safetrax command works in .*; wait for it, or stop it"),
    ):
        trained(tmp_path / "a", resume=True)
    assert {path: path.read_bytes() for path in before} == before
    trained(tmp_path / "a", resume=True)
    assert not (tmp_path / "a/lock").exists()


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("metrics", [None, "", "stage,upd", "whole"])
def test_a_start_that_was_killed_at_once_goes_on_either_way(tmp_path, metrics, resume):
    whole = trained(tmp_path / "a")
    folder = RunFolder(tmp_path / "b")
    config = json.loads((tmp_path / "a/config.json").read_text())
    RunFolder.create(folder.path, config)
    header = (tmp_path / "a/metrics.csv").read_text().splitlines(keepends=True)[0]
    if metrics is not None:
        folder.metrics_file.write_text(header if metrics == "whole" else metrics)
    (folder.path / "lock").write_text("elsewhere 1")
    for name in ("config.json", "checkpoint.safetensors"):
        (folder.path / f".{name}.ab_12345.part").write_text("left by kill -9")
    trained(folder.path, resume=resume)
    assert (tmp_path / "b/metrics.csv").read_text() == (tmp_path / "a/metrics.csv").read_text()
    assert sorted(p.name for p in folder.path.rglob("*")) == sorted(p.name for p in (tmp_path / "a").rglob("*"))
    np.testing.assert_array_equal(
        whole.policies.actor.network.weights[0], folder.load_policies().actor.network.weights[0]
    )


def test_what_a_run_has_done_is_not_taken_for_a_start(tmp_path):
    trained(tmp_path / "a")
    for name in ("checkpoint.safetensors", "policies"):
        path = tmp_path / "a" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(RunError, match="exists and is not empty; resume it"):
        trained(tmp_path / "a")
    trained(tmp_path / "a", resume=True)


def test_a_run_has_ended_when_all_policies_are_there(tmp_path):
    clone = BC(mode="conditioned", hidden=(8,), updates=2, batch_size=8)  # one training, a policy for every limit
    trained(tmp_path / "a", clone, cost_limits=(20, 40), seeds=(0, 1))
    folder = RunFolder.open(tmp_path / "a")
    assert len(folder.load_policies()) == 4
    (folder.policies_folder / "BC-Conditioned_limit-40_seed-0.safetensors").unlink()
    for use in (
        folder.load_policies,
        lambda: load_sources([str(folder.path)], None),
        lambda: trained(tmp_path / "b", clone, cost_limits=(20, 40), seeds=(0, 1), start_from=folder.path),
    ):
        with pytest.raises(RunError, match="not all policies yet: its training has not ended; resume it first"):
            use()
    trained(tmp_path / "a", clone, cost_limits=(20, 40), seeds=(0, 1), resume=True)
    assert len(folder.load_policies()) == 4


def test_a_folder_of_an_older_version_has_ended_when_every_run_has_a_policy(tmp_path):
    trained(tmp_path / "a", CLONE, cost_limits=(20, 30, 40))
    folder = RunFolder.open(tmp_path / "a")
    config = {key: value for key, value in folder.config().items() if key != "policies"}
    folder.config_file.write_text(json.dumps(config))
    assert len(folder.load_policies()) == 3
    (folder.policies_folder / "BC-Safe_limit-30_seed-0.safetensors").unlink()
    with pytest.raises(RunError, match="its training has not ended"):
        folder.load_policies()


def test_limits_that_hardly_differ_have_files_of_their_own(tmp_path):
    limits = (40.00001, 40.00002, 40)
    trained(tmp_path / "a", CLONE, cost_limits=limits)
    folder = RunFolder.open(tmp_path / "a")
    assert {run.cost_limit for run in folder.load_policies().ids} == {*limits}
    assert sorted(file.name for file in folder.policies_folder.iterdir()) == [
        "BC-Safe_limit-40.00001_seed-0.safetensors",
        "BC-Safe_limit-40.00002_seed-0.safetensors",
        "BC-Safe_limit-40_seed-0.safetensors",
    ]


def test_a_checkpoint_that_was_changed_is_refused(tmp_path):
    trained(tmp_path / "a")
    file = tmp_path / "a/checkpoint.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(RunError, match=r"is damaged \(its content has changed since it was written\)"):
        trained(tmp_path / "a", resume=True)


def test_an_unwritable_folder_is_refused_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="a part of the path is a file"):
        trained(tmp_path / "file" / "run")


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    signature = {"x": 1}
    file = tmp_path / "c.safetensors"
    save_checkpoint(file, Position(0, 5, 3), {"w": np.ones(3, np.float32)}, signature)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="the disk is full"):
        save_checkpoint(file, Position(0, 6, 3), {"w": np.zeros(3, np.float32)}, signature)
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]
    assert read_position(file, signature) == Position(0, 5, 3)
    np.testing.assert_array_equal(load_checkpoint(file, {"w": np.zeros(3, np.float32)})["w"], np.ones(3))


def test_the_folder_tells_what_was_done(tmp_path):
    run = trained(tmp_path / "a", record={"data_path": "demo"})
    config = json.loads((tmp_path / "a/config.json").read_text())
    assert config["algorithm"]["class"] == "TraC"
    assert config["algorithm"]["temperature"] == 0.2
    assert config["record"] == {"data_path": "demo"}
    assert len(config["data"]["sha256"]) == 64
    assert config["made_with"]["jax"]
    assert tuple(read_metrics(tmp_path / "a/metrics.csv")) == run.metrics
    assert {row.stage for row in run.metrics} == {"pretrain", "classify"}


def test_interruption_without_a_folder_says_so(monkeypatch):
    class Stopped:
        requested = True

    import contextlib

    monkeypatch.setattr(module, "catch_signals", lambda: contextlib.nullcontext(Stopped()))
    with pytest.raises(TrainingInterruptedError, match="nothing is saved"):
        train(TINY, data.load("demo"), cost_limits=(20,))
