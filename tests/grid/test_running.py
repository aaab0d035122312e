"""Grids that run: to the end, past failures, and on after being killed; the rows do not depend on any of that."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import safetrax as st
from safetrax.cli.benchmark import BenchmarkOptions, grid_of, parse_settings
from safetrax.cli.main import main
from safetrax.errors import ConfigError
from safetrax.files import read_tensors
from safetrax.grid.benchmark_folder import BenchmarkFolder
from safetrax.grid.grid import Grid
from safetrax.grid.job import perform
from safetrax.grid.local import Lane, lanes, run_locally, thread_environment
from safetrax.runs import job_states, read_job, read_place

SMALL = {"updates": 40, "batch_size": 16, "hidden": [8]}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder with a log of the reach-avoid world."""
    folder = tmp_path_factory.mktemp("data")
    st.write_hdf5(folder / "ReachAvoid-v0-10.hdf5", st.reach_avoid_data(10, transitions=2000))
    return folder


def grid(data: Path, **changes) -> Grid:
    return Grid(
        **{
            "algorithms": ("bc-all",),
            "tasks": ("ReachAvoid",),
            "data": str(data),
            "cost_limits": (5.0,),
            "seeds": (0, 1),
            "episodes": 2,
            "settings": {"bc-all": SMALL},
            **changes,
        }
    )


def words(data: Path, out: Path, *more: str) -> list[str]:
    return [
        "benchmark", "--tasks", "ReachAvoid", "--data", str(data), "--out", str(out), "--seeds", "0", "1",
        "--episodes", "2", "--workers", "2", *more,
    ]  # fmt: skip


def small(word: str) -> list[str]:
    return [f"{word}.{name}={value}" for name, value in SMALL.items()]


def test_a_grid_runs_to_its_end_past_a_failure_and_is_done_then(data, tmp_path, capsys):
    out = tmp_path / "b"
    # every episode costs less than twice the limit, so that there is nothing risky to clone
    flags = ["--cost-limits", "100000", "--algorithms", "bc-all", "bc-risky", "--set"]
    flags += [*small("bc-all"), *small("bc-risky")]
    assert main(words(data, out, *flags)) == 2
    said = capsys.readouterr()
    assert "ReachAvoid-bc-risky failed: " in said.err
    assert "1 of 2 jobs are done" in said.out
    ((found,), (failed,)) = read_place(out)
    assert failed.items[0].startswith("ReachAvoid-bc-risky: ")
    assert {(row.algorithm, row.seed, row.step) for row in found.rows} == {("BC-All", 0, 40), ("BC-All", 1, 40)}
    assert len(found.rows) == 4
    assert (found.attempts, found.config["task"]) == (1, "ReachAvoid")
    run = st.train(
        st.BC(mode="all", **{**SMALL, "hidden": (8,)}),
        st.load(data / "ReachAvoid-v0-10.hdf5"),
        cost_limits=(100000,),
        seeds=(0, 1),
    )
    rows = st.evaluate(run.policies, "ReachAvoid", episodes=2, step=40).rows
    assert [row.return_ for row in found.rows] == pytest.approx([row.return_ for row in rows], abs=1e-3)

    before = (out / "runs" / "ReachAvoid-bc-all" / "result.json").stat().st_mtime_ns
    assert main(words(data, out, *flags)) == 2
    said = capsys.readouterr()
    assert "1 failed jobs stay as they are; --retry runs them again" in said.err
    assert (out / "runs" / "ReachAvoid-bc-all" / "result.json").stat().st_mtime_ns == before
    assert main(["benchmark", "status", str(out)]) == 0
    assert "1 done, 1 failed" in capsys.readouterr().out
    assert main(["benchmark", "status", str(out), "--json"]) == 0
    states = {job["job"]: job for job in json.loads(capsys.readouterr().out)["jobs"]}
    assert states["ReachAvoid-bc-risky"]["state"] == "failed"
    assert states["ReachAvoid-bc-risky"]["attempts"] == 1
    assert main([*words(data, out, *flags), "--retry"]) == 2
    assert BenchmarkFolder.open(out).states()[1].details.attempts == 2


def test_a_job_that_lost_a_policy_runs_again(data, tmp_path):
    (job,) = grid(data).jobs()
    folder = BenchmarkFolder.make(tmp_path / "b", [job])
    assert perform(job, folder)
    rows = read_job(folder, job).rows
    policies = folder.run_folder(job).policies_folder
    whole = {path: read_tensors(path)[1]["network.weights.0"].tobytes() for path in policies.iterdir()}
    min(whole).unlink()
    (state,) = job_states(folder)
    assert state.name == "stopped"
    assert perform(job, folder)
    (state,) = job_states(folder)
    assert (state.name, state.details.attempts) == ("done", 2)
    assert read_job(folder, job).rows == rows
    assert {path: read_tensors(path)[1]["network.weights.0"].tobytes() for path in policies.iterdir()} == whole


