"""The eight tasks of Bullet-Safety-Gym (Gronauer, 2022), with the seeding that the package lacks."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, cast

import bullet_safety_gym  # noqa: F401 (registers the environments)
import gymnasium
import numpy as np
import pybullet
from typing_extensions import override

from safetrax.envs.task_env import TaskEnv, global_numpy_seed

# The width in which an agent's own arithmetic agrees with the benchmark's recordings under numpy 2, which keeps
# float32 scalars where numpy 1 widened them.
_ACTION_DTYPES = {"Ball": np.float32, "RaceCar": np.float64, "Drone": np.float32, "Ant": np.float64}
_IN_THE_AIR, _OUT_OF_SIGHT, _UPRIGHT = (0.0, 0.0, 60.0), (0.0, 0.0, -50.0), (0.0, 0.0, 0.0, 1.0)  # metres
_PICTURE = (480, 360)  # width and height in pixels
_RUN_CAMERA = {"distance": 6.5, "yaw": -90.0, "pitch": -28.0}  # from behind, looking along the course
_CIRCLE_CAMERA = {"distance": 14.5, "yaw": 0.0, "pitch": -72.0}  # the whole zone, from above
_ZONE_COLOUR = (0.45, 0.68, 0.86, 1.0)  # the simulator's own is so dark that agents vanish on it


def versions() -> str:
    """The simulator's versions, for `safetrax doctor`."""
    return f"bullet-safety-gym {version('bullet-safety-gym')}, pybullet {version('pybullet')}"


class BulletEnv(TaskEnv):
    """A Bullet task whose `reset(seed=...)` means what it says.

    The package draws from numpy's global generator, lets motor targets and contact points leak from one episode
    into the next, and treats the first reset unlike later ones. Here every reset is a later one, from the same
    saved state.
    """

    def __init__(self, env_id: str, horizon: int, *, render: bool = False) -> None:
        with global_numpy_seed(0):
            self._simulator = cast(Any, gymnasium.make(env_id, disable_env_checker=True).unwrapped)
            self._agent = self._simulator.agent
            self._drop_decorations()
            # the first reset saves the state that all later ones restore, so it must be the same everywhere
            self._simulator.reset()
        sizes = (space.shape[0] for space in (self._simulator.observation_space, self._simulator.action_space))
        super().__init__(horizon, *sizes, render=render)
        self._is_circle = type(self._simulator.task).__name__ == "CircleTask"
        if render and self._is_circle:
            self._simulator.bc.changeVisualShape(self._simulator.task.circle.body_id, -1, rgbaColor=_ZONE_COLOUR)
        self._action_dtype = _ACTION_DTYPES[type(self._agent).__name__]

    @override
    def _begin(self, seed: int | None, options: dict[str, Any]) -> np.ndarray:
        self._break_contacts()
        self._release_motors()
        with global_numpy_seed(int(self.np_random.integers(2**32))):
            return np.asarray(self._simulator.reset()[0])

    @override
    def _advance(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, dict[str, Any]]:
        observation, reward, terminated, _, info = self._simulator.step(action)
        return observation, reward, terminated, {"cost": 0.0, **info}

    @override
    def _picture(self) -> np.ndarray:
        width, height = _PICTURE
        engine = self._simulator.bc
        ahead = (float(self._agent.get_position()[0]) + 2.0, 0.0, 0.5)
        target, camera = ((0.0, -0.3, 0.0), _CIRCLE_CAMERA) if self._is_circle else (ahead, _RUN_CAMERA)
        view = engine.computeViewMatrixFromYawPitchRoll(target, roll=0.0, upAxisIndex=2, **camera)
        projection = engine.computeProjectionMatrixFOV(fov=60.0, aspect=width / height, nearVal=0.1, farVal=150.0)
        pixels = engine.getCameraImage(
            width, height, view, projection, shadow=0, lightDirection=(-3.0, 4.0, 9.0),
            renderer=pybullet.ER_TINY_RENDERER,
        )[2]  # fmt: skip
        return np.reshape(pixels, (height, width, 4))[:, :, :3].astype(np.uint8)

    @override
    def close(self) -> None:
        self._simulator.close()

    def _drop_decorations(self) -> None:
        """Skip what only a window on the screen shows: no part of the physics, and a quarter of a step's time."""
        self._simulator.world.camera.update = lambda *_, **__: None
        # the ball that marks a violation is meant to be transparent; the software renderer paints it opaque
        self._agent.violates_constraints = lambda *_, **__: None
        self._simulator.bc.resetBasePositionAndOrientation(self._agent.violation_body_id, _OUT_OF_SIGHT, _UPRIGHT)

    def _break_contacts(self) -> None:
        """Forget the contact points of the last episode, which the simulator's reset keeps.

        Without this, about one reset in twelve of BallRun depends on the episode before.
        """
        engine = self._simulator.bc
        engine.resetBasePositionAndOrientation(self._agent.body_id, _IN_THE_AIR, _UPRIGHT)
        engine.stepSimulation()

    def _release_motors(self) -> None:
        """Forget the motor targets of the last episode, which the simulator's reset keeps."""
        hover = getattr(self._agent, "hover_velocities", None)
        for index, motor in enumerate(self._agent.motor_list):
            if hover is None:
                motor.init_motor()
            else:  # a drone starts with turning rotors, as after any but the simulator's very first reset
                motor.set_velocity(hover[index])


build = BulletEnv
