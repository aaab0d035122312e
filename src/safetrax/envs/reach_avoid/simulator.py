"""The reach-avoid world as a gymnasium environment, stepped with numpy: worker processes need no JAX for it."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Float32, UInt8

from safetrax.envs.reach_avoid.picture import Picture
from safetrax.envs.reach_avoid.world import ReachAvoid
from safetrax.errors import SimulatorError


class ReachAvoidEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """One episode at a time of a `ReachAvoid`.

    Attributes:
        world: with its horizon.
        state: x, y, v, theta.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 (gymnasium's declaration)

    def __init__(self, world: ReachAvoid, *, render: bool = False) -> None:
        self.world = world
        self.render_mode = "rgb_array" if render else None
        self.state = np.zeros(4, np.float32)
        self._path: list[tuple[float, float]] = []
        self._cost, self._ended = 0.0, True
        self._picture = Picture(world) if render else None
        bound = np.full(world.observation_size, np.inf, np.float32)
        self.observation_space = gymnasium.spaces.Box(-bound, bound)
        self.action_space = gymnasium.spaces.Box(-np.ones(2, np.float32), np.ones(2, np.float32))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32[np.ndarray, " O"], dict[str, Any]]:
        """Begin an episode; without a seed, the next one of the environment's own generator."""
        super().reset(seed=seed, options=options)
        self.state = self.world.draw(self.np_random)
        self._path = [(float(self.state[0]), float(self.state[1]))]
        self._cost, self._ended = 0.0, False
        return self.world.observe(self.state), {"cost": 0.0}

    def step(self, action: np.ndarray) -> tuple[Float32[np.ndarray, " O"], float, bool, bool, dict[str, Any]]:
        """One step; gymnasium's five values, `info["cost"]` 0 or 1.

        Raises:
            SimulatorError: the action is not finite or has another size, or the episode has ended.
        """
        if self._ended:
            raise SimulatorError("there is no episode to step in: call reset() first.")
        pair = np.asarray(action, np.float32)
        if pair.shape != (2,) or not np.isfinite(pair).all():
            raise SimulatorError(f"the simulator cannot execute the action {pair.tolist()}.")
        step = self.world.step(self.state, pair)
        self.state, self._cost = step.state, float(step.cost)
        truncated = len(self._path) >= self.world.horizon
        self._path.append((float(self.state[0]), float(self.state[1])))
        terminated = bool(step.terminated)
        self._ended = terminated or truncated
        return self.world.observe(self.state), float(step.reward), terminated, truncated, {"cost": self._cost}

    def render(self) -> UInt8[np.ndarray, "height width 3"]:  # type: ignore[override]
        """The arena from above with the path so far: hazards red, the goal green, the point red while it costs.

        Raises:
            SimulatorError: the environment was made without `render=True`.
        """
        if self._picture is None:
            raise SimulatorError("this environment was made without render=True and has no picture.")
        return self._picture.draw(self.state, self._path, alarmed=self._cost > 0)