def start(data: Path, out: Path, updates: int) -> subprocess.Popen[bytes]:
    flags = ["--cost-limits", "5", "--algorithms", "bc-all", "--set", *small("bc-all")]
    command = [sys.executable, "-m", "safetrax", *words(data, out, *flags), f"bc-all.updates={updates}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def until_it_trains(folder: BenchmarkFolder) -> int:
    """The worker's process."""
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        if folder.grid_file.exists():
            (state,) = folder.states()
            assert state.name in ("waiting", "stopped", "running"), state
            if state.name == "running" and state.details.updates > 0:
                return int(state.details.place.split()[1])
        time.sleep(0.05)
    raise AssertionError("it never trained")


@pytest.mark.slow
def test_after_being_stopped_and_after_being_killed_it_goes_on_to_the_same_rows(data, tmp_path):
    out = tmp_path / "b"
    folder = BenchmarkFolder(out)
    updates = 150_000  # some seconds
    first = start(data, out, updates)
    until_it_trains(folder)
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 130
    (state,) = folder.states()
    assert state.name == "stopped"
    assert folder.run_folder(state.job).checkpoint_file.exists()

    second = start(data, out, updates)
    worker = until_it_trains(folder)
    os.kill(worker, signal.SIGKILL)
    assert second.wait(60) == 2
    assert second.stderr is not None
    assert b"was killed by signal 9 (out of memory?)" in second.stderr.read()
    assert folder.states()[0].name == "failed"

    job = state.job
    run_locally(folder, [job], lanes(1, 0, 1))
    interrupted = read_job(folder, job)
    assert interrupted.attempts == 3
    fresh = BenchmarkFolder.make(tmp_path / "fresh", [job])
    run_locally(fresh, [job], lanes(1, 0, 1))
    straight = read_job(fresh, job)
    assert straight.attempts == 1
    assert interrupted.rows == straight.rows


def test_lanes_share_out_processors_and_cards(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    assert [lane.cpus for lane in lanes(None, 0, 10)] == [(0,), (1,), (2,), (3,)]
    assert [lane.cpus for lane in lanes(None, 0, 10, job_cpus=2)] == [(0, 1), (2, 3)]
    assert [lane.cpus for lane in lanes(None, 0, 2)] == [(0,), (1,)]
    assert [(lane.threads, lane.cpus) for lane in lanes(8, 0, 10)] == [(1, ())] * 8
    assert [(lane.gpu, lane.shared) for lane in lanes(None, 2, 10)] == [(0, False), (1, False)]
    assert [(lane.gpu, lane.shared) for lane in lanes(3, 2, 10)] == [(0, True), (1, True), (0, True)]
    environment = Lane(1, (3,), 1, shared=True).environment()
    assert environment["CUDA_VISIBLE_DEVICES"] == "1"
    assert environment["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    assert environment["NPROC"] == environment["OMP_NUM_THREADS"] == "1"
    assert "XLA_FLAGS" not in thread_environment(2)
    for workers, gpus, text in ((0, 0, "workers is 0"), (None, -1, "gpus is -1")):
        with pytest.raises(ConfigError, match=text):
            lanes(workers, gpus, 1)


def test_settings_on_the_command_line():
    assert parse_settings(["trac.updates=3", "trac@BallRun.hidden=[8, 8]", "bars.unsafe-loss=regression"]) == {
        "trac": {"updates": 3},
        "trac@BallRun": {"hidden": [8, 8]},
        "bars": {"unsafe_loss": "regression"},
    }
    for word in ("trac", "trac.updates", "updates=3", "trac.=3", "trac.updates="):
        with pytest.raises(ConfigError, match="write ALGORITHM"):
            parse_settings([word])


def test_fewer_of_a_files_algorithms_take_their_own_settings_along(tmp_path):
    file = tmp_path / "grid.toml"
    words = [
        'algorithms = ["trac", "iql"]',
        "[settings.trac]",
        "updates = 3",
        '[settings."iql@BallRun"]',
        "updates = 4",
    ]
    file.write_text("\n".join(words))
    chosen = grid_of(BenchmarkOptions(grid=(str(file),), out="b", algorithms=("iql",)))
    assert chosen.settings == {"iql@BallRun": {"updates": 4}}
    both = grid_of(BenchmarkOptions(grid=(str(file),), out="b", set=("iql.updates=5",)))
    assert set(both.settings) == {"trac", "iql", "iql@BallRun"}
    with pytest.raises(ConfigError, match="settings names cql, which is no algorithm of the grid"):
        grid_of(BenchmarkOptions(grid=(str(file),), out="b", set=("cql.updates=5",))).jobs()


def test_faults_before_anything_is_written(data, tmp_path, capsys):
    out = tmp_path / "b"
    for flags, text in (
        (["--algorithms", "tracc"], "did you mean trac?"),
        (["--algorithms", "trac", "--ray-address", "x:1"], "--ray-address belongs to --executor ray"),
        (["--algorithms", "trac", "--set", "trac.x=1"], "trac has no setting 'x'"),
        (["a.toml", "b.toml"], "takes one grid file, not 2"),
        (["--algorithms", "trac", "--executor", "ray", "--ray-address", "x"], "must be host:port, or auto"),
    ):
        assert main(words(data, out, *flags)) == 2
        assert text in capsys.readouterr().err
        assert not (out / "results").exists()
    assert main(["benchmark", "status", str(tmp_path)]) == 2
    assert "there is no benchmark in" in capsys.readouterr().err
    assert main(["benchmark", "names"]) == 0
    assert "trac-eta" in capsys.readouterr().out
