"""The reach-avoid arena from above, painted with numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from safetrax.envs.reach_avoid.world import ReachAvoid

_WIDTH, _HEIGHT = 480, 360  # pixels
_PAPER, _OUTSIDE = (250, 250, 250), (222, 222, 222)
_HAZARD, _RIM, _GOAL = (244, 196, 178), (213, 94, 0), (120, 196, 160)
_POINT, _ALARM, _TRAIL = (0, 114, 178), (190, 20, 30), (120, 170, 205)
_TIP, _TAIL, _WING = 0.22, -0.13, 0.12  # metres: the arrow's outline


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
