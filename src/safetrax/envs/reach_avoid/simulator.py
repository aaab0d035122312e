"""The reach-avoid world as a gymnasium environment, stepped with numpy: worker processes need no JAX for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, UInt8
from typing_extensions import override

from safetrax.envs.reach_avoid.world import ReachAvoid
from safetrax.envs.task_env import TaskEnv

_WIDTH, _HEIGHT = 480, 360  # pixels
_PAPER, _OUTSIDE = (250, 250, 250), (222, 222, 222)
_HAZARD, _RIM, _GOAL = (244, 196, 178), (213, 94, 0), (120, 196, 160)
_POINT, _ALARM, _TRAIL = (0, 114, 178), (190, 20, 30), (120, 170, 205)
_TIP, _TAIL, _WING = 0.22, -0.13, 0.12  # metres: the arrow's outline


class ReachAvoidEnv(TaskEnv):
    """One episode at a time of a `ReachAvoid`.

    Its pictures show the arena from above with the path so far: hazards red, the goal green, the point red while it
    costs.

    Attributes:
        world: with its horizon.
        state: x, y, v, theta.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 (gymnasium's declaration)
    _action_dtype = np.float32

    def __init__(self, world: ReachAvoid, *, render: bool = False) -> None:
        super().__init__(world.horizon, world.observation_size, 2, render=render)
        self.world = world
        self.state = np.zeros(4, np.float32)
        self._path: list[tuple[float, float]] = []
        self._canvas = Picture(world) if render else None

    @override
    def _begin(self, seed: int | None, options: dict[str, Any]) -> np.ndarray:
        self._path = []
        return self._moved(self.world.draw(self.np_random))

    @override
    def _advance(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, dict[str, Any]]:
        self._require_episode()
        step = self.world.step(self.state, action)
        return self._moved(step.state), float(step.reward), bool(step.terminated), {"cost": step.cost}

    @override
    def _picture(self) -> np.ndarray:
        assert self._canvas is not None
        return self._canvas.draw(self.state, self._path, alarmed=self._cost > 0)

    def _moved(self, state: Float32[np.ndarray, " 4"]) -> np.ndarray:
        self.state = state
        self._path.append((float(state[0]), float(state[1])))
        return np.asarray(self.world.observe(state))


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
            far = self._beyond(everywhere, centre, world.hazard_radius)
            self._paint(ground, everywhere, far, _HAZARD)
            self._paint(ground, everywhere, np.abs(far) - 0.8 / self._scale, _RIM)
        self._paint(ground, everywhere, self._beyond(everywhere, world.goal, world.goal_radius), _GOAL)
        self._ground = ground

    def draw(
        self, state: Float[np.ndarray, " 4"], path: Sequence[tuple[float, float]], *, alarmed: bool
    ) -> UInt8[np.ndarray, "height width 3"]:
        """The picture of a state (x, y, v, theta) after a path; `alarmed`: it costs something."""
        image = self._ground.copy()
        for point in path:
            window = self._window(*point, 0.06)
            self._paint(image, window, self._beyond(window, point, 0.02), _TRAIL)
        x, y, _, theta = state.tolist()
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

    def _beyond(
        self, window: tuple[slice, slice], centre: tuple[float, float], radius: float
    ) -> Float[np.ndarray, "h w"]:
        """Metres outside of a disc, negative inside."""
        distance = np.hypot(self._x[window[1]] - centre[0], self._y[window[0]] - centre[1])
        return np.asarray(distance - radius)

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
