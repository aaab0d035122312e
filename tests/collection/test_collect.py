"""Whole collections: in environments with known answers, on real physics, interrupted and resumed."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from safetrax.algorithms import BC
from safetrax.collection import CollectionInterruptedError, collect
from safetrax.collection.ppo import PPO
from safetrax.data import load, validate
from safetrax.envs import make_env
from safetrax.envs.lockstep import Lockstep
from safetrax.errors import ConfigError, RunError, SafeTraXWarning, SimulatorError, TaskError
from safetrax.evaluation.rollout import evaluate
from safetrax.files import locked
from safetrax.training.train import train

SMALL = PPO(hidden=(16,), iteration_steps=400, minibatch=100, epochs=2)
FOLDER = str(Path(__file__).parent)


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have worker processes find the module with the toy environments."""
    monkeypatch.setattr(sys, "path", [FOLDER, *sys.path])


def small(out: Path, **changes: Any) -> Any:
    arguments = {"episodes": 20, "steps": 4000, "settings": SMALL, "seed": 1, **changes}
    return collect("BallRun", out, **arguments)


def test_agents_find_the_known_answer(toys: None, tmp_path: Path):
    settings = PPO(hidden=(16,), iteration_steps=1000, minibatch=250, epochs=4, learning_rate=3e-3)
    last = []
    collect(
        "toy_envs:Throttle-v0",
        tmp_path / "toy.hdf5",
        steps=60_000,
        cost_limits=(1.0, 1.0),
        settings=settings,
        report=lambda progress: last.append(progress.tallies),
    )
    for tally in last[-1]:
        # cutting the noise to the action box leaves a little of the return on the table
        assert tally.cost == pytest.approx(1.0, abs=0.3)
        assert 4.8 < tally.return_ < 6.6
    data = load(tmp_path / "toy.hdf5")
    assert data.action_high.tolist() == [10.0]
    assert 0.0 <= data.actions.min() < 2.0
    assert 8.0 < data.actions.max() <= 10.0
    assert data.rewards == pytest.approx(data.actions[:, 0] / 10.0, abs=1e-6)


def test_a_collection_on_real_physics(tmp_path: Path):
    made = small(tmp_path / "SafetyBallRun-v0-mine.hdf5")
    data = load(made.path, next_observations=True)
    assert data.info["task"] == "BallRun"
    assert data.num_episodes == 20
    assert not validate(data)
    assert np.array_equal(data.observations, made.trajectories.observations)
    assert made.steps_made >= 4000
    with h5py.File(made.path) as file:
        facts = json.loads(file.attrs["collection"])
        assert file.attrs["task"] == "BallRun"
        assert "pybullet" in file.attrs["simulator"]
        seeds, owners = file["episode_seeds"][()], file["episode_owners"][()]
    assert len(seeds) == len(owners) == 20
    assert set(owners) == {0, 1}
    assert facts["steps"] == 4000
    assert facts["settings"]["hidden"] == [16]
    # what is in the file is what the simulator does
    env = make_env("BallRun")
    rows = slice(*data.offsets[:2])
    observation, _ = env.reset(seed=int(seeds[0]))
    for t in range(rows.stop):
        assert np.array_equal(observation, data.observations[t])
        observation, earned, *_ = env.step(data.actions[t])
        assert np.array_equal(observation, data.next_observations[t])
        assert np.float32(earned) == data.rewards[t]


def test_the_file_does_not_depend_on_workers_nor_on_interruptions(tmp_path: Path):
    whole = small(tmp_path / "a.hdf5", workers=1)
    small(tmp_path / "b.hdf5", workers=3)
    assert (tmp_path / "b.hdf5").read_bytes() == whole.path.read_bytes()

    def interrupt(progress: Any) -> None:
        if progress.iteration == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(CollectionInterruptedError, match=r"stopped after 2 of 3 .* --resume"):
        small(tmp_path / "c.hdf5", report=interrupt)
    assert not (tmp_path / "c.hdf5").exists()
    assert (tmp_path / "c.hdf5.unfinished").exists()
    with pytest.raises(RunError, match="unfinished collection"):
        small(tmp_path / "c.hdf5")
    with pytest.raises(RunError, match="steps was 4000 and is now 5000"):
        small(tmp_path / "c.hdf5", resume=True, steps=5000)
    unfinished = (tmp_path / "c.hdf5.unfinished").read_bytes()
    expected = whole.path.read_bytes().replace(b"a.hdf5", b"c.hdf5")
    for _ in range(2):  # the second time as if it had been killed between its last two steps
        (tmp_path / "c.hdf5.unfinished").write_bytes(unfinished)
        small(tmp_path / "c.hdf5", resume=True)
        assert (tmp_path / "c.hdf5").read_bytes() == expected
        assert not (tmp_path / "c.hdf5.unfinished").exists()
    with pytest.raises(RunError, match="exists already"):
        small(tmp_path / "c.hdf5", resume=True)
    with (
        locked(tmp_path / ".d.hdf5.lock", tmp_path / "d.hdf5"),
        pytest.raises(RunError, match=r"another safetrax command works in .*d\.hdf5"),
    ):
        small(tmp_path / "d.hdf5")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.hdf5", "b.hdf5", "c.hdf5"]


