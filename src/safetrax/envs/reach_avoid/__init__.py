"""The reach-avoid world as a suite, for the registry of suites. Importing it needs neither gymnasium nor JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from safetrax._version import __version__
from safetrax.envs.reach_avoid.world import STARTS, ReachAvoid
from safetrax.errors import SimulatorError

if TYPE_CHECKING:
    import gymnasium


def build(env_id: str, horizon: int, *, render: bool = False) -> gymnasium.Env[Any, Any]:
    """The environment `env_id`, with the promises of `safetrax.envs.make.make_env`.

    Raises:
        SimulatorError: there is none of that name.
    """
    from safetrax.envs.reach_avoid.simulator import ReachAvoidEnv

    if env_id not in STARTS:
        raise SimulatorError(f"the reach-avoid world has no environment {env_id!r}; it has {', '.join(STARTS)}.")
    return ReachAvoidEnv(ReachAvoid(start=STARTS[env_id], horizon=horizon), render=render)


def versions() -> str:
    """The library's own: the world is a part of it."""
    return f"safetrax {__version__}"
