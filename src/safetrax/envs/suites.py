"""The registry of simulator suites. Each is one module, imported only when asked for, so that none can hide another.

A suite's module has two functions: `build(env_id, horizon, *, render) -> gymnasium.Env` with the promises of
`safetrax.envs.make.make_env`, and `versions() -> str`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safetrax.envs.silence import silenced
from safetrax.errors import SimulatorError

if TYPE_CHECKING:
    import gymnasium


@dataclass(frozen=True)
class Suite:
    """What is known of a suite without importing it.

    Attributes:
        module: where its code is.
        remedy: how its simulator is installed.
        fast: environments that are built in 50 ms and step about 10,000 times a second, so that more of them side by
            side pay; of the others, a few keep the workers busy.
    """

    module: str
    remedy: str
    fast: tuple[str, ...] = ()


SUITES = {
    "bullet": Suite(
        "safetrax.envs.bullet", 'pip install "safetrax[bullet]"', ("SafetyBallRun-v0", "SafetyBallCircle-v0")
    ),
}
_PLANNED = ("safety_gymnasium", "metadrive")


def build_env(suite: str, env_id: str, horizon: int, *, render: bool = False) -> gymnasium.Env[Any, Any]:
    """The environment `env_id` of a suite, truncated after `horizon` steps.

    Raises:
        SimulatorError: the suite is unknown to this version, not installed, or refuses to start.
    """
    module = load_suite(suite)
    with silenced(), _explained(suite):
        env: gymnasium.Env[Any, Any] = module.build(env_id, horizon, render=render)
    return env


def require_suite(suite: str) -> Suite:
    """The registry's entry of a suite, without importing it.

    Raises:
        SimulatorError: this version has none.
    """
    if suite not in SUITES:
        raise SimulatorError(
            f"the suite {suite!r} is not supported by this version; it has environments of: {', '.join(SUITES)}."
        )
    return SUITES[suite]


def suite_status() -> list[tuple[str, bool, str]]:
    """One `(suite, usable, versions or remedy)` for every suite of the benchmark. Imports the simulators."""
    return [_status(suite) for suite in (*SUITES, *_PLANNED)]


def _status(suite: str) -> tuple[str, bool, str]:
    try:
        return suite, True, load_suite(suite).versions()
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
    except ImportError as error:
        remedy = SUITES[suite].remedy
        raise SimulatorError(f"the {suite} simulator cannot be imported ({error}); {remedy}.") from error
    except Exception as error:
        raise SimulatorError(f"the {suite} simulator does not start ({type(error).__name__}: {error}).") from error
