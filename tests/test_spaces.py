"""Observations of many parts: one order everywhere, known with the policy, and never silently another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import jax
import numpy as np
import pytest
from gymnasium import spaces

from own_env import STEPS, valve_policy, write_module
from safetrax.algorithms.base import Spec
from safetrax.algorithms.trac import TraC
from safetrax.certification.certify import require_alike
from safetrax.collection.collecting import collect
from safetrax.data import Trajectories, load, write_hdf5, write_npz, write_parquet
from safetrax.envs import make_env
from safetrax.envs.local_handle import describe_local
from safetrax.envs.make import require_task
from safetrax.errors import ConfigError, DataError, SafeTraXWarning, TaskError
from safetrax.evaluation.rollout import evaluate
from safetrax.exporting.export import export
from safetrax.policies.policy import Policies, Policy
from safetrax.run_id import RunId
from safetrax.runtime import Runtime
from safetrax.spaces import Part, difference, entries_of, flatten, parts_of, parts_of_space

# What own_env's Cockpit observes: gear, then lamps, then speed.
COCKPIT = (Part("gear", (), (4,), (-1,)), Part("lamps/0", (2,)), Part("lamps/1"), Part("speed", (2,)))
SEEN = {"speed": [0.5, -0.5], "lamps": ([0, 1], 3.0), "gear": 1}
FLAT = [0, 0, 1, 0, 0, 1, 3, 0.5, -0.5]
NAME = "valves:Cockpit-v0"
ROWS = 6


@pytest.fixture
def valves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(write_module(tmp_path)))


def write(path: Path, arrays: dict[str, Any]) -> Path:
    """Two episodes of three rows, in HDF5 or NPZ."""
    ends = np.resize([0, 0, 1], ROWS)
    zeros = np.zeros(ROWS)
    arrays = {"actions": zeros[:, None], "rewards": zeros, "costs": zeros + 1, "timeouts": ends, **arrays}
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for key, array in arrays.items():
                file[key] = array
    return path


def parted(prefix: str = "observations") -> dict[str, np.ndarray]:
    """The cockpit's observations, gears from 0."""
    return {
        f"{prefix}/speed": np.tile([0.5, -0.5], (ROWS, 1)),
        f"{prefix}/gear": np.arange(ROWS) % 4,
        f"{prefix}/lamps/1": np.arange(ROWS) / 2,
        f"{prefix}/lamps/0": np.tile(np.uint8([0, 1]), (ROWS, 1)),
    }


every_suffix = pytest.mark.parametrize("suffix", [".hdf5", ".npz"])


def test_the_order_is_gymnasiums():
    space = spaces.Dict(
        {
            "z": spaces.Box(-9, 9, (2, 2)),
            "b": spaces.Tuple((spaces.MultiDiscrete([2, 3]), spaces.MultiBinary((2, 2)))),
            "a": spaces.Dict({"y": spaces.Discrete(3, start=5), "x": spaces.Box(-1, 1, ())}),
        }
    )
    parts = parts_of_space(space, "it")
    assert [part.name for part in parts] == ["a/x", "a/y", "b/0", "b/1", "z"]
    assert parts_of(entries_of(parts)) == parts
    space.seed(0)
    for _ in range(3):
        sample = space.sample()
        np.testing.assert_array_equal(flatten(parts, sample), np.float32(spaces.flatten(space, sample)))


def test_one_observation_or_one_of_each_episode():
    np.testing.assert_array_equal(flatten(COCKPIT, SEEN), np.float32(FLAT))
    many = {
        "gear": np.array([1, -1]),
        "lamps": {"0": np.array([[0, 1], [1, 0]]), "1": np.array([3.0, 4.0])},
        "speed": np.array([[0.5, -0.5], [0.0, 1.0]]),
    }
    assert flatten(COCKPIT, many).tolist() == [FLAT, [1, 0, 0, 0, 1, 0, 4, 0, 1]]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gear": 3}, "gear is 3, but must be a choice of -1 to 2"),
        ({"gear": 0.5}, "gear is 0.5, but must be a choice of -1 to 2"),
        ({"gear": "first"}, "gear must be an array of numbers, got str"),
        ({"speed": [1.0]}, r"speed has the shape \(1,\), but must have \(2,\), or \(n, 2\) for n episodes"),
        ({"lamps": ([0, 1],)}, "lamps must have the keys 0, 1, got 0"),
        ({"lamps": 3}, "lamps must be a dictionary with the keys 0, 1, got int"),
        ({"wind": 3}, "an observation must have the keys gear, lamps, speed, got speed, lamps, gear, wind"),
        ({"gear": [1, 1]}, "of different numbers of episodes: 2 of gear, a single of lamps/0"),
    ],
)
def test_what_is_no_such_observation(changes: dict[str, Any], words: str):
    with pytest.raises(ConfigError, match=words):
        flatten(COCKPIT, {**SEEN, **changes})


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (spaces.Dict({"eye": spaces.Box(0, 255, (64, 64, 3), np.uint8)}), "it, eye, are pictures .64 x 64 x 3"),
        (spaces.Box(0, 255, (64, 64), np.uint8), "it are pictures .64 x 64."),
        (spaces.Dict({"a/b": spaces.Discrete(2)}), "it have the key 'a/b'; name the parts by texts without a /"),
        (spaces.Dict({}), "it are empty"),
        (spaces.Sequence(spaces.Discrete(2)), "it come from the space Sequence"),
        (spaces.Discrete(5000), "an observation is one of 5000 choices, but at most 4096"),
    ],
)
def test_spaces_that_are_refused(space: Any, words: str):
    with pytest.raises(ConfigError, match=words):
        parts_of_space(space, "it")


