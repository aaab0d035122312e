"""The eight tasks of Bullet-Safety-Gym (Gronauer, 2022), with the seeding that the package lacks."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, cast

import bullet_safety_gym  # noqa: F401 (registers the environments)
import gymnasium
import numpy as np
import pybullet

from safetrax.envs.randomness import global_numpy_seed
from safetrax.errors import SimulatorError

# The width in which an agent's own arithmetic agrees with the benchmark's recordings under numpy 2, which keeps
# float32 scalars where numpy 1 widened them.
_ACTION_DTYPES = {"Ball": np.float32, "RaceCar": np.float64, "Drone": np.float32, "Ant": np.float64}
_IN_THE_AIR, _OUT_OF_SIGHT, _UPRIGHT = (0.0, 0.0, 60.0), (0.0, 0.0, -50.0), (0.0, 0.0, 0.0, 1.0)  # metres
_PICTURE = (480, 360)  # width and height in pixels
_RUN_CAMERA = {"distance": 6.5, "yaw": -90.0, "pitch": -28.0}  # from behind, looking along the course
_CIRCLE_CAMERA = {"distance": 14.5, "yaw": 0.0, "pitch": -72.0}  # the whole zone, from above
_ZONE_COLOUR = (0.45, 0.68, 0.86, 1.0)  # the simulator's own is so dark that agents vanish on it


def build(env_id: str, horizon: int, *, render: bool = False) -> gymnasium.Env[Any, Any]:
    """The environment `env_id`, with the promises of `safetrax.envs.make.make_env`."""
    return BulletEnv(env_id, horizon, render=render)


def versions() -> str:
    """The simulator's versions, for `safetrax doctor`."""
    return f"bullet-safety-gym {version('bullet-safety-gym')}, pybullet {version('pybullet')}"


class BulletEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """A Bullet task whose `reset(seed=...)` means what it says.

    The package draws from numpy's global generator, lets motor targets and contact points leak from one episode
    into the next, and treats the first reset unlike later ones. Here every reset is a later one, from the same
    saved state.

    Attributes:
        horizon: steps after which an episode is truncated.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012 (gymnasium's declaration)

    def __init__(self, env_id: str, horizon: int, *, render: bool = False) -> None:
        self.horizon = horizon
        self.render_mode = "rgb_array" if render else None
        with global_numpy_seed(0):
            self._simulator = cast(Any, gymnasium.make(env_id, disable_env_checker=True).unwrapped)
            self._agent = self._simulator.agent
            self._drop_decorations()
            # the first reset saves the state that all later ones restore, so it must be the same everywhere
            self._simulator.reset()
        self._is_circle = type(self._simulator.task).__name__ == "CircleTask"
        if render and self._is_circle:
            self._simulator.bc.changeVisualShape(self._simulator.task.circle.body_id, -1, rgbaColor=_ZONE_COLOUR)
        self._action_dtype = _ACTION_DTYPES[type(self._agent).__name__]
        self._steps = 0
        bound = np.full(self._simulator.observation_space.shape, np.inf, np.float32)
        self.observation_space = gymnasium.spaces.Box(-bound, bound)
        self.action_space = self._simulator.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode; without a seed, the next one of the environment's own generator."""
        super().reset(seed=seed, options=options)
        self._break_contacts()
        self._release_motors()
        with global_numpy_seed(int(self.np_random.integers(2**32))):
            observation, _ = self._simulator.reset()
        self._steps = 0
        return observation.astype(np.float32), {"cost": 0.0}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One step of the simulator; gymnasium's five values, `info["cost"]` a float.

        Raises:
            SimulatorError: the action is not finite or has another size.
        """
        action = np.asarray(action, self._action_dtype)
        try:
            observation, reward, terminated, _, info = self._simulator.step(action)
        except (AssertionError, ValueError, IndexError) as error:
            raise SimulatorError(f"the simulator cannot execute the action {action.tolist()}.") from error
        self._steps += 1
        truncated = self._steps >= self.horizon
        info["cost"] = float(info.get("cost", 0.0))
        return observation.astype(np.float32), float(reward), bool(terminated), truncated, info

    def render(self) -> np.ndarray:  # type: ignore[override]
        """A picture of the agent and its course, uint8 `(height, width, 3)`.

        Raises:
            SimulatorError: the environment was made without `render=True`.
        """
        if self.render_mode is None:
            raise SimulatorError("this environment was made without render=True and has no picture.")
        width, height = _PICTURE
        engine = self._simulator.bc
        target, camera = self._camera()
        view = engine.computeViewMatrixFromYawPitchRoll(target, roll=0.0, upAxisIndex=2, **camera)
        projection = engine.computeProjectionMatrixFOV(fov=60.0, aspect=width / height, nearVal=0.1, farVal=150.0)
        pixels = engine.getCameraImage(
            width, height, view, projection, shadow=0, lightDirection=(-3.0, 4.0, 9.0),
            renderer=pybullet.ER_TINY_RENDERER,
        )[2]  # fmt: skip
        return np.reshape(pixels, (height, width, 4))[:, :, :3].astype(np.uint8)

    def close(self) -> None:
        """Free the simulator's memory."""
        self._simulator.close()

    def _camera(self) -> tuple[tuple[float, float, float], dict[str, float]]:
        """The point that the camera looks at, and from where."""
        if self._is_circle:
            return (0.0, -0.3, 0.0), _CIRCLE_CAMERA
        return (float(self._agent.get_position()[0]) + 2.0, 0.0, 0.5), _RUN_CAMERA

    def _drop_decorations(self) -> None:
        """Skip what only a window on the screen shows: no part of the physics, and a quarter of a step's time."""
        self._simulator.world.camera.update = _nothing
        # the ball that marks a violation is meant to be transparent; the software renderer paints it opaque
        self._agent.violates_constraints = _nothing
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


def _nothing(*_: object, **__: object) -> None:
    """Stands in for a decoration."""
