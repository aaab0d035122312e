"""The registry of simulator suites. Each is one module, imported only when asked for, so that none can hide another.

A suite's module has two functions: `build(env_id, horizon, *, render) -> gymnasium.Env` with the promises of
`safetrax.envs.make.make_env`, and `versions() -> str`.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from safetrax.catalogue import OWN, tasks
from safetrax.envs.silence import silenced
from safetrax.errors import SafeTraXWarning, SimulatorError

if TYPE_CHECKING:
    import gymnasium


@dataclass(frozen=True)
class Suite:
    """What is known of a suite without importing it.

    Attributes:
        module: where its code is.
        install: how its simulator is installed.
        newest: last Python that the simulator has builds for; None: any.
        fast: environments that are built in 50 ms and step about 10,000 times a second, so that more of them side by
            side pay; of the others, a few keep the workers busy.
        one_per_process: a second environment in the same process would break the first.
        compiled: module that runs whole episodes as one JAX program, `world_of(env_id)` and `play`, so that an
            evaluation needs no worker processes.
    """

    module: str
    install: str
    newest: tuple[int, int] | None = None
    fast: tuple[str, ...] = ()
    one_per_process: bool = False
    compiled: str | None = None

    @property
    def remedy(self) -> str:
        """What to do where the simulator is missing, in this Python."""
        here = sys.version_info[:2]
        if self.newest is None or here <= self.newest:
            return self.install
        newest, this = (".".join(map(str, version)) for version in (self.newest, here))
        return (
            f"it has no builds for Python {this}, so install it in a Python {newest} ({self.install}), and evaluate "
            "with --simulator-python PATH, that Python's"
        )


SUITES = {
    "bullet": Suite(
        "safetrax.envs.bullet",
        'pip install "safetrax[bullet]"',
        (3, 11),
        fast=("SafetyBallRun-v0", "SafetyBallCircle-v0"),
    ),
    "safety_gymnasium": Suite(
        "safetrax.envs.safety_gymnasium",
        'pip install "safetrax[safety-gymnasium]" && pip install --no-deps safety-gymnasium==0.4.1',
        (3, 11),
        fast=tuple(
            f"Offline{robot}VelocityGymnasium-v1" for robot in ("HalfCheetah", "Hopper", "Swimmer", "Walker2d")
        ),
    ),
    "metadrive": Suite(
        "safetrax.envs.metadrive",
        'pip install "safetrax[metadrive]" && pip install --no-deps metadrive-simulator==0.2.6.0',
        one_per_process=True,
    ),
}
# beside the benchmark: a world of our own, and whatever else is registered
_GYMNASIUM = 'pip install "safetrax[gymnasium]"'
_OTHER = {
    "reach_avoid": Suite(
        "safetrax.envs.reach_avoid",
        _GYMNASIUM,
        fast=("ReachAvoid-v0", "ReachAvoid-FISOR-v0", "ReachAvoid-Hazard-v0"),
        compiled="safetrax.envs.reach_avoid.play",
    ),
    OWN: Suite("safetrax.envs.gymnasium_env", _GYMNASIUM),
}


def build_env(suite: str, env_id: str, horizon: int | None, *, render: bool = False) -> gymnasium.Env[Any, Any]:
    """The environment `env_id` of a suite, truncated after `horizon` steps; None: as one's own is registered.

    Raises:
        SimulatorError: the suite is unknown to this version, not installed, or refuses to start.
    """
    module = load_suite(suite)
    with silenced(), _explained(suite):
        env: gymnasium.Env[Any, Any] = module.build(env_id, horizon, render=render)
    return env


def describe(env: Any, name: str) -> dict[str, Any]:
    """What a task says of its environment, once it is made, by the names of `Task`; an episode is begun and left.

    Raises:
        SimulatorError: its first step fails, or reports no cost.
    """
    low, high, choices = env.action_space.low, env.action_space.high, getattr(env, "action_choices", 0)
    try:
        with silenced():
            first, again = env.reset(seed=0)[0], env.reset(seed=0)[0]
            env.step(np.eye(choices)[0] if choices else (low + high) / 2)
    except SimulatorError:
        raise
    except Exception as error:
        raise SimulatorError(f"{name} fails in its first step ({type(error).__name__}: {error}).") from error
    if not np.array_equal(first, again):
        warnings.warn(
            f"two resets of {name} with the same seed begin differently, so that no evaluation can be repeated; draw "
            "from self.np_random after super().reset(seed=seed).",
            SafeTraXWarning,
            stacklevel=2,
        )
    return {
        "horizon": env.horizon,
        "observation_size": len(first),
        "action_size": len(low),
        "action_low": tuple(low.tolist()),
        "action_high": tuple(high.tolist()),
        "action_choices": choices,
        "observation_parts": getattr(env, "observation_parts", ()),
    }


def require_suite(suite: str) -> Suite:
    """The registry's entry of a suite, without importing it.

    Raises:
        SimulatorError: this version has none.
    """
    known = SUITES | _OTHER
    if suite not in known:
        raise SimulatorError(
            f"the suite {suite!r} is not supported by this version; it has environments of: {', '.join(SUITES)}."
        )
    return known[suite]


def suite_status() -> list[tuple[str, bool, str]]:
    """One `(suite, usable, versions or remedy)` for every suite of the benchmark. Imports the simulators."""
    return [status_of(suite) for suite in SUITES]


def status_of(suite: str, *, probe: bool = False) -> tuple[str, bool, str]:
    """`(suite, usable, versions or remedy)`; with `probe`, an environment of it is also built and reset."""
    try:
        versions = load_suite(suite).versions()
        if probe:
            first = tasks(suite)[0]
            env = build_env(suite, first.env_id, first.horizon)
            with silenced(), _explained(suite):
                env.reset(seed=0)
                env.close()  # type: ignore[no-untyped-call]
        return suite, True, versions
    except SimulatorError as error:
        return suite, False, str(error)


def load_suite(suite: str) -> Any:
    """The suite's module, with its simulator imported.

    Raises:
        SimulatorError: the suite is unknown to this version, not installed, or refuses to start.
    """
    entry = require_suite(suite)
    with silenced(), _explained(suite):
        return importlib.import_module(entry.module)


@contextmanager
def _explained(suite: str) -> Iterator[None]:
    """Turn whatever a simulator raises while it is imported or built into one sentence."""
    try:
        yield
    except SimulatorError:
        raise
    except Exception as error:
        what = f"does not work ({type(error).__name__}: {' '.join(str(error).split())})"
        if isinstance(error, ImportError):
            what = f"cannot be imported ({error})"
        raise SimulatorError(f"the {suite} simulator {what}; {require_suite(suite).remedy}.") from error
