"""Whatever is wrong with a file, reading it ends well or in one sentence: no traceback, no hang, no huge memory."""

from __future__ import annotations

import gzip
import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import fuzzing
import safetrax as st
from finished import finish
from safetrax.certification import Certificate, read_certificates, write_certificates
from safetrax.cli.policy_sources import load_sources
from safetrax.cli.train import _resumed
from safetrax.collection.buffer import Buffer, load_state, save_state
from safetrax.collection.recorder import Episode
from safetrax.data.download import fault_of, new_record, read_record, write_record
from safetrax.errors import SafeTraXError
from safetrax.evaluation.episodes import EpisodeRow, read_episodes, write_episodes
from safetrax.grid.benchmark_folder import BenchmarkFolder
from safetrax.grid.grid import Job
from safetrax.monitoring.monitor import LogModel, Monitor
from safetrax.report.summary import gather
from safetrax.runtime import Runtime
from safetrax.training.checkpoint import Position, load_checkpoint, read_position, save_checkpoint
from safetrax.training.logs import read_metrics
from safetrax.training.run_folder import RunFolder

FAST, SLOW = 13, 420  # inputs per file: 300 and 10,000 in all
SLOW_PARTS = 5

JSON, CSV = (fuzzing.json_text,), (fuzzing.csv_text,)
PARQUET = (fuzzing.parquet_columns,)
TENSORS = (fuzzing.safetensors_header, fuzzing.safetensors_arrays)
SIGNATURE = {"seed": 1, "algorithm": {"class": "BC", "rate": 0.1}}
JOB = Job("bc-all--BallRun", "bc-all", "", {}, "BallRun", "demo", (10.0, 20.0), (0, 1), 2, 0)
CARRY = {"weights": np.zeros((3, 2), np.float32), "step": np.zeros((), np.int32)}


@dataclass(frozen=True)
class Target:
    """A file to damage, its format's own damages, what reads it, and what uses it among others."""

    path: str
    structural: tuple[fuzzing.Mutator, ...]
    read: Callable[[Path], Any]
    use: Callable[[Path], Any] = lambda path: None


def load(path: Path) -> Any:
    return st.load(path, next_observations=True)


def data_set() -> st.Trajectories:
    rng = np.random.default_rng(0)
    episodes = []
    for n in (4, 1, 6):
        observations = rng.standard_normal((n + 1, 3))
        episodes.append(
            {
                "observations": observations[:-1],
                "next_observations": observations[1:],
                "actions": rng.uniform(-1, 1, (n, 2)),
                "rewards": rng.standard_normal(n),
                "costs": rng.integers(0, 2, n),
                "times": 1.7e9 + np.arange(n),
            }
        )
    data = st.Trajectories.from_episodes(episodes, action_low=-2).marked([1, -1, 0])
    return replace(
        data, hidden_costs=data.costs, info={"observation_names": ["a", "b", "c"], "action_names": ["x", "y"]}
    )


def write_csv(path: Path, data: st.Trajectories) -> None:
    st.to_pandas(data).to_csv(path, index=False)


def write_plain_hdf5(path: Path, libver: str, chunks: bool | None) -> None:
    data = data_set()
    with h5py.File(path, "w", libver=libver) as file:
        for key, array in (
            ("observations", data.observations),
            ("actions", data.actions),
            ("rewards", data.rewards),
            ("costs", data.costs.astype(np.int8)),
            ("terminals", data.terminated),
            ("timeouts", data.truncated),
        ):
            file.create_dataset(key, data=array, chunks=chunks)
        file.attrs["task"] = "BallRun"


def rows() -> list[EpisodeRow]:
    return [EpisodeRow("BC-All", "BallRun", limit, 0, 2, e, e, 1.5, 0.0, 9) for limit in (10.0, 20.0) for e in (0, 1)]


def read_checkpoint(path: Path) -> Any:
    read_position(path, SIGNATURE)
    return load_checkpoint(path, CARRY)


def read_states(path: Path) -> Any:
    return BenchmarkFolder.open(path.parent if path.name == "grid.json" else path.parents[2]).states()


