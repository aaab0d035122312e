"""What the environments of all suites have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Float32, UInt8
from numpy.typing import DTypeLike
from typing_extensions import override

from safetrax.errors import SimulatorError


class TaskEnv(gymnasium.Env[np.ndarray, np.ndarray], ABC):
    """An episode at a time, with a cost in `info`, and pictures if they are wanted.

    Attributes:
        horizon: steps after which an episode is truncated.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012 (gymnasium's declaration)
    _action_dtype: DTypeLike = np.float64  # in which the simulator gets actions

    def __init__(self, horizon: int, observation_size: int, action_size: int, *, render: bool) -> None:
        self.horizon = horizon
        self.render_mode = "rgb_array" if render else None
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (observation_size,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (action_size,), np.float32)
        self._steps, self._cost, self._ended = 0, 0.0, True  # the cost is the last step's

    @abstractmethod
    def _begin(self, seed: int | None, options: dict[str, Any]) -> np.ndarray:
        """The first observation of an episode; `self.np_random` is seeded with `seed` already."""

    @abstractmethod
    def _advance(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, dict[str, Any]]:
        """Observation, reward, terminated and `info` with the cost, for a finite action of the right size."""

    @abstractmethod
    def _picture(self) -> np.ndarray:
        """What `render` returns."""

    @override
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32[np.ndarray, " O"], dict[str, Any]]:
        """Begin an episode; without a seed, the next one of the environment's own generator."""
        super().reset(seed=seed)
        observation = self._begin(seed, options or {})
        self._steps, self._cost, self._ended = 0, 0.0, False
        return observation.astype(np.float32), {"cost": 0.0}

    @override
    def step(self, action: np.ndarray) -> tuple[Float32[np.ndarray, " O"], float, bool, bool, dict[str, Any]]:
        """One step; gymnasium's five values, `info["cost"]` a float.

        Raises:
            SimulatorError: the action is not finite or has another size, or there is no episode.
        """
        action = np.asarray(action, self._action_dtype)
        if action.shape != self.action_space.shape or not np.isfinite(action).all():
            raise SimulatorError(f"the simulator cannot execute the action {action.tolist()}.")
        observation, reward, terminated, info = self._advance(action)
        self._steps += 1
        self._cost = info["cost"] = float(info["cost"])
        truncated = self._steps >= self.horizon
        self._ended = bool(terminated) or truncated
        return observation.astype(np.float32), float(reward), bool(terminated), truncated, info

    @override
    def render(self) -> UInt8[np.ndarray, "height width 3"]:  # type: ignore[override]
        """A picture of now.

        Raises:
            SimulatorError: the environment was made without `render=True`, or there is no episode.
        """
        if self.render_mode is None:
            raise SimulatorError("this environment was made without render=True and has no picture.")
        return self._picture()

    def _require_episode(self) -> None:
        if self._ended:
            raise SimulatorError("there is no episode to step in: call reset() first.")


@contextmanager
def global_numpy_seed(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, from which simulators draw, for the block; then it is as if it had not been."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
