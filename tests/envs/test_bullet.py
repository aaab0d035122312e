"""The Bullet tasks keep the promises of make_env."""

from __future__ import annotations

from importlib.util import find_spec

import gymnasium
import numpy as np
import pytest

from safetrax.catalogue import get_task, tasks
from safetrax.envs import make_env
from safetrax.errors import SimulatorError, TaskError

if find_spec("bullet_safety_gym") is None:
    pytest.skip("bullet-safety-gym is not installed", allow_module_level=True)

NAMES = [task.name for task in tasks("bullet")]


def trajectory(env: gymnasium.Env, seed: int, actions: np.ndarray) -> bytes:
    """Everything that an episode shows, to the bit."""
    seen = [env.reset(seed=seed)[0].tobytes()]
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        seen.append(observation.tobytes() + np.float64([reward, info["cost"], terminated, truncated]).tobytes())
    return b"".join(seen)


def random_actions(rng: np.random.Generator, name: str, steps: int) -> np.ndarray:
    return rng.uniform(-1, 1, (steps, get_task(name).action_size)).astype(np.float32)


def live_a_little(env: gymnasium.Env, name: str, rng: np.random.Generator) -> None:
    env.reset(seed=int(rng.integers(100)))
    for action in random_actions(rng, name, int(rng.integers(1, 20))) * rng.choice([0.1, 1.0]):
        env.step(action)


@pytest.mark.parametrize("name", NAMES)
def test_reset_forgets_every_history(name: str):
    rng = np.random.default_rng(0)
    actions = random_actions(rng, name, 20)
    fresh, used = make_env(name), make_env(name, render=True)
    first = trajectory(fresh, 7, actions)
    assert trajectory(fresh, 7, actions) == first
    # before the contacts were broken, one history in twelve showed on BallRun and one in thirty on DroneRun
    for _ in range(30 if name in ("BallRun", "DroneRun") else 5):
        live_a_little(used, name, rng)
        assert trajectory(used, 7, actions) == first
    assert trajectory(used, 8, actions) != first


@pytest.mark.parametrize("name", NAMES)
def test_shapes_types_and_horizon(name: str):
    task, env = get_task(name), make_env(name)
    observation, info = env.reset(seed=0)
    assert observation.shape == (task.observation_size,)
    assert observation.dtype == np.float32
    assert type(info["cost"]) is float
    still = np.zeros(task.action_size, np.float32)
    for step in range(1, task.horizon + 1):
        observation, reward, terminated, truncated, info = env.step(still)
        assert truncated == (step == task.horizon)
        if terminated:
            break
    assert terminated or truncated
    assert observation.shape == (task.observation_size,)
    assert observation.dtype == np.float32
    assert type(reward) is float
    assert type(terminated) is bool
    assert type(info["cost"]) is float


def test_cost_is_one_where_the_ball_is_too_fast():
    env = make_env("BallRun")
    env.reset(seed=0)
    costs = [env.step(np.array([1.0, 0.0]))[4]["cost"] for _ in range(60)]
    assert set(costs) == {0.0, 1.0}
    assert costs == sorted(costs)  # full thrust ahead: below the speed limit of 2.5 m/s, then above it


def test_numpys_global_generator_is_left_alone():
    np.random.seed(3)  # noqa: NPY002
    expected = np.random.random(5)  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    env = make_env("CarRun")
    env.reset(seed=1)
    env.reset()
    env.step(np.zeros(2))
    assert np.array_equal(np.random.random(5), expected)  # noqa: NPY002


def test_unseeded_resets_differ_and_follow_the_last_seed():
    env = make_env("BallRun")

    def three() -> list[bytes]:
        return [env.reset(seed=5)[0].tobytes(), env.reset()[0].tobytes(), env.reset()[0].tobytes()]

    first = three()
    assert len(set(first)) == 3
    assert three() == first


@pytest.mark.parametrize("name", ["DroneRun", "BallCircle"])
def test_render_shows_a_picture(name: str):
    env = make_env(name, render=True)
    env.reset(seed=0)
    picture = env.render()
    assert picture.shape == (360, 480, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 20


def test_render_must_be_asked_for():
    with pytest.raises(SimulatorError, match="render=True"):
        make_env("BallRun").render()


@pytest.mark.parametrize("action", [[np.nan, 0.0], [0.0, 0.0, 0.0]])
def test_impossible_actions_are_named(action: list[float]):
    env = make_env("BallRun")
    env.reset(seed=0)
    with pytest.raises(SimulatorError, match="cannot execute the action"):
        env.step(np.array(action))


def test_unknown_task():
    with pytest.raises(TaskError):
        make_env("BallJump")
