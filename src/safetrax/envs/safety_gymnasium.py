"""The 21 tasks of Safety-Gymnasium (Ji et al., 2023): 16 of navigation, with Point and Car, and five of velocity."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import numpy as np
from typing_extensions import override

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
from safetrax.envs.task_env import TaskEnv, global_numpy_seed

_PICTURE = (480, 360)  # width and height in pixels
_ARENA_CAMERA = {"distance": 5.4, "azimuth": 90.0, "elevation": -60.0}  # all of the arena, from above
_ROBOT_CAMERA = {"distance": 4.2, "azimuth": 90.0, "elevation": -14.0}  # beside the robot, moving with it
_SWIMMER_CAMERA = {"distance": 4.2, "azimuth": 90.0, "elevation": -42.0}
_QUICK_SEED = 19  # finds free places after few tries; with others a Button task can need half a second
# in place of the starry sky that takes most of a second to load in every reset
_SKY = '<texture type="skybox" builtin="gradient" rgb1="1 1 1" rgb2=".75 .82 .9" width="64" height="384"></texture>'
_SAFE, _UNSAFE = (0.2, 0.8, 0.2, 0.6), (1.0, 0.0, 0.0, 0.5)


def versions() -> str:
    """The simulator's versions, for `safetrax doctor`."""
    return f"safety-gymnasium {version('safety-gymnasium')}, mujoco {version('mujoco')}"


class SafetyGymnasiumEnv(TaskEnv):
    """A Safety-Gymnasium task. `reset(seed=s)` is the simulator's own reset with that seed.

    A picture marks the robot with a ball while it costs something; that of a velocity task is green otherwise.

    Raises:
        SimulatorError: with `render=True`, nothing here can draw without a display.
    """

    def __init__(self, env_id: str, horizon: int, *, render: bool = False) -> None:
        self._painter = Painter(*_PICTURE) if render else None
        # `SafetyPointGoal1-v0` for DSRL's `OfflinePointGoal1Gymnasium-v0`
        own_id = re.sub(r"^(?:Offline|Safety)(.*?)(?:Gymnasium)?-", r"Safety\1-", env_id)
        with global_numpy_seed(0):  # a navigation task takes its first seed from it
            self._simulator = safety_gymnasium.make(own_id).unwrapped
        sizes = (space.shape[0] for space in (self._simulator.observation_space, self._simulator.action_space))
        super().__init__(horizon, *sizes, render=render)
        # a navigation task keeps its MuJoCo model in a `task`, and makes a new one in every reset
        self._task = getattr(self._simulator, "task", None)
        if self._task is not None:
            self._task.num_steps = horizon  # it refuses to step beyond its own limit
            # the first reset solves for contacts once less than later ones, from which Car's last digits differ
            with _textures(visible=False):
                self._simulator.reset(seed=_QUICK_SEED)

    @override
    def _begin(self, seed: int | None, options: dict[str, Any]) -> np.ndarray:
        if seed is None:
            seed = int(self.np_random.integers(2**32))
        with _textures(visible=self._painter is not None):
            return np.asarray(self._simulator.reset(seed=seed % 2**32)[0])

    @override
    def _advance(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, dict[str, Any]]:
        self._require_episode()
        observation, reward, cost, terminated, _, info = self._simulator.step(action.clip(-1.0, 1.0))
        return observation, reward, terminated, {**info, "cost": cost}

    @override
    def _picture(self) -> np.ndarray:
        if self._painter is None:
            raise SimulatorError("this environment is closed and has no picture.")
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

    @override
    def close(self) -> None:
        if self._painter is not None:
            self._painter.close()
            self._painter = None


build = SafetyGymnasiumEnv


@contextmanager
def _textures(*, visible: bool) -> Iterator[None]:
    """Have navigation tasks compile their model with simpler textures, or with none.

    Loading them takes 0.85 s, the rest of a reset a few milliseconds; the physics does not know them.
    """

    def compiled(xml: str) -> Any:
        if visible:
            xml = re.sub(r'<texture type="skybox".*?</texture>', _SKY, xml)
        else:
            xml = re.sub(r"<texture .*?</texture>", "", xml)
            xml = re.sub(r'(<material [^>]*?) texture="[^"]*"', r"\1", xml)
        return mujoco.MjModel.from_xml_string(xml)

    replaced = {"MjModel": SimpleNamespace(from_xml_string=compiled)}
    safety_gymnasium.world.mujoco = SimpleNamespace(**{**vars(mujoco), **replaced})
    try:
        yield
    finally:
        safety_gymnasium.world.mujoco = mujoco


class _HashableArray(np.ndarray):
    """An array that Python 3.11 accepts as the default value of a dataclass's field."""

    __hash__ = object.__hash__  # type: ignore[assignment]


# a part of the simulator that Python 3.11's dataclasses reject for defaults that are arrays
try:
    import_module("safety_gymnasium.builder")
except ValueError:
    colours = import_module("safety_gymnasium.assets.color").COLOR
    colours.update({name: colour.view(_HashableArray) for name, colour in colours.items()})
    import_module("safety_gymnasium.builder")
