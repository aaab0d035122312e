"""An environment of one's own is a task: what is known of it, what is refused, and workers in another Python."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from own_env import STEPS, gift, write_module
from safetrax.envs import make_env
from safetrax.envs.make import require_simulator, require_task
from safetrax.envs.pool import EnvPool
from safetrax.envs.protocol import STEP_ON, VERSION, Setup
from safetrax.errors import ConfigError, SafeTraXWarning, SimulatorError

PACKAGES = ("jax", "jaxlib", "equinox", "safetensors", "h5py", "tyro", "rich", "typeguard", "jaxtyping")


@pytest.fixture(autouse=True)
def valves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The module's folder, where this process and its workers find it."""
    monkeypatch.syspath_prepend(str(write_module(tmp_path)))
    return tmp_path


def python(folder: Path, *flags: str, blocked: tuple[str, ...] = ()) -> str:
    """This interpreter as another one: with the module, and without some packages."""
    for name in blocked:
        (folder / f"{name}.py").write_text("raise ImportError(f'{__name__} is not here')")
    path = folder / "python"
    path.write_text(f'#!/bin/sh\nPYTHONPATH={folder} exec {sys.executable} {" ".join(flags)} "$@"\n')
    path.chmod(0o755)
    return str(path)


def test_what_is_known_once_it_is_made():
    task = require_task("valves:Valve-v0")
    assert (task.suite, task.horizon, task.observation_size, task.action_size) == ("gymnasium", STEPS, 2, 1)
    assert (task.action_low, task.action_high, task.cost_limits) == ((0.0,), (10.0,), ())
    assert not task.has_reference_returns
    assert require_task("valves:Unending-v0", horizon=7).horizon == 7


def test_actions_in_its_own_units_and_resets_by_their_seed():
    env = make_env("valves:Valve-v0")
    for seed in (3, 4, 3):
        observation, _ = env.reset(seed=seed)
        assert observation.tolist() == [0.0, 0.0]
        answers = [env.step(np.array([8.0])) for _ in range(STEPS)]
        assert [reward for _, reward, *_ in answers] == pytest.approx([0.8 + gift(seed), 0.8, 0.8, 0.8])
        assert [info["cost"] for *_, info in answers] == pytest.approx([0.3] * STEPS)
        assert [truncated for *_, truncated, _ in answers] == [False, False, False, True]
    with pytest.raises(
        SimulatorError, match=r"the action \[11.0\] leaves the box of valves:Valve-v0, \[0.0\] to \[10.0\]"
    ):
        env.step(np.array([11.0]))
    env = make_env("valves:Valve-v0", horizon=2)
    env.reset(seed=0)
    assert [env.step(np.array([1.0]))[3] for _ in range(2)] == [False, True]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "valves:Free-v0",
            r'Free-v0 reports no info\["cost"\]: the info of its step has only \'constraint\'; wrap it',
        ),
        ("Pendulum-v1", r'Pendulum-v1 reports no info\["cost"\]: the info of its step is empty'),
        ("valves:Unending-v0", "has no time limit; pass a horizon"),
        (
            "valves:Dials-v0",
            "the actions of valves:Dials-v0 are a MultiDiscrete; wrap them into a Box, or a Discrete",
        ),
        (
            "valves:Camera-v0",
            "the observations of valves:Camera-v0 are pictures .4 x 6 x 3.* encode each to a vector",
        ),
        ("valves:Valv-v0", "valves:Valv-v0 cannot be made .NameNotFound.*Valve"),
        ("no_such_package:Valve-v0", "cannot be made .ModuleNotFoundError: No module named 'no_such_package'"),
    ],
)
def test_what_no_policy_can_act_in_is_one_sentence(name: str, words: str):
    with pytest.raises(SimulatorError, match=words):
        require_simulator(name)


def test_a_benchmark_task_keeps_its_horizon():
    with pytest.raises(ConfigError, match="the horizon of BallRun is 100 and cannot be 50"):
        require_task("BallRun", horizon=50)
    with pytest.raises(SimulatorError, match="Valve-v0 ends after 4 steps, as registered; the horizon 5 is too long"):
        require_task("valves:Valve-v0", horizon=5)
    with pytest.raises(ConfigError, match="the horizon must be at least 1 step, got 0"):
        require_task("valves:Valve-v0", horizon=0)


def test_resets_that_ignore_their_seed_are_warned_of():
    with pytest.warns(SafeTraXWarning, match="two resets of valves:Moody-v0 with the same seed begin differently"):
        require_task("valves:Moody-v0")


def test_a_worker_in_another_python_needs_numpy_and_the_simulator_alone(valves: Path):
    other = python(valves, blocked=PACKAGES)
    task = require_task("valves:Valve-v0", python=other)
    assert task == require_task("valves:Valve-v0")
    with EnvPool(task, 1, 1, python=other) as pool:
        pool.begin()
        for commands, rewards in (([5], [0.0]), ([STEP_ON], [0.6 + gift(5)]), ([STEP_ON], [0.6])):
            pool.send(0, np.array(commands), np.full((1, 1), 6.0, np.float32))
            assert pool.receive(0).rewards.tolist() == pytest.approx(rewards)


@pytest.mark.parametrize(
    ("flags", "name", "words"),
    [
        (
            ("-S", "-E"),
            "valves:Valve-v0",
            "python: No module named 'numpy'; install it there with: .* -m pip install numpy",
        ),
        ((), "BallRun", "python: the bullet simulator cannot be imported .pybullet is not here"),
        ((), "valves:Free-v0", r'python: valves:Free-v0 reports no info\["cost"\]'),
    ],
)
def test_what_another_python_lacks_is_said(flags: tuple[str, ...], name: str, words: str, valves: Path):
    if name == "BallRun":
        pytest.importorskip("bullet_safety_gym")
    other = python(valves, *flags, blocked=("pybullet",))
    with pytest.raises(SimulatorError, match=words):
        require_task(name, python=other)


def test_what_is_no_python(valves: Path):
    with pytest.raises(SimulatorError, match=r"nowhere/python cannot be run \(No such file or directory\)"):
        require_task("BallRun", python=str(valves / "nowhere" / "python"))
    with pytest.raises(SimulatorError, match="true does not answer as a Python would"):
        require_task("BallRun", python="true")


def test_both_ends_speak_the_same_version():
    fields = json.loads(Setup("bullet", "SafetyBallRun-v0", 100, 7, 2, (1, 1), 60.0).to_bytes())
    assert fields["version"] == VERSION
    with pytest.raises(SimulatorError, match=f"speaks version {VERSION} of the protocol and the pool {VERSION + 1}"):
        Setup.from_bytes(json.dumps({**fields, "version": VERSION + 1}).encode())
