"""The reach-avoid world's arithmetic, the same for numpy's arrays and JAX's.

A point that accelerates and turns drives to a goal past two round hazards: PointRobot of FISOR (Zheng et al., ICLR
2024, arXiv:2401.10700), the toy of BARS's Figure 1 and appendix D.1. What differs from either is in
docs/reach-avoid.md. JAX is not imported here, as worker processes do without it.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Key

from safetrax.errors import ConfigError

Numbers = Any  # numpy's arrays or JAX's

BARS_START = (-0.8, -1.5, 1.2, math.pi / 4)  # Figure 1
FISOR_START = (-1.8, 0.0, 2.0, math.pi / 4)  # FISOR's code
HAZARD_START = (0.0, -0.8, 1.2, math.pi / 4)  # inside the lower hazard, as in BARS's appendix D.2
STARTS = {"ReachAvoid-v0": BARS_START, "ReachAvoid-FISOR-v0": FISOR_START, "ReachAvoid-Hazard-v0": HAZARD_START}
"""Where the episodes of each environment id start."""


class Step(NamedTuple):
    """What one step leads to.

    Attributes:
        state: the new one.
        reward: decrease of the distance to the goal in metres, and the bonus on arrival.
        cost: 1 where the new state is inside a hazard, else 0.
        terminated: the goal is reached, or the arena left.
    """

    state: Float[Numbers, "*batch 4"]
    reward: Float[Numbers, "*batch"]
    cost: Float[Numbers, "*batch"]
    terminated: Bool[Numbers, "*batch"]


@dataclass(frozen=True)
class ReachAvoid:
    """The world as pure functions of states (x, y, v, theta): metres, m/s, radians.

    `reset`, `observe` and `step` can be jitted, vmapped and called with batches of any shape; nothing else is kept
    between steps. `safetrax.envs.reach_avoid.play.play` runs whole episodes.

    Attributes:
        start: x, y, v, theta around which episodes start.
        spread: greatest difference of each of these from `start`.
        dt: seconds per step.
        horizon: steps after which an episode is truncated.
        acceleration: m/s^2 at an action of 1.
        turn_rate: rad/s at an action of 1.
        top_speed: the speed stays between 0 and this, in m/s.
        hazards: centres.
        hazard_radius: metres.
        goal: centre.
        goal_radius: metres.
        bonus: reward of arriving.
        arena: an episode ends where |x| or |y| exceeds it.

    Raises:
        ConfigError: a number is out of range.
    """

    start: tuple[float, float, float, float] = BARS_START
    spread: float = 0.02
    dt: float = 0.05
    horizon: int = 300
    acceleration: float = 1.0
    turn_rate: float = 1.0
    top_speed: float = 2.0
    hazards: tuple[tuple[float, float], ...] = ((0.4, -1.2), (-0.4, 1.2))
    hazard_radius: float = 0.8
    goal: tuple[float, float] = (2.2, 2.2)
    goal_radius: float = 0.3
    bonus: float = 1.0
    arena: float = 3.0

    def __post_init__(self) -> None:
        for name in ("dt", "horizon", "acceleration", "turn_rate", "top_speed", "hazard_radius", "goal_radius"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} of the reach-avoid world is {getattr(self, name)}, but must be positive.")
        if not 0 <= self.start[2] <= self.top_speed:
            raise ConfigError(f"the start's speed is {self.start[2]:g}, but must be 0 to {self.top_speed:g}.")

    @property
    def observation_size(self) -> int:
        """O."""
        return 7 + 2 * len(self.hazards)

    def reset(self, key: Key[Numbers, ""]) -> Float[Numbers, " 4"]:
        """A state to start from, drawn with JAX's generator."""
        import jax

        return self._started(jax.random.uniform(key, (4,), minval=-1.0, maxval=1.0))

    def draw(self, generator: np.random.Generator) -> Float32[np.ndarray, " 4"]:
        """A state to start from, drawn with numpy's generator, as the gymnasium environment does."""
        return np.asarray(self._started(generator.uniform(-1.0, 1.0, 4).astype(np.float32)))

    def _started(self, unit: Float[Numbers, " 4"]) -> Float[Numbers, " 4"]:
        xp = unit.__array_namespace__()
        start = xp.asarray(self.start, dtype=unit.dtype) + self.spread * unit
        return xp.stack([start[0], start[1], xp.clip(start[2], 0.0, self.top_speed), start[3]])

    def observe(self, state: Float[Numbers, "*batch 4"]) -> Float[Numbers, "*batch O"]:
        """x, y, v, cos theta, sin theta, then the vectors to the goal and to each hazard's centre."""
        xp = state.__array_namespace__()
        x, y, v, theta = (state[..., i] for i in range(4))
        vectors = [part for px, py in (self.goal, *self.hazards) for part in (px - x, py - y)]
        return xp.stack([x, y, v, xp.cos(theta), xp.sin(theta), *vectors], axis=-1)

    def state_of(self, observation: Float[Numbers, "*batch O"]) -> Float[Numbers, "*batch 4"]:
        """The state that is observed so; theta between -pi and pi."""
        xp = observation.__array_namespace__()
        theta = xp.arctan2(observation[..., 4], observation[..., 3])
        return xp.concatenate([observation[..., :3], theta[..., None]], axis=-1)

    def step(self, state: Float[Numbers, "*#batch 4"], action: Float[Numbers, "*#batch 2"]) -> Step:
        """One step of explicit Euler; `action` is (acceleration, turn), cut to [-1, 1]."""
        xp = state.__array_namespace__()
        push, turn = xp.clip(action[..., 0], -1.0, 1.0), xp.clip(action[..., 1], -1.0, 1.0)
        x, y, v, theta = (state[..., i] for i in range(4))
        new_x, new_y = x + self.dt * v * xp.cos(theta), y + self.dt * v * xp.sin(theta)
        new_v = xp.clip(v + self.dt * self.acceleration * push, 0.0, self.top_speed)
        new_theta = theta + self.dt * self.turn_rate * turn
        new = xp.stack(xp.broadcast_arrays(new_x, new_y, new_v, new_theta), axis=-1)
        left = self.distance(new)
        arrived = left <= self.goal_radius
        reward = self.distance(state) - left + xp.where(arrived, xp.asarray(self.bonus, dtype=new.dtype), 0)
        outside = (abs(new_x) > self.arena) | (abs(new_y) > self.arena)
        cost = xp.asarray(self.clearance(new) < 0, dtype=new.dtype)
        return Step(new, reward, cost, arrived | outside)

    def distance(self, state: Float[Numbers, "*batch 4"]) -> Float[Numbers, "*batch"]:
        """Metres to the goal's centre."""
        return _distance(state, self.goal)

    def clearance(self, state: Float[Numbers, "*batch 4"]) -> Float[Numbers, "*batch"]:
        """Metres to the nearest hazard's edge, negative inside: -h of the papers."""
        distances = (_distance(state, centre) for centre in self.hazards)
        return functools.reduce(state.__array_namespace__().minimum, distances) - self.hazard_radius


def _distance(state: Float[Numbers, "*batch 4"], point: tuple[float, float]) -> Float[Numbers, "*batch"]:
    xp = state.__array_namespace__()
    return xp.sqrt((state[..., 0] - point[0]) ** 2 + (state[..., 1] - point[1]) ** 2)