def report(path: Path) -> Any:
    return gather([path.parent])


def report_on_grid(path: Path) -> Any:
    return gather([path.parents[2]])


def resumed(path: Path) -> Any:
    return _resumed(["--resume", str(path.parent), "--data", "demo"])


def evaluated(path: Path) -> Any:
    return load_sources([str(path.parent)], "BallRun")


def make_run(folder: Path) -> None:
    """A run folder as training and evaluation leave it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        st.train(
            st.BC(updates=4, hidden=(4, 4)),
            data_set(),
            cost_limits=(1.0,),
            seeds=(0,),
            out=folder,
            log_every=2,
            progress=False,
        )
    write_episodes(folder / "episodes.csv", rows())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one file of each kind."""
    folder = tmp_path_factory.mktemp("whole")
    data = data_set()
    (folder / "minari").mkdir()
    st.write_hdf5(folder / "log.hdf5", data, attributes={"task": "BallRun"})
    write_plain_hdf5(folder / "plain.hdf5", "earliest", None)
    write_plain_hdf5(folder / "new.hdf5", "latest", True)
    st.write_npz(folder / "log.npz", data)
    st.write_npz(folder / "plain.npz", data, compress=False)
    write_csv(folder / "log.csv", data)
    (folder / "marks.csv").write_text("episode,label\n0,safe\n2,unsafe\n1,\n")
    (folder / "packed.csv.gz").write_bytes(gzip.compress((folder / "log.csv").read_bytes(), mtime=0))
    st.write_parquet(folder / "log.parquet", data)
    (folder / "told").mkdir()
    shutil.copy(folder / "log.csv", folder / "told/log.csv")
    told = {
        "observations": "observation.*",
        "actions": ["action.x"],
        "cost": "cost",
        "action_low": [-1],
        "action_high": 1,
    }
    (folder / "told/log.columns.json").write_text(json.dumps(told))
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("MINARI_DATASETS_PATH", str(folder))
        st.to_minari(data, "minari/log-v0")
        st.to_minari(data, "minari/arrow-v0", data_format="arrow")
    make_run(folder / "run")
    shutil.copy(next((folder / "run/policies").iterdir()), folder / "policy.safetensors")
    save_checkpoint(folder / "checkpoint.safetensors", Position(0, 2, 1), CARRY, SIGNATURE)
    benchmark = BenchmarkFolder.make(folder / "grid", [JOB])
    finish(benchmark, JOB, rows(), warnings=("w",))
    buffer = Buffer(4, 0)
    zeros = np.zeros((3, 2), np.float32)
    buffer.add([Episode(np.zeros((4, 3), np.float32), zeros, zeros[:, 0], zeros[:, 0], False, 0, 0)])
    save_state(folder / "state.unfinished", iteration=1, buffer=buffer, source={"x": zeros}, signature=SIGNATURE)
    write_record(folder / "log.hdf5", new_record("0" * 64, 5, "http://host/log.hdf5"))
    make_watched(folder)
    return folder


def make_watched(folder: Path) -> None:
    """A monitor, a certificate and an exported policy."""
    one, none, states = np.ones(1, np.float32), np.zeros((2, 0), np.float32), np.zeros((2, 1), np.float32)
    log = LogModel(one, one, -one, one, states, states, none, none[0], np.zeros((3, 1), np.float32), one)
    Monitor(log, np.zeros(3), np.ones(3), {"cost_limit": 20.0, "horizon": 100}).save(folder / "policy.monitor")
    run = st.RunId("TraC", "BallRun", 20.0, 0)
    held = Certificate(
        run, 20.0, 0.95, 3.0, 5.5, 300.0, 280.0, "world model", 0.9, 30.0, 0.0, 1.0, 19, 20, 100, 30, "ab"
    )
    write_certificates(folder / "certificates.json", [held])
    policy = st.Policy.load(folder / "policy.safetensors")
    st.export(policy, folder / "policy.onnx", data_set())


