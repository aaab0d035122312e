"""From the name of a task to its environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from safetrax.catalogue import Task, get_task
from safetrax.envs.suites import build_env, load_suite, require_suite

if TYPE_CHECKING:
    import gymnasium


def make_env(task: str, *, render: bool = False) -> gymnasium.Env[Any, Any]:
    """The environment of a benchmark task, made reproducible.

    * `reset(seed=s)` is bitwise the same whatever happened before, in this environment or in another process, and
      leaves numpy's global generator as it was.
    * `step` returns gymnasium's five values; `info["cost"]` is always a float, and `truncated` is set at the horizon.
    * Observations are float32 `(O,)`; actions of any float width are clipped to [-1, 1], and reach the simulator
      in the width with which it reproduces the benchmark.
    * With `render=True`, `render()` returns an RGB picture, uint8 `(height, width, 3)`, without a display.

    Args:
        task: short name such as `BallRun`, or the name of its environment.
        render: prepare for `render()`; the trajectories are the same with and without it.

    Raises:
        TaskError: there is no such task.
        SimulatorError: its simulator is not installed, or its suite is not supported by this version.
    """
    found = require_task(task)
    return build_env(found.suite, found.env_id, found.horizon, render=render)


def require_simulator(task: str) -> None:
    """Check that a task can be simulated here, by importing its simulator.

    Raises:
        TaskError: there is no such task.
        SimulatorError: its simulator is not installed, or its suite is not supported by this version.
    """
    load_suite(require_task(task).suite)


def require_task(task: str) -> Task:
    """The benchmark's entry of a task that this version can simulate. Imports no simulator.

    Raises:
        TaskError: there is no such task.
        SimulatorError: its suite is not supported by this version.
    """
    found = get_task(task)
    require_suite(found.suite)
    return found