def test_trained_policies_act_as_in_an_evaluation(tmp_path: Path):
    run = train(BC(updates=20, batch_size=64), load("demo"), seeds=(0, 1))
    made = collect("BallRun", tmp_path / "policies.hdf5", policies=run.policies, episodes=5, seed=0)
    rows = evaluate(run.policies[0], "BallRun", episodes=3).rows
    assert made.trajectories.num_episodes == 5
    assert made.trajectories.returns[:3] == pytest.approx([row.return_ for row in rows], rel=1e-4)
    noisy = collect("BallRun", tmp_path / "noisy.hdf5", policies=run.policies, episodes=5, noise=0.3)
    assert not np.allclose(noisy.trajectories.returns, made.trajectories.returns)
    assert np.abs(noisy.trajectories.actions).max() <= 1.0


class Opening:
    """With the method of Stable-Baselines3's models, and a memory: a unit more at every step of an episode."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        assert deterministic
        assert observation.shape == (len(episode_start), 2)
        steps = np.where(episode_start, 0, 0 if state is None else state)
        return np.float32(steps)[:, None], steps + 1


class Flat(Opening):
    def predict(self, *args: Any, **more: Any):
        actions, state = super().predict(*args, **more)
        return actions[:, 0], state


def test_a_policy_of_another_library_acts_in_the_environments_units(toys: None, tmp_path: Path):
    made = collect("toy_envs:Throttle-v0", tmp_path / "other.hdf5", policies=Opening(), episodes=5)
    data = made.trajectories
    assert data.num_episodes == 5
    assert data.actions.reshape(5, 10) == pytest.approx(np.tile(np.arange(10.0), (5, 1)), abs=1e-5)
    assert data.returns == pytest.approx(np.full(5, 4.5))
    assert data.cost_returns == pytest.approx(np.full(5, 1.0))
    noisy = collect("toy_envs:Throttle-v0", tmp_path / "noisy.hdf5", policies=Opening(), episodes=5, noise=0.1)
    assert 0.1 < np.std(noisy.trajectories.actions - data.actions) < 0.6  # cut at the box; half its width is 5
    with pytest.raises(RunError, match=r"predict of Flat gave an array of shape \(\d+,\).*one row for each"):
        collect("toy_envs:Throttle-v0", tmp_path / "flat.hdf5", policies=Flat(), episodes=5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"episodes": 0}, "episodes must be at least 1"),
        ({"seed": 200}, "between 0 and 199"),
        ({"cost_limits": (9.0, 3.0)}, "must rise"),
        ({"method": "driver"}, "no driver"),
        ({"method": "policies"}, "policies are needed"),
        ({"horizon": 7}, "cannot be 7"),
        ({"noise": -1.0}, "noise"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_run(tmp_path: Path, changes: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        small(tmp_path / "x.hdf5", **changes)
    assert not list(tmp_path.iterdir())


def test_files_are_not_overwritten(tmp_path: Path):
    (tmp_path / "x.hdf5").write_text("precious")
    with pytest.raises(RunError, match="exists already"):
        small(tmp_path / "x.hdf5")
    with pytest.raises(ConfigError, match=r"end in \.hdf5"):
        small(tmp_path / "x.csv")
    with pytest.raises(RunError, match="cannot write"):
        small(tmp_path / "x.hdf5" / "y.hdf5")
    with pytest.raises(RunError, match="no unfinished collection"):
        small(tmp_path / "y.hdf5", resume=True)


@pytest.mark.parametrize(
    ("environment", "steps", "agents"),
    [
        pytest.param("Throttle", 1000, 2, marks=pytest.mark.slow),
        ("Throttle", 1230, 3),
        ("Throttle", 30, 2),
        ("Short", 1000, 2),
    ],
)
def test_as_many_steps_are_made_as_asked_for(toys: None, tmp_path: Path, environment: str, steps: int, agents: int):
    settings = PPO(hidden=(4,), iteration_steps=70, minibatch=20, epochs=1)  # 7 episodes: no even share of two groups
    out, limits = tmp_path / "x.hdf5", (0.0, 1.0)
    made = collect(
        f"toy_envs:{environment}-v0",
        out,
        steps=steps,
        agents=agents,
        cost_limits=limits,
        settings=settings,
        workers=1,
    )
    if environment == "Throttle":
        assert made.steps_made == steps
    else:  # episodes end when they like: at most one more in each group of each agent
        assert steps <= made.steps_made < steps + 2 * agents * 10


def test_a_rounded_number_of_steps_is_said_before(toys: None, tmp_path: Path):
    with pytest.warns(
        SafeTraXWarning, match="995 steps are no whole number of episodes of 10 steps; 1,000 will be made"
    ):
        made = collect("toy_envs:Throttle-v0", tmp_path / "x.hdf5", steps=995, cost_limits=(0, 1), settings=SMALL)
    assert made.steps_made == 1000


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ("Negative", r"answered step 3 of episode 13 \(environment seed 13\) with the cost -0\.5; "),
        ("Nan", r"answered step 3 of episode 13 .* with the cost nan; "),
        ("Infinite", r"answered step 3 of episode 13 .* with the cost inf; "),
        ("Reward", r"answered step 3 of episode 13 .* with the reward inf; "),
        ("Observation", r"answered step 3 of episode 13 .* with an observation that is not finite; "),
        ("Raise", r"failed with ArithmeticError: the solver"),
        ("Hang", r"died 3 times .* as a step or a reset took more than 0\.5 s; step_timeout allows more"),
        ("Lost", r"cannot be reset with the seed 13, tried twice: ConnectionError: no answer"),
    ],
)
def test_what_was_collected_is_kept_when_the_environment_fails(
    toys: None, tmp_path: Path, environment: str, said: str
):
    settings = PPO(hidden=(4,), iteration_steps=20, minibatch=20, epochs=1)  # 8 episodes in each iteration
    out, arguments = tmp_path / "x.hdf5", {"cost_limits": (0.0, 1.0), "settings": settings, "agents": 1, "workers": 1}
    with pytest.raises(SimulatorError, match=said) as caught:
        collect(f"toy_envs:{environment}-v0", out, step_timeout=0.5, **arguments)
    partial = tmp_path / "x.partial.hdf5"
    assert f"are in {partial}" in str(caught.value)
    kept = load(partial)
    assert kept.num_episodes == 8
    assert not validate(kept)
    assert not out.exists()


def test_a_collection_goes_on_after_its_environment_was_mended(
    toys: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    arguments = {"cost_limits": (0.0, 1.0), "settings": PPO(hidden=(4,), iteration_steps=400, minibatch=20, epochs=1)}
    whole = collect("toy_envs:Throttle-v0", tmp_path / "a.hdf5", steps=2400, **arguments)
    advance, calls = Lockstep.advance, iter(range(10**6))

    def failing(self: Lockstep) -> bool:
        if next(calls) == 70:
            raise SimulatorError("the environment is broken.")
        return advance(self)

    with monkeypatch.context() as broken:
        broken.setattr(Lockstep, "advance", failing)
        # two iterations have 80 episodes each: one of them, and of the next the first 16 in two groups of two agents
        with pytest.raises(SimulatorError, match=r"is broken\. The 144 episodes .* --resume goes on\.$"):
            collect("toy_envs:Throttle-v0", tmp_path / "b.hdf5", steps=2400, **arguments)
    again = collect("toy_envs:Throttle-v0", tmp_path / "b.hdf5", steps=2400, resume=True, **arguments)
    assert again.path.read_bytes() == whole.path.read_bytes().replace(b"a.hdf5", b"b.hdf5")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.hdf5", "b.hdf5"]


def test_a_reset_that_fails_is_tried_again(toys: None, tmp_path: Path):
    whole = collect("toy_envs:Throttle-v0", tmp_path / "a.hdf5", steps=400, cost_limits=(0, 1), settings=SMALL)
    made = collect("toy_envs:Unsteady-v0", tmp_path / "b.hdf5", steps=400, cost_limits=(0, 1), settings=SMALL)
    assert np.array_equal(made.trajectories.observations, whole.trajectories.observations)


def test_bounds_that_no_episode_meets(tmp_path: Path):
    with pytest.raises(RunError, match=r"none of the \d+ episodes"):
        small(tmp_path / "x.hdf5", min_return=1e9, steps=400, agents=1)


def test_environments_that_do_not_fit(toys: None, tmp_path: Path):
    out = tmp_path / "x.hdf5"
    with pytest.raises(TaskError, match="no task 'BallJump'"):
        collect("BallJump", out)
    with pytest.raises(ConfigError, match="cost limits"):
        collect("toy_envs:Throttle-v0", out)
    with pytest.raises(SimulatorError, match="no time limit"):
        collect("toy_envs:Endless-v0", out, cost_limits=(0, 1))
    with pytest.raises(SimulatorError, match="actions of toy_envs:Buttons-v0 are a MultiBinary"):
        collect("toy_envs:Buttons-v0", out, cost_limits=(0, 1))
    with pytest.raises(SimulatorError, match='no info\\["cost"\\]'):
        collect("toy_envs:NoCost-v0", out, cost_limits=(0, 1), settings=SMALL)
