"""The Safety-Gymnasium tasks keep the promises of make_env."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from importlib.util import find_spec

import gymnasium
import numpy as np
import pytest

from safetrax.catalogue import get_task, tasks
from safetrax.envs import make_env
from safetrax.envs.suites import build_env, load_suite
from safetrax.errors import SimulatorError

if find_spec("safety_gymnasium") is None:
    pytest.skip("safety-gymnasium is not installed", allow_module_level=True)

NAMES = [task.name for task in tasks("safety_gymnasium")]
KINDS = ("PointButton1", "CarGoal1", "CarPush1", "CarCircle1")
SPEED_LIMITS = {"Ant": 2.6222, "HalfCheetah": 3.2096, "Hopper": 0.7402, "Swimmer": 0.2282, "Walker2d": 2.3415}  # m/s
STILL = np.zeros(2)

# the simulator's own, of numpy's older manners
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning")


def random_actions(rng: np.random.Generator, name: str, steps: int) -> np.ndarray:
    """Each held for ten steps, so that the robots get somewhere."""
    drawn = rng.uniform(-1, 1, (-(-steps // 10), get_task(name).action_size))
    return np.repeat(drawn, 10, axis=0)[:steps].astype(np.float32)


def trajectory(env: gymnasium.Env, seed: int, actions: np.ndarray) -> bytes:
    """Everything that an episode shows, to the bit."""
    seen = [env.reset(seed=seed)[0].tobytes()]
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        seen.append(observation.tobytes() + np.float64([reward, info["cost"], terminated, truncated]).tobytes())
        if terminated:
            break
    return b"".join(seen)


def put_car(env: gymnasium.Env, x: float, y: float) -> None:
    env._simulator.task.data.joint("agent").qpos[:2] = x, y


def place_of(env: gymnasium.Env, name: str) -> np.ndarray:
    return env._simulator.task.data.body(name).xpos[:2].copy()


def run_python(code: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
    changed = {**os.environ, **environment}
    variables = {name: value for name, value in changed.items() if value is not None}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=variables)


@pytest.fixture
def can_draw() -> None:
    module = load_suite("safety_gymnasium")
    try:
        module.Painter(16, 16).close()
    except SimulatorError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    "name",
    # one of every kind of task, and of every robot that runs
    [name if name in KINDS or "Velocity" in name else pytest.param(name, marks=pytest.mark.slow) for name in NAMES],
)
def test_reset_forgets_every_history(name: str):
    rng = np.random.default_rng(0)
    actions = random_actions(rng, name, 200)
    fresh, used = make_env(name), make_env(name)
    first = trajectory(fresh, 7, actions)
    assert trajectory(fresh, 7, actions) == first
    trajectory(used, 3, random_actions(rng, name, 57))
    assert trajectory(used, 7, actions) == first
    assert trajectory(used, 8, actions[:1]) != first


def test_another_process_sees_the_same():
    names = ("CarGoal1", "CarButton1", "PointCircle2", "HopperVelocity")
    code = (
        "import hashlib, numpy as np\nfrom safetrax.envs import make_env\n"
        f"for name in {names}:\n"
        "    env = make_env(name)\n"
        "    seen = env.reset(seed=7)[0].tobytes()\n"
        "    for _ in range(12): seen += env.step(np.full(env.action_space.shape, 0.4))[0].tobytes()\n"
        "    print(hashlib.sha256(seen).hexdigest())"
    )
    here = []
    for name in names:
        env = make_env(name)
        env.reset()
        seen = env.reset(seed=7)[0].tobytes()
        for _ in range(12):
            seen += env.step(np.full(env.action_space.shape, 0.4))[0].tobytes()
        here.append(hashlib.sha256(seen).hexdigest())
    assert run_python(code).stdout.split() == here


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_types(name: str):
    task, env = get_task(name), make_env(name)
    assert env.action_space == gymnasium.spaces.Box(-1, 1, (task.action_size,))
    assert env.observation_space.shape == (task.observation_size,)
    observation, info = env.reset(seed=0)
    assert type(info["cost"]) is float
    for action in random_actions(np.random.default_rng(0), name, 8):
        assert observation.shape == (task.observation_size,)
        assert observation.dtype == np.float32
        assert np.isfinite(observation).all()
        observation, reward, terminated, truncated, info = env.step(action)
        assert [type(x) for x in (reward, terminated, truncated, info["cost"])] == [float, bool, bool, float]
        assert info["cost"] in (0, 1)


def test_it_is_the_simulators_own_trajectory():
    """The same seed in the simulator itself, with its textures, shows the same."""
    actions = random_actions(np.random.default_rng(0), "CarGoal1", 100).astype(np.float64)
    env = make_env("CarGoal1")
    import safety_gymnasium

    simulator = safety_gymnasium.make("SafetyCarGoal1-v0")
    simulator.reset(seed=0)
    observation, _ = simulator.reset(seed=7)
    assert np.array_equal(env.reset(seed=7)[0], observation.astype(np.float32))
    for action in actions:
        observation, reward, cost, *_ = simulator.step(action)
        ours = env.step(action)
        assert np.array_equal(ours[0], observation.astype(np.float32))
        assert (ours[1], ours[4]["cost"]) == (reward, cost)


@pytest.mark.parametrize("name", ["PointCircle1", "HalfCheetahVelocity"])
def test_truncation_at_the_horizon(name: str):
    task, env = get_task(name), make_env(name)
    env.reset(seed=0)
    still = np.zeros(task.action_size)
    ends = [env.step(still)[2:4] for _ in range(task.horizon)]
    assert ends == [(False, False)] * (task.horizon - 1) + [(False, True)]
    with pytest.raises(SimulatorError, match="reset"):
        env.step(still)
    env.reset()
    assert not env.step(still)[3]


def test_a_horizon_beyond_the_simulators_own():
    env = build_env("safety_gymnasium", get_task("PointCircle1").env_id, 600)
    env.reset(seed=0)
    assert [env.step(STILL)[3] for _ in range(600)].index(True) == 599


def test_a_fall_terminates():
    env = make_env("HopperVelocity")
    env.reset(seed=0)
    ends = []
    while not any(ends):
        ends = list(env.step(np.ones(3))[2:4])
    assert ends == [True, False]
    with pytest.raises(SimulatorError, match="reset"):
        env.step(np.ones(3))


@pytest.mark.parametrize("robot", SPEED_LIMITS)
def test_cost_is_one_above_the_speed_limit(robot: str):
    env, costs = make_env(f"{robot}Velocity"), []
    still = np.zeros(env.action_space.shape)
    for pace in (0.5, 0.9, 1.1, 1.5):
        env.reset(seed=0)
        env._simulator.data.qvel[0] = pace * SPEED_LIMITS[robot]
        info = env.step(still)[4]
        speed = np.hypot(info["x_velocity"], info["y_velocity"]) if robot == "Ant" else info["x_velocity"]
        assert info["cost"] == (speed > SPEED_LIMITS[robot])
        costs.append(info["cost"])
    assert costs == sorted(costs)
    assert set(costs) == {0, 1}


@pytest.mark.parametrize(
    ("name", "x", "y", "cost"),
    [
        ("CarCircle1", 1.0, 0.0, 0),
        ("CarCircle1", 1.2, 0.0, 1),
        ("CarCircle1", -1.2, 0.0, 1),
        ("CarCircle1", 0.0, 1.2, 0),
        ("CarCircle2", 0.0, 1.0, 0),
        ("CarCircle2", 0.0, 1.2, 1),
    ],
)
def test_cost_is_one_beyond_the_walls(name: str, x: float, y: float, cost: float):
    env = make_env(name)
    env.reset(seed=0)
    put_car(env, x, y)
    assert env.step(STILL)[4]["cost"] == cost


@pytest.mark.parametrize(("name", "radius"), [("CarGoal1", 0.2), ("CarPush1", 0.3)])
def test_cost_is_one_in_a_hazard(name: str, radius: float):
    env = make_env(name)
    for share, cost in ((0.9, 1), (1.1, 0)):
        env.reset(seed=1)
        x, y = place_of(env, "hazard0")
        put_car(env, x + share * radius, y)
        info = env.step(STILL)[4]
        assert info["cost"] == info["cost_hazards"] == cost


def test_cost_is_one_at_a_wrong_button():
    env = make_env("CarButton1")
    env.reset(seed=0)
    wanted = env._simulator.task.buttons.goal_button
    put_car(env, *place_of(env, f"button{(wanted + 1) % 4}"))
    info = env.step(STILL)[4]
    assert info["cost"] == info["cost_buttons"] == 1
    env.reset(seed=0)
    put_car(env, *place_of(env, f"button{wanted}"))
    _, reward, terminated, _, info = env.step(STILL)
    assert (info["goal_met"], info["cost"], terminated) == (True, 0, False)
    assert reward > 1


def test_a_reached_goal_moves_on():
    env = make_env("CarGoal1")
    env.reset(seed=0)
    goal = place_of(env, "goal")
    put_car(env, *goal)
    _, reward, terminated, truncated, info = env.step(STILL)
    assert (info["goal_met"], terminated, truncated) == (True, False, False)
    assert reward > 1
    assert np.hypot(*(place_of(env, "goal") - goal)) > 0.3


def test_actions_of_any_width_are_clipped():
    env, seen = make_env("HalfCheetahVelocity"), []
    for action in (np.ones(6), np.ones(6, np.float32), np.full(6, 5.0), np.full(6, 2, np.float16)):
        env.reset(seed=0)
        seen.append(env.step(action)[1])
    assert len(set(seen)) == 1


@pytest.mark.parametrize("action", [[np.nan, 0.0], [np.inf, 0.0], [0.0, 0.0, 0.0]])
@pytest.mark.parametrize("name", ["PointGoal1", "SwimmerVelocity"])
def test_impossible_actions_are_named(name: str, action: list[float]):
    env = make_env(name)
    env.reset(seed=0)
    with pytest.raises(SimulatorError, match="cannot execute the action"):
        env.step(np.array(action))


def test_numpys_global_generator_is_left_alone():
    np.random.seed(3)  # noqa: NPY002
    expected = np.random.random(5)  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    for name in ("PointGoal1", "SwimmerVelocity"):
        env = make_env(name)
        env.reset(seed=1)
        env.reset()
        env.step(STILL)
    assert np.array_equal(np.random.random(5), expected)  # noqa: NPY002


@pytest.mark.parametrize("name", ["PointGoal1", "SwimmerVelocity"])
def test_unseeded_resets_differ_and_follow_the_last_seed(name: str):
    env = make_env(name)

    def three(seed: int) -> list[bytes]:
        return [env.reset(seed=seed)[0].tobytes(), env.reset()[0].tobytes(), env.reset()[0].tobytes()]

    first = three(5)
    assert len(set(first)) == 3
    assert three(5) == first
    assert three(2**31 * 100_000) == three(2**31 * 100_000)  # as large as those of evaluations can become


@pytest.mark.usefixtures("can_draw")
@pytest.mark.parametrize("name", ["CarGoal1", "AntVelocity"])
def test_drawing_leaves_the_trajectory_alone(name: str):
    actions = random_actions(np.random.default_rng(0), name, 60)
    env, drawn = make_env(name), make_env(name, render=True)
    render = drawn.render
    drawn.reset(seed=3)
    render()
    step = drawn.step
    drawn.step = lambda action: (step(action), render())[0]
    assert trajectory(drawn, 7, actions) == trajectory(env, 7, actions)


@pytest.mark.usefixtures("can_draw")
def test_pictures_show_hazards_goal_and_walls():
    for name, colours in {"PointGoal1": ("blue", "green"), "PointCircle2": ("yellow", "green")}.items():
        env = make_env(name, render=True)
        env.reset(seed=0)
        picture = env.render()
        assert picture.shape == (360, 480, 3)
        assert picture.dtype == np.uint8
        assert picture.std() > 20
        red, green, blue = np.moveaxis(picture.astype(int), 2, 0)
        shares = {
            "blue": (blue > red + 60) & (blue > green + 60),
            "green": (green > red + 20) & (green > blue + 20),
            "yellow": (red > blue + 90) & (green > blue + 90),
        }
        for colour in colours:
            assert shares[colour].mean() > 0.005, (name, colour)


@pytest.mark.usefixtures("can_draw")
def test_pictures_tell_what_is_too_fast():
    env, other = make_env("HalfCheetahVelocity", render=True), make_env("PointGoal1", render=True)
    env.reset(seed=0)
    other.reset(seed=0)
    scene = other.render()
    shares = []
    for speed in (0.0, 6.0):
        env._simulator.data.qvel[0] = speed
        env.step(np.zeros(6))
        picture = env.render().astype(int)
        assert picture.std() > 20
        shares.append([(picture[..., c] > picture[..., 1 - c] + 80).mean() for c in (0, 1)])
        assert np.array_equal(other.render(), scene)  # two may draw in turn
    (red_slow, green_slow), (red_fast, green_fast) = shares
    assert green_slow > green_fast
    assert red_fast > red_slow


@pytest.mark.usefixtures("can_draw")
def test_a_process_with_pictures_ends_quietly():
    code = (
        "from safetrax.envs import make_env\n"
        "env = make_env('HopperVelocity', render=True)\nenv.reset(seed=0)\nprint(env.render().shape)"
    )
    done = run_python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "(360, 480, 3)\n", "")


def test_render_must_be_asked_for():
    with pytest.raises(SimulatorError, match="render=True"):
        make_env("SwimmerVelocity").render()


def test_without_opengl_the_packages_are_named():
    code = (
        "from safetrax.envs import make_env\nmake_env('HopperVelocity').reset(seed=0)\n"
        "try: make_env('HopperVelocity', render=True)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    answer = run_python(code, MUJOCO_GL="glfw", DISPLAY=None, WAYLAND_DISPLAY=None).stdout.strip()
    assert answer.startswith("SimulatorError no picture can be drawn here")
    assert "libegl1" in answer
    assert "\n" not in answer


def test_the_module_imports_no_jax_and_no_other_simulator():
    code = (
        "import sys\nfrom safetrax.envs.suites import load_suite\nload_suite('safety_gymnasium')\n"
        "print([m for m in ('jax', 'pybullet', 'metadrive', 'panda3d', 'OpenGL') if m in sys.modules])"
    )
    done = run_python(code)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_unknown_environment():
    with pytest.raises(SimulatorError, match="PointGoal9"):
        build_env("safety_gymnasium", "OfflinePointGoal9Gymnasium-v0", 100)