TARGETS = {
    "HDF5": Target("log.hdf5", (fuzzing.hdf5_contents,), load),
    "HDF5, contiguous": Target("plain.hdf5", (fuzzing.hdf5_contents,), load),
    "HDF5, latest": Target("new.hdf5", (fuzzing.hdf5_contents,), load),
    "HDF5, downloaded": Target("plain.hdf5", (fuzzing.hdf5_contents,), fault_of),
    "NPZ": Target("log.npz", (fuzzing.npz_members,), load),
    "NPZ, stored": Target("plain.npz", (fuzzing.npz_members,), load),
    "CSV": Target("log.csv", CSV, load),
    "CSV, packed": Target("packed.csv.gz", (fuzzing.packed_csv_text,), load),
    "Parquet": Target("log.parquet", PARQUET, load),
    "labels": Target("marks.csv", CSV, lambda path: st.load(path.with_name("log.csv"), labels=path)),
    "columns.json": Target("told/log.columns.json", JSON, lambda path: load(path.with_name("log.csv"))),
    "Minari, metadata": Target("minari/log-v0/data/metadata.json", JSON, lambda path: load(path.parents[1])),
    "Minari, data": Target(
        "minari/log-v0/data/main_data.hdf5", (fuzzing.hdf5_contents,), lambda path: load(path.parents[1])
    ),
    "Minari, Arrow": Target("minari/arrow-v0/data/0/part-0.arrow", (), lambda path: load(path.parents[2])),
    "config.json": Target("run/config.json", JSON, lambda path: RunFolder.open(path.parent).config(), report),
    "config.json, again": Target("run/config.json", JSON, resumed, evaluated),
    "metrics.csv": Target("run/metrics.csv", CSV, read_metrics, report),
    "episodes.csv": Target("run/episodes.csv", CSV, read_episodes, report),
    "policy": Target("policy.safetensors", TENSORS, st.Policy.load),
    "monitor": Target("policy.monitor", TENSORS, Monitor.load),
    "certificates": Target("certificates.json", JSON, read_certificates),
    "exported": Target("policy.onnx", (), Runtime),
    "checkpoint": Target("checkpoint.safetensors", TENSORS, read_checkpoint),
    "grid.json": Target("grid/grid.json", JSON, read_states),
    "result.json": Target(f"grid/runs/{JOB.name}/result.json", JSON, read_states, report_on_grid),
    "a job's config.json": Target(f"grid/runs/{JOB.name}/config.json", JSON, report_on_grid),
    "collection": Target("state.unfinished", TENSORS, lambda path: load_state(path, Buffer(4, 0), SIGNATURE)),
    "record": Target("log.hdf5.sha256.json", JSON, lambda path: read_record(path.with_name("log.hdf5"))),
}


def attack(name: str, seeds: range, whole: Path, tmp_path: Path) -> None:
    target = TARGETS[name]
    # everything that the reader looks at, in a folder of its own
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    path = folder / target.path
    content = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        target.read(path)
        target.use(path)
        for seed in seeds:
            random = np.random.default_rng([seed, *name.encode()])
            bad = fuzzing.damaged(content, target.structural, random)
            path.write_bytes(bad)
            for act in (target.read, target.use):
                said = ""
                try:
                    with fuzzing.guarded(len(bad)):
                        act(path)
                except SafeTraXError as error:
                    said = str(error)
                except BaseException as error:
                    error.add_note(f"{name}, seed {seed}")
                    raise
                assert said.isprintable(), f"{name}, seed {seed}: {said!r}"
                named = not said or str(folder) in said or act is target.use
                assert named, f"{name}, seed {seed}: {said!r} names no file"


@pytest.mark.parametrize("name", TARGETS)
def test_a_damaged_file_is_a_sentence(name: str, whole: Path, tmp_path: Path) -> None:
    attack(name, range(FAST), whole, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(SLOW_PARTS))
@pytest.mark.parametrize("name", TARGETS)
def test_many_damaged_files_are_sentences(name: str, part: int, whole: Path, tmp_path: Path) -> None:
    attack(name, range(FAST + part, FAST + SLOW, SLOW_PARTS), whole, tmp_path)
