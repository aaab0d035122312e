"""The MetaDrive tasks keep the promises of make_env, and DSRL's drivers can be replayed."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from safetrax.catalogue import get_task, tasks
from safetrax.envs import make_env
from safetrax.errors import SimulatorError

if find_spec("metadrive") is None:
    pytest.skip("metadrive-simulator is not installed", allow_module_level=True)

from safetrax.envs.metadrive import (
    DRIVER_OPTIONS,
    DRIVERS,
    ROADS,
    MetaDriveEnv,
    build,
    versions,
)

NAMES = [task.name for task in tasks("metadrive")]
ROAD_AHEAD = np.array([0.0, 1.0])  # wheel straight, full throttle


@pytest.fixture(autouse=True)
def simulator_is_closed() -> Iterator[None]:
    yield
    sys.modules["safetrax.envs.metadrive"]._Simulator.stop()


def seat(factor: float, speed: float, road: int = 0) -> dict[str, float]:
    return dict(zip(DRIVER_OPTIONS, (factor, speed, road), strict=True))


def driven(name: str, seed: int, driver: tuple[float, float], *, steps: int = 1000, road: int = 0, **make: bool):
    """An episode with a driver: the environment, the actions, and what `step` answered, the reset first."""
    env = make_env(name, **make)
    observation, info = env.reset(seed=seed, options=seat(*driver, road))
    actions, answers = [], [(observation, 0.0, False, False, info)]
    while len(actions) < steps and not (answers[-1][2] or answers[-1][3]):
        actions.append(env.driver_action())
        answers.append(env.step(actions[-1]))
    return env, actions, answers


def digest(answers: list) -> str:
    """Everything that the answers show, to the bit."""
    seen = hashlib.sha256()
    for observation, reward, terminated, truncated, info in answers:
        seen.update(observation.tobytes() + np.float64([reward, info["cost"], terminated, truncated]).tobytes())
    return seen.hexdigest()


def episode(env: gymnasium.Env, seed: int, steps: int) -> str:
    """The digest of an episode with actions that stay on the road for a while, some of them random."""
    rng = np.random.default_rng(seed)
    answers = [(env.reset(seed=seed)[0], 0.0, False, False, {"cost": 0.0})]
    answers += [env.step(ROAD_AHEAD * rng.uniform(-0.2, 1) + [rng.uniform(-0.05, 0.05), 0]) for _ in range(steps)]
    return digest(answers)


def in_another_process(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=variables)


def live_a_little(env: gymnasium.Env, rng: np.random.Generator) -> None:
    env.reset(seed=int(rng.integers(100)), options=seat(2.0, 30.0, int(rng.integers(3))))
    for _ in range(int(rng.integers(1, 60))):
        env.step(env.driver_action() if rng.random() < 0.8 else rng.uniform(-1, 1, 2))


@pytest.mark.parametrize("name", NAMES)
def test_sizes_and_types(name: str):
    task, env = get_task(name), make_env(name)
    observation, info = env.reset(seed=0)
    assert type(info["cost"]) is float
    for _ in range(25):
        assert observation.shape == (task.observation_size,) == (259,)
        assert observation.dtype == np.float32
        assert env.observation_space.contains(observation)
        observation, reward, terminated, truncated, info = env.step(np.float32([0.0, 0.7]))
        assert type(reward) is float
        assert type(info["cost"]) is float
        assert info["cost"] >= 0
        assert terminated is False
        assert truncated is False


@pytest.mark.parametrize(
    "name", ["mediummean", *(pytest.param(name, marks=pytest.mark.slow) for name in ("easysparse", "harddense"))]
)
def test_reset_forgets_every_history_also_of_other_processes(name: str):
    steps = 200
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_metadrive import episode, make_env\n"
        f"print(episode(make_env({name!r}), 7, {steps}))"
    )
    elsewhere = in_another_process(code, PYTHONHASHSEED="5")
    rng = np.random.default_rng(0)
    env, other = make_env(name, render=True), make_env("mediumdense")
    for _ in range(4):
        live_a_little(env, rng)
    env.render()
    assert [episode(env, 7, steps)] == elsewhere.stdout.split(), elsewhere.stderr
    live_a_little(other, rng)
    live_a_little(env, rng)
    assert [episode(env, 7, steps)] == elsewhere.stdout.split()
    assert [episode(env, 8, steps)] != elsewhere.stdout.split()


def test_seeds_move_the_traffic_alone():
    env = make_env("mediumdense")

    def traffic() -> list[tuple[float, ...]]:
        return sorted(tuple(vehicle.position) for vehicle in vehicles(env) if vehicle is not ego(env))

    def place() -> tuple[float, ...]:
        return tuple(ego(env).position)

    env.reset(seed=0)
    first, start = traffic(), place()
    env.reset(seed=1)
    assert traffic() != first
    assert place() == start
    env.reset(seed=0, options=seat(1.2, 9.0))
    assert traffic() == first


def test_denser_tasks_have_more_traffic():
    numbers = []
    for density in ("sparse", "mean", "dense"):
        env = make_env(f"hard{density}")
        env.reset(seed=0)
        numbers.append(len(vehicles(env)))
    assert numbers == sorted(set(numbers))


def test_unseeded_resets_differ_and_follow_the_last_seed():
    env = make_env("harddense")

    def three() -> list[str]:
        env.reset(seed=5)
        shown = []
        for _ in range(3):
            shown.append(sorted(tuple(vehicle.position) for vehicle in vehicles(env)))
            env.reset()
        return shown

    first = three()
    assert first[0] != first[1] != first[2]
    assert three() == first


def test_roads_are_ten():
    env = make_env("mediumsparse")
    ends = set()
    for road in range(ROADS):
        env.reset(seed=0, options={"road": road})
        ends.add(tuple(ego(env).navigation.final_lane.end))
    assert len(ends) == 10
    assert env.reset(seed=0)[0].tobytes() == env.reset(seed=0, options={"road": 0})[0].tobytes()
    for road in (10, -1, 0.5, "Route 66"):
        with pytest.raises(SimulatorError, match="from 0 to 9"):
            env.reset(options={"road": road})


def test_truncation_at_the_horizon():
    env = build("OfflineMetadrive-easymean-v0", 5)
    for _ in range(2):
        env.reset(seed=0)
        assert [env.step(np.zeros(2))[2:4] for _ in range(5)] == [(False, False)] * 4 + [(False, True)]


def test_off_the_road_costs_one_and_ends_the_episode():
    env = make_env("easysparse")
    env.reset(seed=0)
    answers = [env.step(ROAD_AHEAD) for _ in range(20)]
    while not answers[-1][2]:
        answers.append(env.step(np.array([1.0, 1.0])))
    *earlier, (_, reward, terminated, truncated, info) = answers
    assert (terminated, truncated, reward) == (True, False, -5.0)
    assert info["out_of_road_cost"] == 1.0
    assert info["crash_cost"] == 0.0
    assert 1.0 <= info["cost"] < 1.5
    assert all(answer[4]["out_of_road_cost"] == 0.0 for answer in earlier)


def test_costs_by_hand():
    env = make_env("easysparse")
    env.reset(seed=0)
    fast = False
    for _ in range(60):
        before = np.array(ego(env).position)
        observation, reward, *_, info = env.step(ROAD_AHEAD)
        kilometres_per_hour = np.linalg.norm(np.array(ego(env).position) - before) / 0.1 * 3.6
        assert info["velocity"] == pytest.approx(kilometres_per_hour, abs=2.0)  # mean of the step and its end
        nearest = observation[-240:].min()
        expected = 0.01 * max(0.0, info["velocity"] - 10) + 0.01 * max(0.0, 0.1 - nearest) ** 2
        assert info["cost"] == pytest.approx(expected, abs=1e-9)
        assert reward == pytest.approx(kilometres_per_hour / 36 + 0.1 * info["velocity"] / 80, abs=5e-3)
        fast = fast or info["velocity"] > 20
    assert fast


def test_drivers_run_into_slow_vehicles_with_the_pedal_released():
    for seed in range(6, 26):
        _, actions, answers = driven("mediumdense", seed, (1.2, 5.0), steps=260)
        if answers[-1][4]["crash_cost"] and actions[-1][1] == 0:
            break
    _, reward, terminated, _, info = answers[-1]
    assert terminated
    assert reward == 0.0  # no penalty for crashes
    assert info["cost"] == pytest.approx(1.0 + info["velocity_cost"] + info["proximity_cost"])
    assert [action[1] for action in actions[-3:]] == [0.0] * 3


@pytest.mark.parametrize("action", [[np.nan, 0.0], [0.0, np.inf], [0.0], [0.0, 0.0, 0.0], 0.0, [[0.0, 0.0]]])
def test_impossible_actions_are_named(action: object):
    env = make_env("easysparse")
    env.reset(seed=0)
    with pytest.raises(SimulatorError, match="cannot execute the action"):
        env.step(np.array(action))


def test_actions_of_any_width_are_clipped():
    shown = []
    for scale, width in ((1, np.float16), (9, np.float32), (1, np.float64)):
        env = make_env("easysparse")
        answers = [(env.reset(seed=0)[0], 0.0, False, False, {"cost": 0.0})]
        answers += [env.step(np.array([0.0, scale], width)) for _ in range(20)]
        shown.append(digest(answers))
    assert len(set(shown)) == 1


def test_global_generators_are_left_alone():
    # in a process without the run-time type checks of these tests, which draw numbers themselves
    code = (
        "import random, numpy as np\n"
        "from safetrax.envs import make_env\n"
        "before = random.getstate(), str(np.random.get_state())\n"
        "env = make_env('harddense', render=True)\n"
        "env.reset(seed=1, options={'acceleration_factor': 1.0, 'target_speed': 20.0})\n"
        "for _ in range(30): env.step(env.driver_action())\n"
        "env.reset()\n"
        "env.render()\n"
        "env.close()\n"
        "print(before == (random.getstate(), str(np.random.get_state())))"
    )
    assert in_another_process(code).stdout == "True\n"


@pytest.mark.parametrize(("name", "road"), [("easymean", 0), pytest.param("harddense", 3, marks=pytest.mark.slow)])
def test_an_episode_of_a_driver_can_be_replayed_without_one(name: str, road: int):
    _, actions, answers = driven(name, 3, (1.2, 21.0), steps=300, road=road)
    assert all(a.dtype == np.float32 and a.shape == (2,) and np.abs(a).max() <= 1 for a in actions)
    env = make_env(name)
    replayed = [(*env.reset(seed=3, options={"road": road})[:1], 0.0, False, False, {"cost": 0.0})]
    replayed += [env.step(action) for action in actions]
    assert digest(replayed) == digest(answers)


def test_driver_parameters():
    assert len(set(DRIVERS)) == 500
    assert DRIVERS[:2] == ((0.0, 5.0, 0.0), (0.0, 9.0, 0.0))
    assert DRIVERS[-1] == (5.4, 21.0, 9.0)


def test_drivers_drive_at_their_speeds():
    def velocities(factor: float, speed: float, steps: int) -> np.ndarray:
        answers = driven("easysparse", 0, (factor, speed), steps=steps)[2]
        return np.array([info["velocity"] for *_, info in answers[1:]])

    for speed in (5.0, 13.0, 21.0):
        assert 0.6 * speed < velocities(5.4, speed, 150)[-50:].mean() < 1.05 * speed  # they brake hard above it
    slow, medium, quick = (velocities(factor, 21.0, 20)[-1] for factor in (0.0, 0.6, 5.4))
    assert slow < medium < quick


def test_drivers_answer_twice_the_same_and_must_be_seated():
    env, *_ = driven("easysparse", 0, (1.2, 9.0), steps=3)
    assert np.array_equal(env.driver_action(), env.driver_action())
    env.driver_action()[:] = 7
    assert np.abs(env.driver_action()).max() <= 1
    env.reset(seed=0)
    with pytest.raises(SimulatorError, match="driver"):
        env.driver_action()


def test_render_shows_a_picture_and_changes_nothing():
    env, _, answers = driven("mediumdense", 1, (5.4, 21.0), steps=120, render=True)
    picture = env.render()
    assert picture.shape == (360, 480, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 20
    orange, blue = (np.abs(picture.astype(int) - c).max(-1) < 20 for c in ((240, 110, 30), (65, 120, 200)))
    assert 100 < orange.sum() < 400  # one vehicle of about 4.5 by 1.9 metres at 6 pixels per metre
    assert blue.any()
    assert np.array_equal(env.render(), picture)
    assert digest(driven("mediumdense", 1, (5.4, 21.0), steps=120)[2]) == digest(answers)
    env.reset(seed=0, options={"road": 1})
    assert not np.array_equal(env.render(), picture)


def test_render_must_be_asked_for():
    with pytest.raises(SimulatorError, match="render=True"):
        make_env("easysparse").render()


def test_the_simulator_belongs_to_the_environment_that_was_reset_last():
    first, second = make_env("easysparse"), make_env("easydense")
    with pytest.raises(SimulatorError, match="reset it first"):
        first.step(np.zeros(2))
    first.reset(seed=0)
    second.reset(seed=0)
    with pytest.raises(SimulatorError, match="reset it first"):
        first.step(np.zeros(2))
    first.close()  # which has nothing to close any more
    second.step(np.zeros(2))
    first.reset(seed=0)
    first.step(np.zeros(2))
    with pytest.raises(SimulatorError, match="reset it first"):
        second.step(np.zeros(2))
    first.close()
    first.close()
    with pytest.raises(SimulatorError, match="reset it first"):
        first.step(np.zeros(2))


def test_other_threads_can_drive_and_interrupts_are_not_taken_over():
    handler, shown = signal.getsignal(signal.SIGINT), []
    env = make_env("easysparse")
    thread = threading.Thread(target=lambda: shown.append(episode(env, 0, 20)))
    thread.start()
    thread.join()
    assert shown == [episode(env, 0, 20)]
    assert signal.getsignal(signal.SIGINT) is handler


def test_unknown_environment():
    with pytest.raises(SimulatorError, match="Metadrive-cosy"):
        build("OfflineMetadrive-cosy-v0", 1000)


def test_other_versions_of_the_simulator_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("safetrax.envs.metadrive.version", lambda _: "0.4.3")
    with pytest.raises(SimulatorError, match=r"0\.4\.3 drives differently; pip install"):
        make_env("easysparse")


def test_versions():
    assert "metadrive-simulator 0.2.6.0" in versions()


STEPS = """
from safetrax.envs import make_env
env = make_env("easysparse")
env.reset(seed=0)
[env.step([0.0, 1.0]) for _ in range(20)]
"""


def test_processes_that_do_not_close_end_silently():
    log = "import h5py, logging; logging.basicConfig(level=logging.DEBUG)\n"
    done = in_another_process(log + STEPS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "first",
    [
        "import tensorboardX; writer = tensorboardX.SummaryWriter",  # brings protobuf, of a version of its own
        "import sys; sys.modules.update(dict.fromkeys(('google.protobuf', 'cv2', 'seaborn', 'matplotlib', 'gym')))",
    ],
)
def test_import_disturbs_no_other_package_and_needs_few(first: str):
    if "tensorboardX" in first:
        pytest.importorskip("tensorboardX")
    names = ("jax", "pybullet", "mujoco", "safety_gymnasium", "gym", "seaborn", "pandas", "scipy", "tensorflow")
    last = (
        f"import sys; print([n for n in {names!r} if sys.modules.get(n)])\n"
        "import logging; print(logging.getLogger().handlers)\n"
        "if 'tensorboardX' in sys.modules:\n"
        "    from google.protobuf.message import Message; from tensorboardX.proto.event_pb2 import Event\n"
        "    print(Event(step=3).step, issubclass(Event, Message))\n"
    )
    done = in_another_process(f"{first}\n{STEPS}\n{last}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[]", "[]", *(["3 True"] if "tensorboardX" in first else [])]
    assert done.stderr == ""


def ego(env: MetaDriveEnv):
    return env._simulator.vehicle


def vehicles(env: MetaDriveEnv) -> list:
    return list(sys.modules["safetrax.envs.metadrive"].vehicles_of(env._simulator.engine))
