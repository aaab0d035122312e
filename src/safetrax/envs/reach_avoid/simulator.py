"""The reach-avoid world as a gymnasium environment, stepped with numpy: worker processes need no JAX for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Float, Float32, UInt8
from typing_extensions import override

from safetrax.envs.reach_avoid.world import ReachAvoid
from safetrax.errors import SimulatorError

_WIDTH, _HEIGHT = 480, 360  # pixels
_PAPER, _OUTSIDE = (250, 250, 250), (222, 222, 222)
_HAZARD, _RIM, _GOAL = (244, 196, 178), (213, 94, 0), (120, 196, 160)
_POINT, _ALARM, _TRAIL = (0, 114, 178), (190, 20, 30), (120, 170, 205)
_TIP, _TAIL, _WING = 0.22, -0.13, 0.12  # metres: the arrow's outline


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

    @override
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32[np.ndarray, " O"], dict[str, Any]]:
        """Begin an episode; without a seed, the next one of the environment's own generator."""
        super().reset(seed=seed, options=options)
        self.state = self.world.draw(self.np_random)
        self._path = [(float(self.state[0]), float(self.state[1]))]
        self._cost, self._ended = 0.0, False
        return self.world.observe(self.state), {"cost": 0.0}

    @override
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

    @override
    def render(self) -> UInt8[np.ndarray, "height width 3"]:  # type: ignore[override]
        """The arena from above with the path so far: hazards red, the goal green, the point red while it costs.

        Raises:
            SimulatorError: the environment was made without `render=True`.
        """
        if self._picture is None:
            raise SimulatorError("this environment was made without render=True and has no picture.")
        return self._picture.draw(self.state, self._path, alarmed=self._cost > 0)


class Picture:
    """Paints a world; what never changes is painted once."""

    def __init__(self, world: ReachAvoid) -> None:
        self._scale = _HEIGHT / (2 * world.arena)  # pixels per metre
        self._x = (np.arange(_WIDTH) + 0.5 - _WIDTH / 2) / self._scale
        self._y = ((_HEIGHT / 2 - 0.5 - np.arange(_HEIGHT)) / self._scale)[:, None]
        ground = np.broadcast_to(np.array(_PAPER, np.float64), (_HEIGHT, _WIDTH, 3)).copy()
        ground[:, np.abs(self._x) > world.arena] = _OUTSIDE
        everywhere = np.s_[0:_HEIGHT, 0:_WIDTH]
        for centre in world.hazards:
            far = np.hypot(self._x - centre[0], self._y - centre[1]) - world.hazard_radius
            self._paint(ground, everywhere, far, _HAZARD)
            self._paint(ground, everywhere, np.abs(far) - 0.8 / self._scale, _RIM)
        self._paint(
            ground, everywhere, np.hypot(self._x - world.goal[0], self._y - world.goal[1]) - world.goal_radius, _GOAL
        )
        self._ground = ground

    def draw(
        self, state: Float[np.ndarray, " 4"], path: Sequence[tuple[float, float]], *, alarmed: bool
    ) -> UInt8[np.ndarray, "height width 3"]:
        """The picture of now.

        Args:
            state: x, y, v, theta.
            path: where the point has been.
            alarmed: whether it costs something now.
        """
        image = self._ground.copy()
        for x, y in path:
            window = self._window(x, y, 0.06)
            self._paint(image, window, np.hypot(self._x[window[1]] - x, self._y[window[0]] - y) - 0.02, _TRAIL)
        x, y, _, theta = (float(number) for number in state)
        window = self._window(x, y, 0.3)
        self._paint(image, window, self._arrow(window, x, y, theta), _ALARM if alarmed else _POINT)
        return image.round().astype(np.uint8)

    def _window(self, x: float, y: float, reach: float) -> tuple[slice, slice]:
        """Rows and columns of the pixels within `reach` metres."""
        column, row = x * self._scale + _WIDTH / 2, _HEIGHT / 2 - y * self._scale
        size = reach * self._scale + 1
        return (
            slice(*np.clip([int(row - size), int(row + size) + 1], 0, _HEIGHT).tolist()),
            slice(*np.clip([int(column - size), int(column + size) + 1], 0, _WIDTH).tolist()),
        )

    def _arrow(self, window: tuple[slice, slice], x: float, y: float, theta: float) -> Float[np.ndarray, "h w"]:
        """Metres outside of the arrow's outline, negative inside."""
        right, up = self._x[window[1]] - x, self._y[window[0]] - y
        ahead = np.cos(theta) * right + np.sin(theta) * up
        aside = np.abs(np.cos(theta) * up - np.sin(theta) * right)
        slope = np.hypot(_TIP - _TAIL, _WING)
        flank = (_WING * (ahead - _TIP) + (_TIP - _TAIL) * aside) / slope
        return np.asarray(np.maximum(flank, _TAIL - ahead))

    def _paint(
        self,
        image: Float[np.ndarray, "height width 3"],
        window: tuple[slice, slice],
        outside: Float[np.ndarray, "h w"],
        colour: tuple[int, int, int],
    ) -> None:
        """Colour the pixels that are inside, those on the edge in part. `outside`: metres to the shape's edge."""
        share = np.clip(0.5 - outside * self._scale, 0.0, 1.0)[..., None]
        image[window] = (1.0 - share) * image[window] + share * np.array(colour, np.float64)
