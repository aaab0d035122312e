"""Any registered Gymnasium environment that reports a cost in `info["cost"]`, for collecting data in it."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from typing_extensions import override

from safetrax.errors import SimulatorError

if TYPE_CHECKING:
    from safetrax.catalogue import Task

SUITE = "gymnasium"


def versions() -> str:
    """Gymnasium's."""
    return f"gymnasium {version('gymnasium')}"


def describe(env_id: str, horizon: int | None = None) -> tuple[Task, np.ndarray, np.ndarray]:
    """What a collection must know of an environment, and the bounds of its actions, float32 `(A,)` each.

    Args:
        env_id: as `gymnasium.make` takes it.
        horizon: steps after which an episode is truncated; by default the registration's.

    Raises:
        SimulatorError: it cannot be made, or has no time limit and `horizon` is not given.
    """
    from safetrax.catalogue import Task  # late: worker processes import this module

    env = CostEnv(env_id, horizon or 1)
    limit = horizon or (env.spec.max_episode_steps if env.spec else None)
    env.close()  # type: ignore[no-untyped-call]
    if limit is None:
        raise SimulatorError(f"{env_id} has no time limit; pass a horizon, the most steps of an episode.")
    task = Task(
        name=env_id,
        suite=SUITE,
        env_id=env_id,
        horizon=limit,
        reward_min=0.0,
        reward_max=1.0,
        cost_min=0.0,
        cost_max=float("inf"),
        observation_size=int(np.prod(env.observation_space.shape or ())),
        action_size=len(env.action_low),
        cost_limits=(),
        dataset_file="",
    )
    return task, env.action_low, env.action_high


class CostEnv(gymnasium.Wrapper[np.ndarray, np.ndarray, Any, Any]):
    """Flat float32 observations, actions in [-1, 1] stretched to the bounds, a cost that must be there.

    Attributes:
        action_low: lower bounds of the environment's own actions, float32 `(A,)`.
        action_high: upper bounds.

    Raises:
        SimulatorError: its spaces are no boxes of finite size, or it cannot be made.
    """

    def __init__(self, env_id: str, horizon: int, *, render: bool = False) -> None:
        """`env_id`: may begin with `module:` to say what registers it."""
        # the flag only where it is needed: not every environment takes it
        mode: dict[str, Any] = {"render_mode": "rgb_array"} if render else {}
        try:
            made = gymnasium.make(env_id, **mode)
        except Exception as error:  # of Gymnasium, of the module that registers it, or of its own constructor
            raise SimulatorError(f"{env_id} cannot be made ({type(error).__name__}: {error}).") from error
        super().__init__(made)
        self._id, self._horizon = env_id, horizon
        self._steps = 0
        observations, actions = self.env.observation_space, self.env.action_space
        for name, space in (("observations", observations), ("actions", actions)):
            if not isinstance(space, gymnasium.spaces.Box):
                raise SimulatorError(f"the {name} of {env_id} are a {type(space).__name__}; wrap them into a Box.")
        assert isinstance(actions, gymnasium.spaces.Box)
        self.action_low, self.action_high = (
            bound.astype(np.float32).ravel() for bound in (actions.low, actions.high)
        )
        if not (np.isfinite(self.action_low).all() and np.isfinite(self.action_high).all()):
            raise SimulatorError(f"the actions of {env_id} are not bounded; wrap it so that they are.")
        self._action_shape = actions.shape

    @override
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        self._steps = 0
        return np.asarray(observation, np.float32).ravel(), {**info, "cost": 0.0}

    @override
    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        unit = (np.clip(np.asarray(action, np.float32), -1.0, 1.0) + 1.0) / 2.0
        low, high = self.action_low, self.action_high
        own = np.clip(low + unit * (high - low), low, high).reshape(self._action_shape)
        observation, reward, terminated, truncated, info = self.env.step(own)
        if "cost" not in info:
            raise SimulatorError(f'{self._id} reports no info["cost"]; wrap it so that every step does.')
        self._steps += 1
        truncated = bool(truncated or self._steps >= self._horizon)
        info = {**info, "cost": float(info["cost"])}
        return np.asarray(observation, np.float32).ravel(), float(reward), bool(terminated), truncated, info


build = CostEnv
