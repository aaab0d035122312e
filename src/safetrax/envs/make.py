"""From the name of a task to its environment."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from safetrax.catalogue import Task, get_task
from safetrax.envs.suites import build_env, describe, load_suite, require_suite
from safetrax.envs.worker_handle import describe_elsewhere
from safetrax.errors import ConfigError

if TYPE_CHECKING:
    import gymnasium


def make_env(task: str, *, horizon: int | None = None, render: bool = False) -> gymnasium.Env[Any, Any]:
    """The environment of a benchmark task, made reproducible; or one's own, with a cost in every `info`.

    * `reset(seed=s)` is bitwise the same whatever happened before, in this environment or in another process, and
      leaves numpy's global generator as it was.
    * `step` returns gymnasium's five values; `info["cost"]` is always a float, and `truncated` is set at the horizon.
    * Observations are float32 `(O,)`; actions of any float width are clipped to [-1, 1], and reach the simulator
      in the width with which it reproduces the benchmark. One's own takes actions in its own units.
    * With `render=True`, `render()` returns an RGB picture, uint8 `(height, width, 3)`, without a display.

    Args:
        task: short name such as `BallRun`, or the name of its environment.
        horizon: steps after which an episode of one's own environment is truncated; by default as registered.
        render: prepare for `render()`; the trajectories are the same with and without it.

    Raises:
        TaskError: there is no such task.
        ConfigError: the horizon contradicts the benchmark's.
        SimulatorError: its simulator is not installed, or its suite is not supported by this version.
    """
    found = _found(task, horizon)
    return build_env(found.suite, found.env_id, found.horizon or None, render=render)


def require_simulator(task: str) -> None:
    """Check that a task can be simulated here, by importing its simulator, or making one's own environment.

    Raises:
        TaskError: there is no such task.
        SimulatorError: its simulator is not installed, or its suite is not supported by this version.
    """
    load_suite(require_task(task).suite)


def require_task(task: str, *, horizon: int | None = None, python: str | None = None) -> Task:
    """What is known of a task that this version can simulate. Imports no simulator, but makes one's own environment.

    Args:
        task: its name.
        horizon: steps after which an episode of one's own environment is truncated; by default as registered.
        python: the interpreter that has the simulator, which then is tried; None: this one.

    Raises:
        TaskError: there is no such task.
        ConfigError: the horizon contradicts the benchmark's.
        SimulatorError: its suite is not supported by this version, or one's own environment cannot be made or used.
    """
    found = _found(task, horizon)
    if python is not None:
        return describe_elsewhere(found, python)
    if not found.own:
        return found
    env = build_env(found.suite, found.env_id, found.horizon or None)
    try:
        return replace(found, **describe(env, found.name))
    finally:
        env.close()  # type: ignore[no-untyped-call]


def _found(task: str, horizon: int | None) -> Task:
    """With the horizon, where that is asked for."""
    found = get_task(task)
    require_suite(found.suite)
    if horizon is None:
        return found
    if not found.own and horizon != found.horizon:
        raise ConfigError(f"the horizon of {found.name} is {found.horizon} and cannot be {horizon}.")
    if horizon < 1:
        raise ConfigError(f"the horizon must be at least 1 step, got {horizon}.")
    return replace(found, horizon=horizon)
