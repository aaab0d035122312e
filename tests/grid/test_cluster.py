"""The same grid on Ray: the same rows as locally, also when a node is killed in the middle."""

from __future__ import annotations

import builtins
import json
import time
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

import safetrax as st
from safetrax.errors import ConfigError, RunError
from safetrax.grid.benchmark_folder import BenchmarkFolder
from safetrax.grid.grid import Grid, Job
from safetrax.grid.local import lanes, run_locally
from safetrax.grid.ray import Needs, require_ray, run_on_ray
from safetrax.runs import read_job


@pytest.fixture(scope="module")
def jobs(tmp_path_factory) -> tuple[Job, ...]:
    """One that takes some seconds, two short ones, and one that fails."""
    folder = tmp_path_factory.mktemp("data")
    st.write_hdf5(folder / "ReachAvoid-v0-10.hdf5", st.reach_avoid_data(10, transitions=2000))
    small = {"updates": 50, "batch_size": 16, "hidden": [8]}
    return Grid(
        algorithms=("bc-all", "bc-safe", "bc-frontier", "bc-risky"),
        tasks=("ReachAvoid",),
        data=str(folder),
        cost_limits=(100_000.0,),
        seeds=(0, 1),
        episodes=2,
        settings={
            "bc-all": {**small, "updates": 200_000},
            "bc-safe": small,
            "bc-frontier": small,
            "bc-risky": small,
        },
    ).jobs()


@pytest.mark.slow
def test_a_node_killed_in_the_middle_loses_nothing(jobs, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed")
    from ray.cluster_utils import Cluster

    local = BenchmarkFolder.make(tmp_path / "local", jobs)
    run_locally(local, jobs, lanes(1, 0, 4))

    # the head has no room for jobs, so that all of them are on the two nodes
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    folder = BenchmarkFolder.make(tmp_path / "ray", jobs)
    killed = []

    def kill_where_it_trains() -> None:
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline:
            state = folder.state(jobs[0]).details
            if state.name == "running" and state.updates > 0:
                worker = int(state.place.split()[1])
                killed.append(_node_of(worker, nodes))
                cluster.remove_node(killed[0], allow_graceful=False)
                return
            time.sleep(0.1)

    thread = Thread(target=kill_where_it_trains)
    thread.start()
    try:
        run_on_ray(folder, jobs, Needs(memory=0.1), address=cluster.address)
    finally:
        thread.join()
        cluster.shutdown()
    assert killed
    for job in jobs[:3]:
        assert read_job(folder, job).rows == read_job(local, job).rows
    assert read_job(folder, jobs[0]).attempts == 2
    assert [folder.state(job).name for job in jobs] == ["done", "done", "done", "failed"]
    assert folder.state(jobs[3]).details.error == local.state(jobs[3]).details.error


def _node_of(worker: int, nodes: list) -> object:
    """The node whose process is an ancestor of the worker's."""
    ancestors = []
    while worker > 1:
        ancestors.append(worker)
        worker = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
    for node in nodes:
        for processes in node.all_processes.values():
            if any(process.process.pid in ancestors for process in processes):
                return node
    raise AssertionError("no node has that worker")


def test_without_ray_a_sentence_says_how_to_install_it(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "ray":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r'pip install "safetrax\[ray\]"'):
        require_ray()


def test_an_unreachable_cluster_is_said_within_seconds(jobs, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed")
    folder = BenchmarkFolder.make(tmp_path / "b", jobs)
    for address, error, words in (
        ("127.0.0.1:9", RunError, "nothing answers at 127.0.0.1:9"),
        ("somewhere", ConfigError, "must be host:port, or auto"),
        ("auto", RunError, "there is no Ray cluster on this computer"),
    ):
        with pytest.raises(error, match=words):
            run_on_ray(folder, jobs, address=address)


def test_needs_are_checked_and_count_the_data_set():
    assert Needs(2, 0.5, 1).options(1000) == {"num_cpus": 2, "num_gpus": 0.5, "memory": 2**30 + 1300}
    for changes, words in (
        ({"cpus": 0}, "job_cpus is 0, but must be positive"),
        ({"gpus": -1}, "gpus is -1"),
        ({"memory": -1}, "job_memory is -1"),
    ):
        with pytest.raises(ConfigError, match=words):
            replace(Needs(), **changes)
    assert json.dumps(Needs().options(0))