@pytest.mark.parametrize(
    "entries",
    [
        3,
        [{}],
        [{"name": "a", "shape": [-1], "choices": [], "start": []}],
        [{"name": "a", "shape": [2], "choices": [3], "start": []}],
        [{"name": "a", "shape": [0.5], "choices": [], "start": []}],
        [{"name": "a", "shape": [], "choices": [], "start": []}] * 2,
    ],
)
def test_parts_of_strangers(entries: Any):
    with pytest.raises(ConfigError, match="observation_parts cannot be used"):
        parts_of(entries)


def test_only_what_both_know_is_compared():
    ours, theirs = (Part("a"), Part("b", (2,))), (Part("b", (2,)), Part("a"))
    assert difference(ours, theirs) == "a (1), b (2) and b (2), a (1)"
    assert difference(ours, ()) is None
    assert difference(ours, (Part("a", (1,)), Part("b", (), (2,)))) is None


@every_suffix
def test_logs_of_parts(suffix: str, tmp_path: Path):
    path = write(
        tmp_path / f"log{suffix}", {**parted(), **parted("next_observations"), "choices/gear": 4, "speedometer": [1]}
    )
    data = load(path, next_observations=True)
    gears = np.eye(4)[np.arange(ROWS) % 4]
    lamps = np.column_stack([np.tile([0, 1], (ROWS, 1)), np.arange(ROWS) / 2])
    wanted = np.column_stack([gears, lamps, np.tile([0.5, -0.5], (ROWS, 1))])
    np.testing.assert_array_equal(data.observations, wanted)
    np.testing.assert_array_equal(data.next_observations, wanted)
    parts = parts_of(data.info["observation_parts"])
    assert difference(parts, COCKPIT) is None
    assert data.info["observation_names"][3:6] == ["gear[3]", "lamps/0[0]", "lamps/0[1]"]
    for writer, name in ((write_hdf5, "flat.hdf5"), (write_npz, "flat.npz"), (write_parquet, "flat.parquet")):
        writer(tmp_path / name, data)
        back = load(tmp_path / name, next_observations=True)
        assert back.fingerprint() == data.fingerprint()
        assert back.info["observation_names"] == data.info["observation_names"]
        if not name.endswith("parquet"):  # tables keep the names
            assert parts_of(back.info["observation_parts"]) == parts


@every_suffix
def test_a_tuple_of_many_is_in_order_of_number(suffix: str, tmp_path: Path):
    arrays = {f"observations/{place}": np.full(ROWS, place) for place in range(11)}
    data = load(write(tmp_path / f"log{suffix}", arrays))
    assert data.observations[0].tolist() == list(range(11))


@every_suffix
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"observations/gear": np.arange(ROWS), "choices/gear": 4}, "gear is 4, but must be a choice of 0 to 3"),
        ({"choices/gear": [2, 2]}, "choices/gear must hold a whole number of choices"),
        ({"choices/wind": 4}, "choices/wind belongs to no part"),
        (
            {"observations/gear": np.zeros(ROWS - 1)},
            r"has \d rows but observations/\S+ has \d; pass one row per transition",
        ),
        ({"observations/eye": np.zeros((ROWS, 4, 4), np.uint8)}, "observations/eye are pictures .4 x 4"),
        ({"next_observations/gear": np.zeros(ROWS)}, "next_observations and observations have other parts"),
    ],
)
def test_logs_of_parts_that_contradict(suffix: str, changes: dict[str, Any], words: str, tmp_path: Path):
    with pytest.raises(DataError, match=words):
        load(write(tmp_path / f"log{suffix}", {**parted(), **changes}), next_observations=True)


@every_suffix
def test_logs_of_pictures(suffix: str, tmp_path: Path):
    path = write(tmp_path / f"log{suffix}", {"observations": np.zeros((ROWS, 8, 8, 3), np.uint8)})
    with pytest.raises(DataError, match=r"observations are pictures .8 x 8 x 3.* encode each to a vector first"):
        load(path)


def test_what_a_file_tells_of_its_parts_must_fit(tmp_path: Path):
    for text, words in (("[", "observation_parts is no JSON"), ('[{"name": "a"}]', "cannot be used")):
        path = write(tmp_path / "log.hdf5", {"observations": np.zeros((ROWS, 3))})
        with h5py.File(path, "a") as file:
            file.attrs["observation_parts"] = text
        with pytest.raises(DataError, match=words):
            load(path)


