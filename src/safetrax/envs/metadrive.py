"""The nine MetaDrive tasks of DSRL (Li et al., 2022; Liu et al., 2024), made reproducible, and DSRL's drivers.

The dynamics are those of metadrive-simulator 0.2.6.0, on which DSRL's environments are built; later versions differ.
"""

from __future__ import annotations

import atexit
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from types import ModuleType, SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from panda3d.core import PythonCallbackObject, loadPrcFileData
from typing_extensions import override

from safetrax.envs.task_env import TaskEnv, global_numpy_seed
from safetrax.errors import SimulatorError

# it complains about missing joysticks, and about every engine that follows another
loadPrcFileData("", "notify-level fatal\nnotify-level-device fatal\nnotify-level-task fatal")


class _Blank(ModuleType):
    """Stands in for a module of which nothing is used here: every name in it is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Make MetaDrive importable beside today's packages. Other imports never see it."""
    modules: dict[str, Any] = {}
    # for windows, plots and progress bars; seaborn, which only gives cars a colour, takes 0.6 s and 120 MB
    for name in ("cv2", "gltf", "matplotlib", "matplotlib.pyplot", "seaborn", "tqdm"):
        modules[name] = _Blank(name)
    modules["seaborn"].color_palette = lambda _: [(0.5, 0.5, 0.5)] * 10
    # of gym it needs spaces and a base class, which gymnasium has; the registry it writes to has changed
    modules["gym"], modules["gym.spaces"] = gymnasium, spaces
    modules["metadrive.register"] = _Blank("metadrive.register")
    # a reader of Waymo's recordings: it may be missing, but protobuf 4 and later refuse it with another error
    modules["metadrive.utils.waymo_utils.protos.scenario_pb2"] = modules["tensorflow"] = None
    before = {name: sys.modules[name] for name in modules if name in sys.modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            sys.modules.pop(name, None)
        sys.modules.update(before)


with _stand_ins():
    import metadrive.manager.object_manager  # noqa: F401 (the simulator would import it when it starts)
    from metadrive.base_class.randomizable import Randomizable
    from metadrive.component.vehicle_module.lidar import Lidar
    from metadrive.component.vehicle_module.PID_controller import PIDController
    from metadrive.engine.core.collision_callback import collision_callback
    from metadrive.engine.core.physics_world import PhysicsWorld
    from metadrive.engine.engine_utils import close_engine
    from metadrive.envs.safe_metadrive_env import SafeMetaDriveEnv
    from metadrive.manager.base_manager import BaseManager
    from metadrive.policy.idm_policy import IDMPolicy

    from safetrax.envs.road_picture import Artist, vehicles_of


def _keep_old_names() -> None:
    """Give the one module that asks for them the names that numpy 1.24 dropped."""
    module: Any = sys.modules["metadrive.utils.config"]
    module.np = SimpleNamespace(**{**vars(np), "float": float, "int": int})


def _keep_order() -> None:
    """Have lasers find vehicles from west to east, not in the order of their addresses in memory."""
    unordered = Lidar.get_surrounding_objects

    def ordered(lidar: Any, vehicle: Any) -> list[Any]:
        return sorted(unordered(lidar, vehicle), key=lambda thing: tuple(thing.position))

    Lidar.get_surrounding_objects = ordered


def _keep_quiet() -> None:
    """Send its messages to a logger of its own: it writes to the root, which thereby gets a handler."""
    own = logging.getLogger("metadrive")
    own.addHandler(logging.NullHandler())
    own.setLevel(logging.ERROR)
    for name, module in sys.modules.items():
        if name.startswith("metadrive.") and getattr(module, "logging", None) is logging:
            module.logging = own  # type: ignore[attr-defined]


_keep_old_names()
_keep_order()
_keep_quiet()

# The blocks of a road (straight, curve, crossing, T, ramp, roundabout), and the seed of their sizes, the lane at the
# start and the exit at the end.
_ROADS = {"easy": ("SCS", 0), "medium": ("XST", 100), "hard": ("TRO", 200)}
_DENSITIES = {"sparse": 0.1, "mean": 0.15, "dense": 0.2}  # vehicles per ten metres of lane
_ENV_ID = re.compile(rf"OfflineMetadrive-({'|'.join(_ROADS)})({'|'.join(_DENSITIES)})-v0")
_OBSERVATION_SIZE, _LASERS = 259, 240
# What is free: km/h, and a share of the lasers' range of 50 m. The rest costs, in these units.
_FREE_SPEED, _FREE_DISTANCE, _PRICE = 10.0, 0.1, 0.01
_VERSION = "0.2.6"

ROADS = 10
"""Number of roads on which DSRL's data were collected, each episode on one at random. Number 0 is the task's."""

DRIVER_OPTIONS = ("acceleration_factor", "target_speed", "road")
"""Options of `reset` that seat a driver: the throttle at rest, which falls to zero at the target speed (km/h)."""

DRIVERS: tuple[tuple[float, float, float], ...] = tuple(
    (6 * i / 10, float(speed), float(road)) for road in range(ROADS) for i in range(10) for speed in range(5, 25, 4)
)
"""Those of DSRL's data, which hold about two episodes of each: 50 drivers on ten roads."""


def build(env_id: str, horizon: int, *, render: bool = False) -> gymnasium.Env[Any, Any]:
    """The environment `env_id`, with the promises of `safetrax.envs.make.make_env`."""
    installed = version("metadrive-simulator")
    if not installed.startswith(_VERSION):
        raise SimulatorError(
            f"the benchmark's tasks are of MetaDrive {_VERSION}, and {installed} drives differently; "
            f"pip install --no-deps metadrive-simulator=={_VERSION}.0"
        )
    return MetaDriveEnv(env_id, horizon, render=render)


def versions() -> str:
    """The simulator's versions, for `safetrax doctor`."""
    return f"metadrive-simulator {version('metadrive-simulator')}, panda3d {version('panda3d')}"


class MetaDriveEnv(TaskEnv):
    """A drive in traffic, which is the same for the same seed.

    A process has one simulator. It belongs to the environment that was reset last; the episode of any other is over.

    A step is a tenth of a second. An episode ends at the goal, with a crash, or off the road. `info` has the parts of
    the cost: `crash_cost` and `out_of_road_cost` (0 or 1; of both, `cost` has one), `velocity_cost` and
    `proximity_cost`. `velocity` is in km/h.

    Options of `reset`: `"acceleration_factor"` and `"target_speed"` seat a driver for `driver_action`, with whom the
    traffic is as without; `"road"`, from 0 to `ROADS` - 1, takes another road than the task's.

    Raises:
        SimulatorError: there is no such environment or road, or it has no episode to step in.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (gymnasium's declaration)

    def __init__(self, env_id: str, horizon: int, *, render: bool = False) -> None:
        found = _ENV_ID.fullmatch(env_id)
        if found is None:
            raise SimulatorError(f"there is no MetaDrive environment {env_id!r} in the benchmark.")
        super().__init__(horizon, _OBSERVATION_SIZE, 2, render=render)
        self.observation_space = spaces.Box(0.0, 1.0, (_OBSERVATION_SIZE,), np.float32)
        self._road, self._density = _ROADS[found[1]], _DENSITIES[found[2]]
        self._simulator: _Simulator | None = None
        self._driver: _Driver | None = None
        self._driven: np.ndarray | None = None
        self._artist: Artist | None = None

    @override
    def _begin(self, seed: int | None, options: dict[str, Any]) -> np.ndarray:
        traffic_seed, driver_seed = self.np_random.integers(2**31, size=2).tolist()
        road = options.get("road", 0)
        if road not in range(ROADS):
            raise SimulatorError(f"road must be a number from 0 to {ROADS - 1}, got {road!r}.")
        if self._simulator is None or self._simulator is not _Simulator.running:
            self._simulator = _Simulator.start(*self._road, self._density)
        self._driver = self._driven = self._artist = None
        observation = self._simulator.begin(int(road), traffic_seed)
        if "acceleration_factor" in options:
            factor, speed = float(options["acceleration_factor"]), float(options["target_speed"])
            self._driver = _Driver(self._simulator.vehicle, driver_seed, factor, speed)
        return observation

    @override
    def _advance(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, dict[str, Any]]:
        # float64, as numpy 1, with which the data were collected, widened float32
        observation, reward, _, info = self._owned().step(np.clip(action, -1.0, 1.0).tolist())
        self._driven = None
        nearest = float(observation[-_LASERS:].min())
        info["velocity_cost"] = _PRICE * max(0.0, info["velocity"] - _FREE_SPEED)
        info["proximity_cost"] = _PRICE * max(0.0, _FREE_DISTANCE - nearest) ** 2
        info["crash_cost"], info["out_of_road_cost"] = float(info["crash"]), float(info["out_of_road"])
        info["cost"] = info["cost"] + info["velocity_cost"] + info["proximity_cost"]
        return observation, reward, info["arrive_dest"] or info["crash"] or info["out_of_road"], info

    def driver_action(self) -> np.ndarray:
        """What the driver of this episode does now, float32 `(2,)` within [-1, 1].

        Drivers have a memory: ask at every step, from the first on. Asking twice changes nothing.

        Raises:
            SimulatorError: the episode was begun without a driver.
        """
        self._owned()
        if self._driver is None:
            example = dict(zip(DRIVER_OPTIONS, DRIVERS[10], strict=True))
            raise SimulatorError(
                f"nobody is at the wheel: seat a driver, for instance with reset(options={example})."
            )
        if self._driven is None:
            self._driven = self._driver.act()
        return self._driven.copy()

    @override
    def _picture(self) -> np.ndarray:
        """From above, the ego vehicle (orange) and what is around it."""
        simulator = self._owned()
        self._artist = self._artist or Artist(simulator)
        return self._artist.draw()

    @override
    def close(self) -> None:
        if self._simulator is not None and self._simulator is _Simulator.running:
            _Simulator.stop()
        self._simulator = self._driver = self._artist = None

    def _owned(self) -> _Simulator:
        if self._simulator is None or self._simulator is not _Simulator.running:
            raise SimulatorError(
                "this MetaDrive environment has no episode, reset it first; a process has one simulator, which "
                "belongs to the environment that was reset last."
            )
        return self._simulator


class _Simulator(SafeMetaDriveEnv):  # type: ignore[misc]
    """DSRL's configuration of the simulator, with resets that depend on the road and the traffic's seed alone."""

    running: _Simulator | None = None

    @staticmethod
    def start(blocks: str, map_seed: int, density: float) -> _Simulator:
        """In place of the process's earlier one."""
        _Simulator.stop()
        simulator = _Simulator(blocks, map_seed, density)
        simulator.lazy_init()
        _Simulator.running = simulator
        return simulator

    @staticmethod
    def stop() -> None:
        _Simulator.running = None
        close_engine()

    def __init__(self, blocks: str, map_seed: int, density: float) -> None:
        self._first_map, self._map_seed, self._traffic_seed = map_seed, map_seed, 0
        super().__init__(
            {
                "start_seed": map_seed,
                "environment_num": ROADS,
                "map_config": {"type": "block_sequence", "config": blocks},
                "traffic_density": density,
                "traffic_mode": "hybrid",
                "random_traffic": True,
                "accident_prob": 0.0,
                "crash_vehicle_penalty": 0.0,
                "force_destroy": True,  # with vehicles that are used again, episodes differ after four steps
            }
        )

    def begin(self, road: int, traffic_seed: int) -> np.ndarray:
        self._map_seed, self._traffic_seed = self._first_map + road, traffic_seed
        if self.engine.map_manager.maps[self._map_seed] is None:
            with global_numpy_seed(0):  # it draws the height of kerbs
                self.reset()  # builds the road, so that resets that count are all later ones
        return np.asarray(self.reset())

    def setup_engine(self) -> None:
        super().setup_engine()
        self.engine.register_manager("renewal_manager", _Renewal())
        # its own takes over Ctrl-C for a moment, which only the main thread can, and which workers have to ignore
        self.engine.taskMgr.step = self.engine.taskMgr.mgr.poll

    def _reset_global_seed(self, force_seed: int | None = None) -> None:
        super()._reset_global_seed(self._map_seed)
        # which the above leaves to chance
        Randomizable.seed(self.engine.traffic_manager, self._traffic_seed)


class _Renewal(BaseManager):  # type: ignore[misc]
    """Gives every episode new physics, without search trees and contacts that tell of earlier ones."""

    PRIORITY = 1000  # after all that clear the scene, and before any that fills it

    def __init__(self) -> None:
        super().__init__()
        self._vehicles: list[Any] = []

    def before_reset(self) -> None:
        super().before_reset()
        while self._vehicles:
            vehicle = self._vehicles.pop()
            vehicle.body.destroy()
            vars(vehicle).pop("after_step", None)  # or a destroyed vehicle would hold itself in memory
        engine = self.engine
        engine.terrain.detach_from_world(engine.physics_world)
        engine.physics_world.destroy()
        engine.physics_world = PhysicsWorld()
        engine.physics_world.dynamic_world.setContactAddedCallback(PythonCallbackObject(collision_callback))
        engine.terrain.attach_to_world(engine.render, engine.physics_world)

    def after_reset(self) -> None:
        self._vehicles = vehicles_of(self.engine)
        # skip what only an observation, a reward or a cost would need: of traffic, a fifth of a step's time
        for vehicle in self.engine.traffic_manager.spawned_objects.values():
            vehicle.after_step = partial(vehicle.navigation.update_localization, vehicle)
            vehicle.navigation._get_info_for_checkpoint = lambda **_: (0.0, None, None)


class _Driver(IDMPolicy):  # type: ignore[misc]
    """A driver of DSRL's data: the intelligent driver model, with noise, that keeps its lane.

    With a vehicle ahead, the published code takes the square root of a negative number, and the simulator executes
    what is not a number as a released pedal. So these drivers do not brake, and sometimes run into slower traffic.
    """

    def __init__(self, vehicle: Any, seed: int, acceleration_factor: float, target_speed: float) -> None:
        super().__init__(vehicle, seed)
        self.ACC_FACTOR = acceleration_factor
        self.NORMAL_SPEED = self.target_speed = target_speed
        self.enable_lane_change = False
        self.heading_pid = PIDController(self.KP_HEADING, 0.01, 3.5)
        self.lateral_pid = PIDController(self.KP_LATERAL, 0.002, 0.05)

    def act(self) -> np.ndarray:
        noise = self.np_random.uniform((-0.1, 0.0), (0.1, 0.2))
        action = np.clip(np.array(super().act()) + noise, -1.0, 1.0)
        return np.asarray(np.nan_to_num(action, nan=0.0), np.float32)

    def acceleration(self, front_obj: Any, dist_to_front: float) -> float:
        """The throttle without noise, which is nan behind a vehicle."""
        return np.nan if front_obj else float(super().acceleration(None, dist_to_front))


atexit.register(_Simulator.stop)  # it would crash otherwise
