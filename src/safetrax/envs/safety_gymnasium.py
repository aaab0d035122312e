"""The 21 tasks of Safety-Gymnasium (Ji et al., 2023): 16 of navigation, with Point and Car, and five of velocity."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from typing import Any

import gymnasium
import numpy as np

from safetrax.envs.randomness import global_numpy_seed
from safetrax.errors import SimulatorError

try:
    import mujoco
except Exception as error:
    if isinstance(error, ModuleNotFoundError) or "MUJOCO_GL" not in os.environ:
        raise
    raise SimulatorError(f"MuJoCo finds no OpenGL {os.environ['MUJOCO_GL']} here; unset MUJOCO_GL.") from error
import safety_gymnasium
import safety_gymnasium.world

from safetrax.envs.mujoco_picture import Painter

_PICTURE = (480, 360)  # width and height in pixels
_ARENA_CAMERA = {"distance": 5.4, "azimuth": 90.0, "elevation": -60.0}  # all of the arena, from above
_ROBOT_CAMERA = {"distance": 4.2, "azimuth": 90.0, "elevation": -14.0}  # beside the robot, moving with it
_SWIMMER_CAMERA = {"distance": 4.2, "azimuth": 90.0, "elevation": -42.0}
_QUICK_SEED = 19  # finds free places after few tries; with others a Button task can need half a second
# in place of the starry sky that takes most of a second to load in every reset
_SKY = '<texture type="skybox" builtin="gradient" rgb1="1 1 1" rgb2=".75 .82 .9" width="64" height="384"></texture>'
_SAFE, _UNSAFE = (0.2, 0.8, 0.2, 0.6), (1.0, 0.0, 0.0, 0.5)


def build(env_id: str, horizon: int, *, render: bool = False) -> gymnasium.Env[Any, Any]:
    """The environment `env_id`, with the promises of `safetrax.envs.make.make_env`.

    Raises:
        SimulatorError: with `render=True`, nothing here can draw without a display.
    """
    return SafetyGymnasiumEnv(env_id, horizon, render=render)


def versions() -> str:
    """The simulator's versions, for `safetrax doctor`."""
    return f"safety-gymnasium {version('safety-gymnasium')}, mujoco {version('mujoco')}"


class SafetyGymnasiumEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """A Safety-Gymnasium task. `reset(seed=s)` is the simulator's own reset with that seed.

    Attributes:
        horizon: steps after which an episode is truncated.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012 (gymnasium's declaration)

    def __init__(self, env_id: str, horizon: int, *, render: bool = False) -> None:
        self.horizon = horizon
        self.render_mode = "rgb_array" if render else None
        self._painter = Painter(*_PICTURE) if render else None
        with global_numpy_seed(0):  # a navigation task takes its first seed from it
            self._simulator = safety_gymnasium.make(_simulator_id(env_id)).unwrapped
        # a navigation task keeps its MuJoCo model in a `task`, and makes a new one in every reset
        self._task = getattr(self._simulator, "task", None)
        if self._task is not None:
            self._task.num_steps = horizon  # it refuses to step beyond its own limit
            # the first reset solves for contacts once less than later ones, from which Car's last digits differ
            with _textures(visible=False):
                self._simulator.reset(seed=_QUICK_SEED)
        self._steps, self._ended, self._cost = 0, True, 0.0
        bound = np.full(self._simulator.observation_space.shape, np.inf, np.float32)
        self.observation_space = gymnasium.spaces.Box(-bound, bound)
        unit = np.ones(self._simulator.action_space.shape, np.float32)
        self.action_space = gymnasium.spaces.Box(-unit, unit)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode; without a seed, the next one of the environment's own generator."""
        super().reset(seed=seed, options=options)
        if seed is None:
            seed = int(self.np_random.integers(2**32))
        with _textures(visible=self._painter is not None):
            observation, _ = self._simulator.reset(seed=seed % 2**32)
        self._steps, self._ended, self._cost = 0, False, 0.0
        return observation.astype(np.float32), {"cost": 0.0}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One step of the simulator; gymnasium's five values, `info["cost"]` a float, 0 or 1.

        Raises:
            SimulatorError: the action is not finite or has another size, or the episode has ended.
        """
        if self._ended:
            raise SimulatorError("there is no episode to step in: call reset() first.")
        wide = np.asarray(action, np.float64)
        if wide.shape != self.action_space.shape or not np.isfinite(wide).all():
            raise SimulatorError(f"the simulator cannot execute the action {wide.tolist()}.")
        observation, reward, cost, terminated, _, info = self._simulator.step(wide.clip(-1.0, 1.0))
        self._steps += 1
        truncated = self._steps >= self.horizon
        self._cost = info["cost"] = float(cost)
        self._ended = terminated or truncated
        return observation.astype(np.float32), float(reward), bool(terminated), truncated, info

    def render(self) -> np.ndarray:  # type: ignore[override]
        """A picture of the robot and its surroundings, uint8 `(height, width, 3)`.

        A ball marks the robot while it costs something; that of a velocity task is green otherwise.

        Raises:
            SimulatorError: the environment was made without `render=True`.
        """
        if self._painter is None:
            raise SimulatorError("this environment was made without render=True and has no picture.")
        if self._task is not None:
            place = self._task.agent.pos
            balls = [(place, 0.3, _UNSAFE)] if self._cost else []
            target = place - place.clip(-2.0, 2.0)  # the middle, unless the robot has left the arena
            return self._painter.paint(self._task.model, self._task.data, target, _ARENA_CAMERA, balls)
        model, data = self._simulator.model, self._simulator.data
        place = data.body("torso").xpos
        balls = [(place + np.array([0.0, 0.0, 0.6]), 0.15, _UNSAFE if self._cost else _SAFE)]
        target = np.append(place[:2], 0.75 * model.body("torso").pos[2])  # a height that does not bounce
        camera = _SWIMMER_CAMERA if "Swimmer" in type(self._simulator).__name__ else _ROBOT_CAMERA
        return self._painter.paint(model, data, target, camera, balls)

    def close(self) -> None:
        """Free the graphics memory."""
        if self._painter is not None:
            self._painter.close()
            self._painter = None


def _simulator_id(env_id: str) -> str:
    """`SafetyPointGoal1-v0` for DSRL's `OfflinePointGoal1Gymnasium-v0`."""
    return re.sub(r"^(?:Offline|Safety)(.*?)(?:Gymnasium)?-", r"Safety\1-", env_id)


class _CheapTextures:
    """Stands in for the module `mujoco` where navigation tasks compile their model, and simplifies the textures.

    Loading them takes 0.85 s, the rest of a reset a few milliseconds; the physics does not know them.
    """

    def __init__(self, *, visible: bool) -> None:
        self._visible = visible

    @property
    def MjModel(self) -> _CheapTextures:  # noqa: N802 (MuJoCo's name)
        return self

    def from_xml_string(self, xml: str) -> Any:
        """What `mujoco.MjModel.from_xml_string` would return, with other textures or none."""
        if self._visible:
            xml = re.sub(r'<texture type="skybox".*?</texture>', _SKY, xml)
        else:
            xml = re.sub(r"<texture .*?</texture>", "", xml)
            xml = re.sub(r'(<material [^>]*?) texture="[^"]*"', r"\1", xml)
        return mujoco.MjModel.from_xml_string(xml)

    def __getattr__(self, name: str) -> Any:
        return getattr(mujoco, name)


@contextmanager
def _textures(*, visible: bool) -> Iterator[None]:
    safety_gymnasium.world.mujoco = _CheapTextures(visible=visible)
    try:
        yield
    finally:
        safety_gymnasium.world.mujoco = mujoco


class _HashableArray(np.ndarray):
    """An array that Python 3.11 accepts as the default value of a dataclass's field."""

    __hash__ = object.__hash__  # type: ignore[assignment]


def _import_navigation() -> None:
    """Import the part of the simulator that Python 3.11's dataclasses reject for defaults that are arrays."""
    try:
        import_module("safety_gymnasium.builder")
    except ValueError:
        colours = import_module("safety_gymnasium.assets.color").COLOR
        colours.update({name: colour.view(_HashableArray) for name, colour in colours.items()})
        import_module("safety_gymnasium.builder")


_import_navigation()