def test_large_parts_of_many_dimensions_are_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("safetrax.data.formats.hdf5._BLOCK_BYTES", 100)
    rays = np.arange(ROWS * 12.0).reshape(ROWS, 3, 4)
    data = load(write(tmp_path / "log.hdf5", {"observations/rays": rays}))
    np.testing.assert_array_equal(data.observations, rays.reshape(ROWS, 12))


def test_data_sets_of_other_parts_are_not_joined():
    def log(*names: str) -> Trajectories:
        info = {"observation_parts": entries_of([Part(name) for name in names])}
        rows = {"observations": np.zeros((3, 2)), "actions": np.zeros((3, 1)), "rewards": np.zeros(3)}
        return Trajectories.from_episodes([rows], info=info)

    with pytest.raises(DataError, match=r"data sets 0 and 1 observe other parts: a \(1\), b \(1\) and b \(1\), a"):
        Trajectories.concatenate([log("a", "b"), log("b", "a")])
    both = Trajectories.concatenate([log("a", "b")] * 2)
    assert parts_of(both.info["observation_parts"]) == (Part("a"), Part("b"))


def test_an_environment_of_parts(valves: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    task = require_task(NAME)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert (task.observation_size, task.observation_parts) == (9, COCKPIT)
    assert require_task(NAME, python=sys.executable) == task
    env = make_env(NAME)
    assert env.reset(seed=0)[0].tolist() == [1, 0, 0, 0, 0, 1, 0, 0.5, -0.5]
    env.step(np.array([0.0]))
    assert env.step(np.array([3.0]))[0].tolist() == FLAT


def test_from_an_environment_to_a_policy_that_takes_dictionaries(valves: None, tmp_path: Path):
    from valves import Cockpit

    with pytest.warns(SafeTraXWarning, match="not of the parts gear .4., lamps/0 .2., lamps/1 .1., speed .2."):
        evaluate(bare(), Cockpit, horizon=STEPS, episodes=1)
    collect(NAME, tmp_path / "log.hdf5", policies=valve_policy(3.0, parts=COCKPIT), episodes=3, workers=1)
    data = load(tmp_path / "log.hdf5")
    assert data.observations[2].tolist() == FLAT
    assert parts_of(data.info["observation_parts"]) == COCKPIT
    algorithm = TraC(hidden=(8,))
    actor = algorithm.actor(algorithm.init(jax.random.key(0), Spec.of(data)))
    policy = Policy(actor, RunId("TraC", NAME, 20.0, 0), {"data": dict(data.info)})
    policy = Policy.load(policy.save(tmp_path / "policy.safetensors"))
    action = policy.act(SEEN)
    np.testing.assert_array_equal(action, policy.act(np.float32(FLAT)))
    with pytest.raises(ConfigError, match="an observation must have the keys gear, lamps, speed, got gear"):
        policy.act({"gear": 1})
    assert evaluate(policy, Cockpit, horizon=STEPS, episodes=1).rows[0].length == STEPS
    runtime = Runtime(export(policy, tmp_path / "policy.onnx", data).path)
    np.testing.assert_allclose(runtime.act(SEEN), action, atol=1e-4)
    with pytest.raises(ConfigError, match="lamps must have the keys 0, 1, got 0"):
        runtime.act({**SEEN, "lamps": (1,)})


def bare(size: int = 9) -> Policy:
    """A policy whose log says nothing of parts."""
    policy = valve_policy(3.0, parts=(Part("x", (size,)),))
    return Policy(policy.actor, policy.id)


def test_other_parts_are_refused(valves: None):
    swapped = valve_policy(3.0, parts=COCKPIT[::-1])
    with pytest.raises(
        TaskError,
        match=r"put together from other parts: speed \(2\), .* and gear \(4\), .*log them as the environment",
    ):
        evaluate(swapped, NAME, episodes=1)
    with pytest.raises(ConfigError, match="are put together from other parts, so that they cannot be evaluated tog"):
        Policies.stack([swapped, valve_policy(3.0, parts=COCKPIT, seed=1)])
    info = {"observation_parts": entries_of(COCKPIT)}
    rows = {"observations": np.zeros((3, 9)), "actions": np.zeros((3, 1)), "rewards": np.zeros(3)}
    with pytest.raises(DataError, match="was trained on observations of other parts than the log's: speed"):
        require_alike(swapped, Trajectories.from_episodes([rows], info=info))


def test_a_space_of_choices_alone(valves: None):
    from valves import Valve

    class Room(Valve):
        observation_space = spaces.Discrete(3)

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            return 2, super().reset(seed=seed)[1]

        def step(self, action: Any) -> Any:
            return (1, *super().step(action)[1:])

    task = describe_local(Room, 4)
    assert (task.observation_size, task.observation_parts) == (3, (Part("", (), (3,)),))
    policy = valve_policy(3.0, parts=task.observation_parts)
    np.testing.assert_array_equal(policy.act(2), policy.act([0, 0, 1]))
    assert evaluate(policy, Room, horizon=4, episodes=1).rows[0].length == 4


def test_nothing_else_is_imported():
    code = "import sys; import safetrax.spaces; assert not {'jax', 'gymnasium'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
